"""Models as graphs: modules of tensors only, without random numbers and Python objects, which other runtimes can run.

The inputs of every graph begin with tensors `(n, ...)` of its own. Then two inputs follow for each kind of condition: its raw
values `(n, ...)`, and whether they are given, bool `(n,)`. Where they are not, the kind's null replaces them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from ancestral.conditioning import (
    ClassCondition,
    Condition,
    Context,
    LayoutCondition,
    MapCondition,
    NumberCondition,
    SentenceCondition,
    TextCondition,
)
from ancestral.conditioning.images import ImageCondition
from ancestral.errors import AncestralError, UsageError
from ancestral.guidance import Clip, guided
from ancestral.models import GenerativeModel
from ancestral.models.denoising import DenoisingModel
from ancestral.models.distilled import DistilledModel
from ancestral.models.edits import SamplePath
from ancestral.models.latent import LatentModel
from ancestral.models.vae import VAE
from ancestral.noise import Noise, SampleNoise
from ancestral.schedules import Level, Levels, grid
from ancestral.solvers import State
from ancestral.solvers import solver as solver_of

N = 3  # samples with which graphs are traced; their number stays open
LONGEST = 50  # evaluations that are unrolled into one graph
Path = Callable[[Noise, Context, Context], Iterator[State]]


@dataclass(frozen=True)
class Sampler:
    """How a denoiser is sampled.

    Args:
        solver: the name of the solver.
        steps: the number of its steps.
        spacing: the rule of the noise levels, or their times.
        guidance: the scale of guidance for samples with conditions.
    """

    solver: str
    steps: int
    spacing: str | tuple[float, ...]
    guidance: float


@dataclass(frozen=True)
class Traceable:
    """A graph before it is written: the module, inputs with which it is traced, and their names."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    output: str = "x"


@dataclass(frozen=True)
class Plan:
    """All graphs of an export.

    Args:
        graphs: the graphs by name.
        draws: the random numbers of a sample, in the order of the draws: how, and of which shape.
        reference: the options with which the model itself draws the same samples.
        conditions: raw values of each kind for N samples, as examples.
        sampler: for the configuration; it has at least `nfe`, the evaluations of the network.
    """

    graphs: dict[str, Traceable]
    draws: list[tuple[str, tuple[int, ...]]]
    reference: dict[str, Any]
    conditions: dict[str, Tensor]
    sampler: dict[str, Any] = field(default_factory=dict)


class Graph(nn.Module):
    """The base of the graphs. It holds the encoders of the conditions."""

    def __init__(self, kinds: Sequence[Condition]):
        super().__init__()
        self.kinds = nn.ModuleList(kinds)

    def contexts(self, n: int, given: Sequence[Tensor]) -> tuple[Context, Context]:
        """Return the context of n samples and that without conditions, from the two inputs of each kind."""
        pairs = list(zip(self.kinds, given[::2], given[1::2], strict=True))
        drops = [~there for _, _, there in pairs], [torch.ones_like(there) for _, _, there in pairs]
        wanted, null = (
            Context.merge([kind(raw, n, drop) for (kind, raw, _), drop in zip(pairs, dropped, strict=True)]).float()
            for dropped in drops
        )
        return wanted, null


class SamplerGraph(Graph):
    """(random numbers, conditions) -> samples in the units of the data."""

    def __init__(self, model: GenerativeModel, path: Path, draws: int, kinds: Sequence[Condition]):
        super().__init__(kinds)
        self.model, self.path, self.draws = model, path, draws

    def forward(self, *inputs: Tensor) -> Tensor:
        draws, given = inputs[: self.draws], inputs[self.draws :]
        context, null = self.contexts(draws[0].shape[0], given)
        last = deque(self.path(Replayed(draws), context, null), maxlen=1).pop()
        x = self.model.to_data(last.x)
        for kind, raw, there in zip(self.kinds, given[::2], given[1::2], strict=True):
            kept = cast(Condition, kind).put_back(x, raw)
            x = x if kept is x else torch.where(there.view(-1, *[1] * (x.ndim - 1)), kept, x)
        return x


class DenoiserGraph(Graph):
    """(x_t `(n, *shape)`, alpha `(n,)`, sigma `(n,)`, conditions) -> E[x | x_t] in model units."""

    def __init__(self, denoiser: nn.Module, kinds: Sequence[Condition]):
        super().__init__(kinds)
        self.denoiser = denoiser

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, *given: Tensor) -> Tensor:
        context, _ = self.contexts(x_t.shape[0], given)
        level = Levels(alpha, alpha.double(), sigma.double())
        x: Tensor = self.denoiser(x_t, level, context).x
        return x


class DecoderGraph(nn.Module):
    """State of a sampling path at its end -> samples in the units of the data."""

    def __init__(self, model: GenerativeModel):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.to_data(z)


class Replayed:
    """Noise whose draws are given."""

    def __init__(self, draws: Sequence[Tensor]):
        self.n = draws[0].shape[0]
        self.left = list(draws)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self.left.pop(0)

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return self.left.pop(0)

    def stratified(self) -> Tensor:
        raise NotImplementedError("samples do not share a stream")


class Recorded(SampleNoise):
    """Noise that records its draws."""

    def __init__(self, seeds: Sequence[int]):
        super().__init__(seeds)
        self.drawn: list[tuple[str, tuple[int, ...], Tensor]] = []

    def normal(self, shape: Sequence[int]) -> Tensor:
        self.drawn.append(("normal", tuple(shape), super().normal(shape)))
        return self.drawn[-1][2]

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        self.drawn.append(("uniform", tuple(shape), super().uniform(shape)))
        return self.drawn[-1][2]


def plan(model: GenerativeModel, what: str, sampler: Sampler | None) -> Plan:
    """Plan the export of a model on the CPU in float32.

    Args:
        model: the model. It is not changed.
        what: "sampler" for one graph that draws samples, or "network" for the trained network.
        sampler: for a model that denoises.

    Raises:
        UsageError: if the model cannot be exported in this form.
    """
    model = deepcopy(model).eval().requires_grad_(False)
    if isinstance(model, LatentModel) and not model.known:
        raise AncestralError("only the autoencoder of this run is trained so far: continue it with `ancestral train`")
    inner = model.prior if isinstance(model, LatentModel) else model
    names = list(inner.conditioner.kinds)
    kinds = [cast(Condition, inner.conditioner.kinds[name]) for name in names]
    examples = {name: example(name, kind) for name, kind in zip(names, kinds, strict=True)}
    inner.conditioner.kinds = nn.ModuleDict(
        {f"{name}_": kind for name, kind in zip(names, kinds, strict=True)}
    )  # `class` is a word of Python
    given = tuple(t for raw in examples.values() for t in (raw, torch.ones(N, dtype=torch.bool)))
    given_names = tuple(part for name in names for part in (name, f"{name}_given"))
    path, reference, facts = _path(inner, sampler, what)
    noise = Recorded(range(N))
    context, null = Graph(kinds).eval().contexts(N, given)
    with torch.no_grad():
        last = deque(path(noise, context, null), maxlen=1).pop()
    facts["nfe"] = last.nfe
    draws = [(method, shape) for method, shape, _ in noise.drawn]
    values = tuple(value for _, _, value in noise.drawn)
    if what == "network" and isinstance(inner, DenoisingModel | DistilledModel):
        levels = torch.ones(N), torch.full((N,), 0.5)
        denoiser = Traceable(
            DenoiserGraph(inner.denoiser, kinds), (*values, *levels, *given), ("x_t", "alpha", "sigma", *given_names)
        )
        graphs = {"denoiser": denoiser}
        if isinstance(model, LatentModel):
            graphs["decoder"] = Traceable(DecoderGraph(model), (last.x,), ("z",))
        return Plan(graphs, draws, reference, examples, facts)
    if last.nfe > LONGEST:
        raise UsageError(
            f"this sampler has {last.nfe} evaluations of the network, and a graph holds at most {LONGEST}: ask for fewer "
            "`steps`, or export the network alone with `what=network`"
        )
    numbered = tuple("noise" if len(draws) == 1 else f"noise_{i}" for i in range(1, len(draws) + 1))
    module = SamplerGraph(model, path, len(draws), kinds)
    name = "sampler" if what == "sampler" else "generator" if inner.family == "gan" else "decoder"
    return Plan({name: Traceable(module, (*values, *given), (*numbered, *given_names))}, draws, reference, examples, facts)


def _path(model: GenerativeModel, sampler: Sampler | None, what: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return the path from noise to samples, the options with which the model takes it, and facts for the configuration."""
    if isinstance(model, DenoisingModel):
        assert sampler is not None
        levels = model.schedule.levels(grid(model.schedule, sampler.steps, sampler.spacing))
        limits = model.standardize.limits()
        reference = {"steps": len(levels) - 1, "solver": sampler.solver, "spacing": sampler.spacing}
        facts = {**reference, "guidance": sampler.guidance, **_facts(levels, limits)}
        return _denoising(model, sampler, levels), reference, facts
    if isinstance(model, DistilledModel):
        facts = {"steps": len(model.levels) - 1, "guidance": 1.0, **_facts(model.levels, None)}
        return lambda noise, context, null: model.sample_path(noise, context), {}, facts
    how = {"prior": "standard"} if what == "network" and isinstance(model, VAE) else {}
    return lambda noise, context, null: model.sample_path(noise, context, **how), how, {}


def _denoising(model: DenoisingModel, sampler: Sampler, levels: list[Level]) -> Path:
    """Return the path of a model that denoises, through these levels."""
    method, limits = solver_of(sampler.solver), model.standardize.limits()

    def path(noise: Noise, context: Context, null: Context) -> Iterator[State]:
        denoise = guided(model.denoiser, context, null, sampler.guidance)
        denoise = denoise if limits is None else Clip(denoise, *limits)
        return SamplePath(denoise, method, noise.normal(model.shape), levels).states(noise)

    return path


def _facts(levels: Sequence[Level], limits: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    clip = None if limits is None else [limit.flatten().tolist() for limit in limits]
    return {"levels": [[level.alpha, level.sigma] for level in levels], "clip": clip}


def example(name: str, kind: Condition) -> Tensor:
    """Return raw values of N samples for a kind of condition. Raises UsageError for a kind that cannot be exported."""
    if isinstance(kind, ClassCondition):
        return torch.arange(N) % len(kind.names)
    if isinstance(kind, NumberCondition):
        return kind.parse(kind.mean + kind.std * torch.linspace(-1, 1, N)[:, None], N)
    if isinstance(kind, ImageCondition):
        return kind.parse(torch.rand(N, *kind.shape, generator=torch.Generator().manual_seed(0)), N)
    if isinstance(kind, MapCondition):
        return kind.parse(torch.arange(kind.canvas[0] * kind.canvas[1]).view(*kind.canvas) % len(kind.names), N)
    if isinstance(kind, LayoutCondition):
        return kind.parse([], N)
    if isinstance(kind, TextCondition | SentenceCondition):
        return kind.read(texts_of(kind)).to(torch.long if isinstance(kind, TextCondition) else torch.float32)
    raise UsageError(f"the condition {name} of the class {type(kind).__name__} cannot be exported")


def texts_of(kind: TextCondition | SentenceCondition) -> list[str]:
    """Return N texts that a condition can read."""
    if isinstance(kind, SentenceCondition):
        return ["", "a", "the"]
    words = sorted(kind.vocabulary.words) if kind.vocabulary is not None else []
    return ["", *words[:: max(1, len(words) - 1)], "", ""][:N]


def described(examples: Mapping[str, Tensor], kinds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the description of the conditions' inputs for a runner."""
    found: dict[str, dict[str, Any]] = {}
    for name, raw in examples.items():
        dtype = str(raw.dtype).removeprefix("torch.")
        found[name] = {"kind": "values", "shape": list(raw.shape[1:]), "dtype": dtype}
        if isinstance(kinds[name], ClassCondition):
            found[name] |= {"kind": "class", "names": list(kinds[name].names)}
        elif isinstance(kinds[name], NumberCondition):
            found[name] |= {"names": list(kinds[name].names)}
    return found
