"""Claims of score matching, Langevin dynamics and their diffusions (Song & Ermon 2019, arXiv:1907.05600; Song et al. 2021,
arXiv:2011.13456).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.denoiser import Denoiser, column
from ancestral.families.base import Scaling
from ancestral.families.diffusion import Diffusion
from ancestral.families.score import Lambda, Matching, Score
from ancestral.gaussian import Gaussian
from ancestral.likelihood import ode_log_prob
from ancestral.nets import denoising_network
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.prediction import Prediction
from ancestral.schedules import VE, VP, Cosine, Level, Schedule, grid
from ancestral.solvers import EulerMaruyama, Langevin, RungeKutta4, Solver, Unadjusted
from ancestral.solvers.langevin import langevin_step
from ancestral.theory.claims import Sides, at_most, claim, draws, equal, mean, seeded, variance
from ancestral.theory.diffusion import MIXTURE, Exact, M, S, X, distribution, random_network

N = 100_000
LEVEL = Level(0.5, 0.6, 0.8)
WEIGHT = 0.8  # of the mode on the right
MODES = MixtureOracle(torch.tensor([1 - WEIGHT, WEIGHT]), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor([0.02, 0.02]))
_TURN = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
THREE = MixtureOracle(torch.ones(3), math.sqrt(2) * torch.stack([_TURN.cos(), _TURN.sin()], 1), torch.full((3,), 0.01))
CLEAN, NOISY = 0.07, 3.0  # noise levels: less than a mode is wide, and more than all the data are
STEPS = 500  # of training


def family(
    network: nn.Module, schedule: Schedule, d: int = 2, matching: Matching = "denoising", weight: Lambda = "sigma2"
) -> Score:
    scaling = Scaling((d,), (0.0,) * d, (1.0,) * d, None)
    return Score((d,), scaling, Conditioner({}), Denoiser(network, "score"), schedule, matching, weight)


@claim("Vincent 2011, eq. 11; Song et al. 2021, appendix B", (Prediction.of, MixtureOracle.score, MixtureOracle.__call__))
def noise() -> Iterator[Sides]:
    """The score is the noise, turned around: ∇ log q(x_t|x) = −ε/σ_t, and ∇ log p(x_t) = −E[ε|x_t]/σ_t

        log q(x_t|x) = −|x_t − α x|²/(2σ²) + c   ⇒   ∇ = −(x_t − α x)/σ² = −ε/σ
        ∇ log p(x_t) = ∫ ∇q(x_t|x) p(x) dx / p(x_t) = E[ −ε/σ | x_t ]

    The gradients on the left are autograd's; the last line is a sum over a grid of x.
    """
    x, eps = draws(64, 1).normal((1,)).double(), draws(64, 2).normal((1,)).double()
    x_t = (LEVEL.alpha * x + LEVEL.sigma * eps).requires_grad_()
    var = torch.full((1, 1), LEVEL.sigma**2, dtype=torch.float64)
    conditional = torch.autograd.grad(Gaussian(LEVEL.alpha * x, var).log_prob(x_t).sum(), x_t)[0]
    yield equal("∇ log q(x_t|x) = −ε/σ", conditional, -eps / LEVEL.sigma)
    yield equal("read off x", Prediction(x, x_t, LEVEL.alpha, LEVEL.sigma).score, conditional)
    marginal = torch.autograd.grad(MIXTURE.log_density(x_t, LEVEL).sum(), x_t)[0]
    yield equal("∇ log p(x_t) = −E[ε|x_t]/σ", marginal, MIXTURE(x_t, LEVEL).score)
    eps_hat = (x_t[:, 0] - LEVEL.alpha * (_posterior(x_t) @ X)) / LEVEL.sigma
    yield equal("E[ε|x_t] by quadrature", MIXTURE(x_t, LEVEL).eps, eps_hat, tolerance=1e-6)


def _posterior(x_t: Tensor) -> Tensor:
    """p(x | x_t) on the grid, `(n, grid)`, as weights that sum to one."""
    log_p = MIXTURE.log_density(X[:, None], Level(0.0, 1.0, 0.0))
    log_q = -((x_t - LEVEL.alpha * X) ** 2) / (2 * LEVEL.sigma**2)
    return (log_p + log_q).softmax(1)


@claim("Robbins 1956; Efron 2011, eq. 1.4", (MixtureOracle.__call__, Prediction.of))
def tweedie() -> Iterator[Sides]:
    """Tweedie's formula: the best guess of x is a step along the score

        E[x|x_t] = (x_t + σ_t² ∇ log p(x_t)) / α_t

    From x_t = α x + σ ε and E[ε|x_t] = −σ ∇ log p(x_t). So a denoiser is a score, and every diffusion model a score model. The
    left side is a sum over a grid of x.
    """
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    guess = _posterior(x_t) @ X[:, None]
    score = MIXTURE.score(x_t, LEVEL)
    yield equal("E[x|x_t]", guess, (x_t + LEVEL.sigma**2 * score) / LEVEL.alpha, tolerance=1e-6)
    yield equal("from score to x", Prediction.of("score", score, x_t, LEVEL.alpha, LEVEL.sigma).x, MIXTURE(x_t, LEVEL).x)
    at = torch.tensor([[0.5]], dtype=torch.float64)
    yield equal("w = (.3, .7), x_t = ½: score", MIXTURE.score(at, LEVEL), 0.5419159121)
    yield equal("w = (.3, .7), x_t = ½: E[x|x_t]", MIXTURE(at, LEVEL).x, 1.4113769729)


@claim("Vincent 2011, section 4.2; Hyvarinen 2005, theorem 1; Song et al. 2019, eq. 8", (Score.loss, Score.weights))
def matching() -> Iterator[Sides]:
    """Denoising score matching is explicit score matching plus a constant; so are exact and sliced

        E ½|s + ε/σ|²  =  E ½|s − ∇ log p(x_t)|² + C,       C = ½ E|ε/σ|² − ½ E|∇ log p(x_t)|²
        E [½|s|² + tr ∇s]  =  E ½|s − ∇ log p(x_t)|² − ½ E|∇ log p(x_t)|²

    Expand the squares. The cross terms agree, as E[−ε/σ|x_t] = ∇ log p(x_t), and, for the second, by parts:
    E[s · ∇ log p] = ∫ s · ∇p = −E[tr ∇s]. The explicit form is not to be had without p; here p is a mixture of Gaussians, s a
    network with random weights, and all three losses are the family's, on the same draws.
    """
    schedule, n = VP(), 100_000
    network = random_network(2)
    x = MODES.sample(draws(n, 3))
    forms: tuple[Matching, ...] = ("denoising", "exact", "sliced")
    for form in forms:
        model, again = family(network, schedule, matching=form), draws(n)
        with torch.no_grad():
            loss = model.loss(Batch(x), "model", draws(n))["total"].double()
            eps = again.normal((2,))
            level = schedule.at(schedule.noisy(again.stratified()))
            x_t = column(level.alpha, x) * x + column(level.sigma, x) * eps
            s, truth = model.denoiser(x_t, level).score.double(), MODES(x_t.double(), level).score
        explicit = 0.5 * (s - truth).square().sum(1)
        constant = -0.5 * truth.square().sum(1)
        if form == "denoising":
            constant = constant + 0.5 * (eps / level.sigma[:, None]).square().sum(1)
        weight = level.sigma**2
        left, right = mean(loss)[0], mean(weight * (explicit + constant))[0]
        _, error = mean(loss - weight * (explicit + constant))
        yield equal(f"{form} = explicit + C", left, right, error)


class Apart:
    """Noise whose normal and uniform numbers do not depend on which are asked for first."""

    def __init__(self, n: int):
        self.n, self.normals, self.uniforms = n, draws(n, 1), draws(n, 2)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self.normals.normal(shape)

    def stratified(self) -> Tensor:
        return self.uniforms.stratified()


@claim("Song et al. 2021, section 3.3; Song et al. 2021 (arXiv:2101.09258), theorem 1", (Score.loss, Diffusion.loss))
def is_diffusion() -> Iterator[Sides]:
    """A score model is a diffusion model: the same losses in other words

        σ² ½|s + ε/σ|²  =  ½ |ε − ε̂|²,                         ε̂ = −σ s
        g² ½|s + ε/σ|²  =  −½ dSNR/dt |x − x̂|²,                 x̂ = (x_t + σ² s)/α

    Weighed by σ² denoising score matching is half of L_simple; weighed by g² it is the consistency term of the ELBO, so that
    maximum likelihood and score matching are one. As −dSNR/dt = g² SNR/σ² and |s + ε/σ|² = SNR |x − x̂|²/σ².
    """
    network, x = random_network(2), draws(256, 1).normal((2,))
    weights: tuple[tuple[Lambda, str, float], ...] = (("sigma2", "simple", 0.5), ("likelihood", "vlb", 1.0))
    for ours, theirs, factor in weights:
        score = family(network, VP(), weight=ours)
        ddpm = Diffusion((2,), score.scaling, Conditioner({}), score.denoiser, VP(), theirs)  # type: ignore[arg-type]
        with torch.no_grad():
            a, b = (model.loss(Batch(x), "model", Apart(256))["total"] for model in (score, ddpm))  # type: ignore[arg-type]
        yield equal(f"weights {ours} and {theirs}", a, factor * b, tolerance=1e-4)


@claim("Song & Ermon 2019, eq. 4; Roberts & Tweedie 1996, section 1.4", (langevin_step,))
def langevin() -> Iterator[Sides]:
    """Langevin dynamics reaches the density, with a known bias

        x ← x + η ∇ log p(x) + √(2η) z          N(m, s²):   v ← (1 − η/s²)² v + 2η   →   s² / (1 − η/(2s²))

    Solve v = (1 − η/s²)² v + 2η. The bias is O(η): for η → 0 what remains is p, the stationary density of
    dx = ∇ log p dt + √2 dw. On a mixture, whose modes a chain can pass between here, small steps reach p itself.
    """
    u = 0.3
    oracle, s2 = GaussianOracle(M, S), S * S + u * u
    for share in (1.0, 0.4, 0.1):
        eta, x, again = share * s2, draws(N, 1).normal((1,)).double(), draws(N)
        for _ in range(int(6 / share)):
            x = langevin_step(oracle, x, Level(0.0, 1.0, u), eta, again)
        yield equal(f"mean, η = {share:g} s²", mean(x)[0], M, mean(x)[1], 0.01)
        yield equal(f"variance, η = {share:g} s²", variance(x)[0], s2 / (1 - share / 2), variance(x)[1], 1e-3)
    level, x, again = Level(0.0, 1.0, 1.5), draws(20_000, 1).normal((1,)).double(), draws(20_000)
    for _ in range(300):
        x = langevin_step(MIXTURE, x, level, 0.1, again)
    points = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    share_below, error = mean((x < points).double())
    yield equal("distribution on a mixture", share_below, distribution(MIXTURE, points, level), error, 0.005)


@claim("Song & Ermon 2020 (arXiv:2006.09011), proposition 3", (Langevin.step, langevin_step))
def annealed_variance() -> Iterator[Sides]:
    """Annealed Langevin dynamics follows a recursion on Gaussian data

        v ← (1 − η_i/v_i)² v + 2η_i,      v_i = s² + u_i²,   η_i = e u_i²

    with so many steps at each level u_i. So it is known how far from s² it ends, and how many steps it needs.
    """
    e, repeats, levels = 0.3, 4, [Level(0.0, 1.0, u) for u in (4.0, 2.0, 1.0, 0.5, 0.25)]
    v, x = 16.0, 4 * draws(N, 1).normal((1,)).double()
    for state in Langevin(repeats, e)(GaussianOracle(0.0, S), x, levels, draws(N)):
        if state.done == 0:
            continue
        u = levels[state.done - 1].sigma
        for _ in range(repeats):
            v = (1 - e * u * u / (S * S + u * u)) ** 2 * v + 2 * e * u * u
        yield equal(f"variance after level {u:g}", variance(state.x)[0], v, variance(state.x)[1])


def trained(schedule: Schedule) -> Score:
    """A score network of three modes, after `STEPS` steps with the family's own loss."""
    model = family(seeded(lambda: denoising_network((2,), width=64, blocks=2)), schedule)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for i in range(STEPS):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - i / STEPS)
        optimizer.zero_grad()
        model.loss(Batch(THREE.sample(draws(256, 2 * i))), "model", draws(256, 2 * i + 1))["total"].mean().backward()
        optimizer.step()
    return model.requires_grad_(False)


def two_networks() -> tuple[Score, Score]:
    """One that saw hardly any noise, and one that saw all noise levels, trained alike."""
    return trained(VE(0.99 * CLEAN, CLEAN)), trained(VE(CLEAN, NOISY))


def angle(model: Score, u: float, x: Tensor) -> Tensor:
    """Between the network's score and the true one at noise level u, in degrees `(n,)`."""
    level = Level(0.0, 1.0, u)
    s, truth = model.score(x, level).double(), THREE.score(x.double(), level)
    return torch.rad2deg(torch.cosine_similarity(s, truth, dim=1).clamp(-1, 1).acos())


def around(n: int = 4000) -> tuple[Tensor, Tensor]:
    """Points `(n, 2)` of the square from -2 to 2, and their distances to the nearest mode."""
    x = 4 * draws(n, 9).uniform((2,)) - 2
    return x, torch.cdist(x, THREE.means.float()).min(1).values


@claim("Song & Ermon 2019, section 3.2.1 and figure 2", (Score.loss, Score.score, MixtureOracle.score))
def far_from_data() -> Iterator[Sides]:
    """Far from the data the score of clean data is not learned, that of noisy data is

        E_p |s − ∇ log p|²  weighs x by p(x):  where there are no data, nothing is learned

    Noise fills the plane: p * N(0, u²) has data where p has none. Two networks of one kind are trained alike, on three narrow
    modes on a circle: one at u = 0.07, one at all levels from there to 3. What is measured is the mean angle between a
    network's score and the true one of the same level: on the data, and over the square about them, at least four of a mode's
    deviations from any mode. A random direction has 90°; a network that happens to extrapolate well has less.
    """
    clean, noisy = two_networks()
    x, distance = around()
    far = x[distance > 0.4]
    near, near_error = mean(angle(clean, CLEAN, THREE.sample(draws(2000, 1))))
    wrong, wrong_error = mean(angle(clean, CLEAN, far))
    right, right_error = mean(angle(noisy, NOISY, far))
    yield at_most("u = 0.07 on the data: degrees, 6", near, 6.0, near_error)
    yield at_most("10, u = 0.07 far from them: degrees", 10.0, wrong, wrong_error)
    yield at_most("u = 3 far from them: degrees, 5", right, 5.0, right_error)


def plain_and_annealed(n: int) -> dict[str, Tensor]:
    """Samples `(n, 2)` by the family's own walk with the exact score: Langevin dynamics at one level, and annealed."""
    model = family(Exact(MODES, "score"), VE(0.05, 8.0))
    methods: dict[str, tuple[Solver, int]] = {"plain": (Unadjusted(0.1, 0.1), 500), "annealed": (Langevin(40, 0.1), 25)}
    found = {}
    for name, (method, steps) in methods.items():
        for state in model.walk(draws(n), Context(), steps=steps, solver=method, spacing="logsnr"):
            found[name] = state.x
    return found


@claim("Song & Ermon 2019, section 3.2.2 and algorithm 1", (Unadjusted.step, Langevin.step, Score.walk))
def mode_weights() -> Iterator[Sides]:
    """Annealed Langevin dynamics finds the right weights of modes, where plain Langevin does not

        p = π p₁ + (1 − π) p₂,  far apart:   ∇ log p = ∇ log p₁  where p₂ ≈ 0,   whatever π is

    The score of well separated modes does not know their weights, and a chain does not pass from one to the other in any
    reasonable time; it stays where it started. At high noise the modes are one, the weights are in the score, and cooling
    down keeps them. The right-hand mode has 0.8 of the data; the score is exact, so that nothing else is to blame.
    """
    found = plain_and_annealed(4000)
    share, error = mean((found["plain"].sum(1) > 0).double())
    yield at_most("0.2 and the error of plain Langevin", 0.2, (share - WEIGHT).abs(), error)
    share, error = mean((found["annealed"].sum(1) > 0).double())
    yield equal("share by annealed Langevin", share, WEIGHT, error, 0.02)


@claim("Song et al. 2021, eq. 6 and 13; appendix D.1", (EulerMaruyama.step, RungeKutta4.step))
def same_marginals() -> Iterator[Sides]:
    """The reverse SDE and the probability-flow ODE have the same marginals

        dx = [f x − g² ∇ log p_t] dt + g dw̄            dx = [f x − ½ g² ∇ log p_t] dt

    Both obey the same continuity equation, ∂p/∂t = −∇·[(f x − ½ g² ∇ log p) p]: the Laplacian of the noise, ½ g² Δp, is
    the divergence of ½ g² p ∇ log p. Distribution functions at three levels on the
    way, by 400 steps of each, against the exact ones.
    """
    n, schedule = 20_000, VP()
    levels = schedule.levels(grid(schedule, 400, "logsnr"))[:-1]
    methods: dict[str, Solver] = {"SDE": EulerMaruyama(), "ODE": RungeKutta4()}
    start = draws(n).normal((1,)).double()
    for name, method in methods.items():
        every = levels if name == "SDE" else [*levels[::10], levels[-1]]
        wanted = [min(every, key=lambda level: abs(level.u - u)) for u in (2.0, 0.5, 0.1)]
        for state in method(MIXTURE, start, every, draws(n, 1)):
            if state.t in wanted:
                means = state.t.alpha * MIXTURE.means[:, 0]
                points = torch.cat([means - 0.3, means, means + 0.3])
                share, error = mean((state.x < points).double())
                yield equal(f"{name}, σ/α = {state.t.u:.2g}", share, distribution(MIXTURE, points, state.t), error, 0.01)


@claim("Song et al. 2021, eq. 39; Chen et al. 2018 (arXiv:1806.07366), theorem 1", (ode_log_prob,))
def ode_likelihood() -> Iterator[Sides]:
    """The likelihood of the probability-flow ODE is exact

        log p(x₀) = log N(x₁; 0, I) + ∫₀¹ tr(∂v/∂x) dt

    the instantaneous change of variables. On a mixture it is the mixture's own density. On data N(m, s²) the flow is
    affine, and the volume term is D/2 log(v_T/v_0) with v = α² s² + σ².
    """
    least, x = 0.05, torch.linspace(-2, 2.5, 10, dtype=torch.float64)[:, None]
    level = Level(0.0, 1.0, least)
    bound = ode_log_prob(MIXTURE, Cosine(), x, steps=100, least=least)
    yield equal("log p on a mixture", bound.value, MIXTURE.log_density(x, level), tolerance=1e-4)
    y = draws(16).normal((3,)).double()
    oracle = GaussianOracle(M, torch.full((3,), S))
    bound = ode_log_prob(oracle, Cosine(), y, steps=100, least=least)
    yield equal("log p on a Gaussian", bound.value, oracle.log_density(y, level), tolerance=1e-5)
    yield equal("volume: D/2 log(v_T/v_0)", bound.terms["volume"], -1.5 * math.log(S * S + least**2), tolerance=1e-5)


@claim("Hutchinson 1989; Grathwohl et al. 2019 (arXiv:1810.01367), section 3.1", (ode_log_prob,))
def hutchinson() -> Iterator[Sides]:
    """Hutchinson's estimate of the trace, with random signs, has no variance on independent Gaussians

        E[eᵀ A e] = tr A,    Var[eᵀ A e] = 2 Σ_{i≠j} a_ij²   for signs e and symmetric A

    since e_i² = 1: only what is off the diagonal is drawn. The flow of Gaussian data of independent dimensions has a diagonal
    Jacobian, so one draw is exact; the flow of a mixture in the plane has not, and draws scatter about the trace.
    """
    y, oracle = draws(16).normal((3,)).double(), GaussianOracle(M, torch.tensor([0.3, 0.6, 1.2]))
    exact = ode_log_prob(oracle, Cosine(), y, divergence="exact", least=0.1).value
    bound = ode_log_prob(oracle, Cosine(), y, draws(16), divergence="hutchinson", draws=4, least=0.1)
    assert bound.std_err is not None
    yield equal("standard error of 4 draws, Gaussian", bound.std_err, 0.0)
    yield equal("log p by signs, Gaussian", bound.value, exact)
    x = MODES.sample(draws(200, 1)).double()
    exact = ode_log_prob(MODES, Cosine(), x, divergence="exact", least=0.3).value
    bound = ode_log_prob(MODES, Cosine(), x, draws(200), divergence="hutchinson", draws=2, least=0.3)
    assert bound.std_err is not None
    _, error = mean(bound.value - exact)
    yield at_most("1e-3 and the same, mixture in the plane", 1e-3, bound.std_err.mean(), tolerance=0.0)
    yield equal("log p by signs, mixture in the plane", mean(bound.value)[0], exact.mean(), error)
