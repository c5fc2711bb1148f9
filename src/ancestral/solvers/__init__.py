"""Solvers from x_T to x_0. The function `solver` makes them by their registered names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ancestral.builtin import Registered, built_in
from ancestral.registry import lookup
from ancestral.solvers.ancestral import Ancestral
from ancestral.solvers.base import Denoise, Solver, State, move
from ancestral.solvers.dpm import DPMpp, UniPC
from ancestral.solvers.flow import ProbabilityFlow
from ancestral.solvers.jump import FewStep, FlowMap, Jump
from ancestral.solvers.langevin import Langevin, PredictorCorrector, UnadjustedLangevin
from ancestral.solvers.ode import DormandPrince, Euler, Heun, RungeKutta4
from ancestral.solvers.sde import EulerMaruyama, StochasticHeun

built_in("solver", "ddpm")(partial(Ancestral, eta=1))
built_in("solver", "ddim")(partial(Ancestral, eta=0))
built_in("solver", "dpmpp")(partial(DPMpp, order=2))
built_in("solver", "dpmpp-1")(partial(DPMpp, order=1))
built_in("solver", "dpmpp-3")(partial(DPMpp, order=3))
built_in("solver", "dpmpp-sde")(partial(DPMpp, order=2, sde=True))
built_in("solver", "unipc")(partial(UniPC, order=2))
built_in("solver", "unipc-3")(partial(UniPC, order=3))
built_in("solver", "langevin-v1")(partial(Langevin, repeats=100, step_size=0.1))

SOLVERS: Mapping[str, Callable[[], Solver]] = Registered("solver")


def solver(name: str | Solver) -> Solver:
    """Return the solver of that name, or the solver itself. Raises UsageError for an unknown name."""
    if isinstance(name, Solver):
        return name
    found: Solver = lookup("solver", name)()
    return found


__all__ = [
    "SOLVERS",
    "Ancestral",
    "DPMpp",
    "Denoise",
    "DormandPrince",
    "Euler",
    "EulerMaruyama",
    "FewStep",
    "FlowMap",
    "Heun",
    "Jump",
    "Langevin",
    "PredictorCorrector",
    "ProbabilityFlow",
    "RungeKutta4",
    "Solver",
    "State",
    "StochasticHeun",
    "UnadjustedLangevin",
    "UniPC",
    "move",
    "solver",
]
