"""Claims of the theory, and the rule by which they hold.

A claim is a generator. It computes both sides of its equation with the library's own functions and yields them as `Sides`. It
yields clouds of points as `Clouds` if a picture of them is useful. Its docstring is its derivation: a title, then paragraphs in
which indented lines are equations. All claims have the same rule:

    left = right   holds if   |left - right| <= K std_err + tolerance max(1, |right|)
    left <= right  holds if    left - right  <= K std_err + tolerance max(1, |right|)

at each of its points, and a claim holds if each of its sides holds. Without a point or a side nothing holds.
std_err is the error of random draws, which have fixed seeds. tolerance is the error of everything else: rounding, and the steps
of quadratures, solvers and differences. A random number exceeds K = 4 standard errors once in 16,000 times.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.noise import StreamNoise
from ancestral.suggest import unknown

K = 4.0
ROUNDING = 1e-9  # tolerance of float64 arithmetic; that of float32 is `SINGLE`
SINGLE = 2e-6
HEADER = ("claim", "left side", "", "right side", "difference", "±", "verdict")  # of a table of sides
Relation = Literal["=", "≤"]
Number = Tensor | float | int
M = TypeVar("M")


@dataclass(frozen=True)
class Along:
    """The argument of both sides, if they are functions. Sides with equal axes are drawn into one picture.

    Args:
        axis: the label of the horizontal axis.
        at: the points on this axis, `(k,)`.
        of: the quantity, which is the label of the vertical axis.
        log: the logarithmic axes.
    """

    axis: str
    at: Tensor
    of: str
    log: Literal["", "x", "y", "xy"] = ""

    def panel(self) -> tuple[str, str, str]:
        return self.axis, self.of, self.log


@dataclass(frozen=True)
class Sides:
    """Both sides of one equation or inequality at one or many points, float64 `(k,)` each.

    Args:
        what: a description of the comparison.
        left: the left side.
        relation: "=" or "≤".
        right: the right side.
        std_err: the standard error of random draws.
        tolerance: the error of everything else.
        along: the argument of both sides, if they are functions.
    """

    what: str
    left: Tensor
    relation: Relation
    right: Tensor
    std_err: Tensor
    tolerance: float
    along: Along | None = None

    @property
    def difference(self) -> Tensor:
        return self.left - self.right

    @property
    def allowed(self) -> Tensor:
        return K * self.std_err + self.tolerance * self.right.abs().clamp(min=1.0)

    @property
    def worst(self) -> int:
        """The index of the point that exceeds the allowed difference most. A value that is not a number is the worst."""
        excess = self.difference.abs() if self.relation == "=" else self.difference
        return int((excess - self.allowed).nan_to_num(nan=torch.inf).argmax())

    @property
    def holds(self) -> bool:
        excess = self.difference.abs() if self.relation == "=" else self.difference
        return len(excess) > 0 and bool((excess <= self.allowed).all())

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a printed table under `HEADER`. If there are many points, it shows the worst."""
        i = self.worst
        what = f"{self.along.of}: {self.what}" if self.along else self.what
        if len(self.left) > 1:
            what += f"; worst of {len(self.left)}"
        if self.along:
            what += f", at {self.along.axis.partition(',')[0]} = {self.along.at[i].item():.3g}"
        return (
            what,
            _number(self.left[i].item()),
            self.relation,
            _number(self.right[i].item()),
            f"{self.difference[i].item():.1e}" if self.difference[i] else "0",
            f"{self.std_err[i].item():.1e}" if self.std_err[i] else "",
            "holds" if self.holds else "FAILS",
        )


def _number(value: float) -> str:
    """Write a number with six significant figures, or as a whole number if it is a large count."""
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1000 else f"{value:.6g}"


@dataclass(frozen=True)
class Clouds:
    """Sets of points in the plane `(n, 2)` by name, e.g. samples and real data. They are drawn and have no verdict."""

    what: str
    points: Mapping[str, Tensor]


Made = Sides | Clouds


def equal(
    what: str, left: Number, right: Number, std_err: Number = 0.0, tolerance: float = ROUNDING, along: Along | None = None
) -> Sides:
    return _sides(what, left, "=", right, std_err, tolerance, along)


def at_most(
    what: str, left: Number, right: Number, std_err: Number = 0.0, tolerance: float = ROUNDING, along: Along | None = None
) -> Sides:
    return _sides(what, left, "≤", right, std_err, tolerance, along)


def _sides(
    what: str,
    left: Number,
    relation: Relation,
    right: Number,
    std_err: Number,
    tolerance: float,
    along: Along | None,
) -> Sides:
    values = (torch.as_tensor(v, dtype=torch.float64).detach().reshape(-1) for v in (left, right, std_err))
    l, r, e = torch.broadcast_tensors(*values)
    if along is not None:
        l, r, e, _ = torch.broadcast_tensors(l, r, e, along.at)
    return Sides(what, l, relation, r, e, tolerance, along)


def table(rows: Iterable[Iterable[Number]]) -> Iterator[Tensor]:
    """Yield the columns `(k,)` of a table of numbers, float64."""
    for column in zip(*rows, strict=True):
        yield torch.stack([torch.as_tensor(v, dtype=torch.float64).detach().squeeze() for v in column])


def mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of n independent values `(n, *)` and its standard error."""
    values = values.detach().double()
    return values.mean(0), values.std(0) / len(values) ** 0.5


def variance(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance of n independent values `(n, *)` and its standard error."""
    values = values.detach().double()
    return mean((values - values.mean(0)).square() * (len(values) / (len(values) - 1)))


def draws(n: int, step: int = 0) -> StreamNoise:
    """Return the noise of a claim, the same on every run. step: a number that distinguishes several noises of a claim."""
    return StreamNoise(n, 8, step)


def seeded(make: Callable[[], M]) -> M:
    """Make a network with random weights, the same on every run."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(8)
        return make()


@dataclass(frozen=True)
class Claim:
    """A claim of the theory.

    Args:
        name: the name of the family, a dot, and the name of the claim.
        source: the paper and its equation.
        by: the functions of the library that compute it.
        compute: the generator of its sides. Its docstring is the title and the derivation.
    """

    name: str
    source: str
    by: tuple[Callable[..., Any], ...]
    compute: Callable[[], Iterator[Made]]

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    @property
    def text(self) -> str:
        return inspect.getdoc(self.compute) or ""

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def derivation(self) -> str:
        return self.text.partition("\n")[2].strip("\n")

    @property
    def lines(self) -> list[str]:
        """The functions that compute it, as "module.name, line n"."""
        return [f"{f.__module__}.{f.__qualname__}, line {inspect.getsourcelines(f)[1]}" for f in self.by]

    def verify(self) -> Verdict:
        begun = time.perf_counter()
        made = tuple(self.compute())
        sides = tuple(m for m in made if isinstance(m, Sides))
        return Verdict(self, sides, tuple(m for m in made if isinstance(m, Clouds)), time.perf_counter() - begun)


@dataclass(frozen=True)
class Verdict:
    """The result of a claim, and the seconds that it took."""

    claim: Claim
    sides: tuple[Sides, ...]
    clouds: tuple[Clouds, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        return bool(self.sides) and all(side.holds for side in self.sides)


CLAIMS: dict[str, Claim] = {}


def claim(
    source: str, by: Sequence[Callable[..., Any]]
) -> Callable[[Callable[[], Iterator[Made]]], Callable[[], Iterator[Made]]]:
    """Register a function `some_claim` of the package `family` as the claim `family.some-claim`."""

    def register(compute: Callable[[], Iterator[Made]]) -> Callable[[], Iterator[Made]]:
        family = compute.__module__.split(".")[-2]
        name = f"{family}.{compute.__name__.replace('_', '-')}"
        CLAIMS[name] = Claim(name, source, tuple(by), compute)
        return compute

    return register


def select(names: Iterable[str]) -> list[Claim]:
    """Return the claims whose names begin with one of `names`, in the order of the theory; all claims if it is empty.

    Raises:
        UsageError: if no claim begins with a name.
    """
    names = list(names)
    families = list(dict.fromkeys(c.family for c in CLAIMS.values()))
    for name in names:
        if not any(known.startswith(name) for known in CLAIMS):
            family = name.partition(".")[0]
            known = [c for c in CLAIMS if family in families and c.startswith(f"{family}.")]
            raise UsageError(unknown("claim", name, known or [*families, *CLAIMS]))
    return [c for name, c in CLAIMS.items() if not names or any(name.startswith(begin) for begin in names)]
