"""Solvers from x_T to x_0, and their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from ancestral.errors import UsageError
from ancestral.solvers.ancestral import Ancestral
from ancestral.solvers.base import Denoise, Solver, State, move
from ancestral.solvers.dpm import DPMpp, UniPC
from ancestral.solvers.flow import ProbabilityFlow
from ancestral.solvers.jump import FewStep, Jump
from ancestral.solvers.langevin import Langevin, PredictorCorrector, UnadjustedLangevin
from ancestral.solvers.ode import DormandPrince, Euler, Heun, RungeKutta4
from ancestral.solvers.sde import EulerMaruyama, StochasticHeun
from ancestral.suggest import unknown

SOLVERS: dict[str, Callable[[], Solver]] = {
    "ddpm": lambda: Ancestral(eta=1),
    "ddim": lambda: Ancestral(eta=0),
    "euler": Euler,
    "heun": Heun,
    "dpmpp": lambda: DPMpp(order=2),
    "dpmpp-1": lambda: DPMpp(order=1),
    "dpmpp-3": lambda: DPMpp(order=3),
    "dpmpp-sde": lambda: DPMpp(order=2, sde=True),
    "unipc": lambda: UniPC(order=2),
    "unipc-3": lambda: UniPC(order=3),
    "rk4": RungeKutta4,
    "adaptive": DormandPrince,
    "langevin": Langevin,
    "langevin-v1": lambda: Langevin(repeats=100, step_size=0.1),
    "langevin-one": UnadjustedLangevin,
    "pc": PredictorCorrector,
    "euler-maruyama": EulerMaruyama,
    "churn": StochasticHeun,
}


def solver(name: str | Solver) -> Solver:
    """The solver of that name, or the solver itself. Raises UsageError for an unknown name."""
    if isinstance(name, Solver):
        return name
    if name not in SOLVERS:
        raise UsageError(unknown("solver", name, SOLVERS))
    return SOLVERS[name]()


__all__ = [
    "SOLVERS",
    "Ancestral",
    "DPMpp",
    "Denoise",
    "DormandPrince",
    "Euler",
    "EulerMaruyama",
    "FewStep",
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
