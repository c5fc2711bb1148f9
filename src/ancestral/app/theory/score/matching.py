"""Claims about learning of scores, and about regions in which they are not learned."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import Along, Sides, at_most, claim, draws, equal, mean, table
from ancestral.app.theory.known import random_network
from ancestral.app.theory.score.models import CLEAN, MODES, NOISY, THREE, angle, around, family, two_networks
from ancestral.batch import Batch
from ancestral.denoiser import column
from ancestral.models.score import Matching, ScoreModel
from ancestral.oracles import MixtureOracle
from ancestral.schedules import VP


@claim(
    "Vincent 2011, section 4.2; Hyvarinen 2005, theorem 1; Song et al. 2019 (arXiv:1905.07088), section 3",
    (ScoreModel.losses, ScoreModel.weights),
)
def matching() -> Iterator[Sides]:
    """Denoising, exact and sliced score matching are explicit score matching plus a constant

        E ½|s + ε/σ|²  =  E ½|s − ∇ log p(x_t)|² + C,       C = ½ E|ε/σ|² − ½ E|∇ log p(x_t)|²
        E [½|s|² + tr ∇s]  =  E ½|s − ∇ log p(x_t)|² − ½ E|∇ log p(x_t)|²

    Expand the squares. The cross terms agree because E[−ε/σ|x_t] = ∇ log p(x_t), and for the second line by parts:
    E[s · ∇ log p] = ∫ s · ∇p = −E[tr ∇s]. The explicit form needs p. Here p is a mixture of Gaussians, s is a network with
    random weights, and all three losses are those of the family, on the same draws.
    """
    schedule, n = VP(), 100_000
    network = random_network(2)
    x = MODES.sample(draws(n, 3))
    forms: tuple[Matching, ...] = ("denoising", "exact", "sliced")
    for form in forms:
        model, again = family(network, schedule, matching=form), draws(n)
        with torch.no_grad():
            loss = model.losses(Batch(x), "model", draws(n))["total"].double()
            eps = again.normal((2,))
            level = schedule.at(schedule.noisy(again.stratified()))
            x_t = column(level.alpha, x) * x + column(level.sigma, x) * eps
            s, truth = model.denoiser(x_t, level).score.double(), MODES(x_t.double(), level).score
        explicit = 0.5 * (s - truth).square().sum(1)
        constant = -0.5 * truth.square().sum(1)
        if form == "denoising":
            constant = constant + 0.5 * (eps / level.sigma[:, None]).square().sum(1)
        weight = level.sigma**2
        whole = weight * (explicit + constant)
        left, right, error = mean(loss)[0], mean(whole)[0], mean(loss - whole)[1]
        yield equal(f"{form} = explicit + C", left, right, error)
        bins, rows = (level.t * 12).long().clamp(max=11), []
        for i in range(12):
            here = bins == i
            rows.append((level.t[here].mean(), mean(loss[here])[0], mean(whole[here])[0], mean((loss - whole)[here])[1]))
        at, left, right, error = table(rows)
        yield equal("explicit + C", left, right, error, along=Along("t", at, f"{form} score matching, σ² × loss"))


@claim("Song & Ermon 2019, section 3.2.1 and figure 2", (ScoreModel.losses, ScoreModel.score, MixtureOracle.score))
def far_from_data() -> Iterator[Sides]:
    """The score of clean data is not learned far from the data, and the score of noisy data is

        E_p |s − ∇ log p|²  weights x by p(x):  nothing is learned in regions without data

    Noise fills the plane: p * N(0, u²) has data in regions in which p has none. Two equal networks are trained in the same way
    on three narrow modes on a circle: one at u = 0.07, one at all levels from 0.07 to 3. The claim measures the mean angle
    between a network's score and the true score of the same level: on the data, and in the square around them at a distance of
    at least four deviations from any mode. A random direction has 90°, and a network that extrapolates well has less.
    """
    clean, noisy = two_networks()
    x, distance = around()
    far = x[distance > 0.4]
    edges, rows = torch.linspace(0.4, 1.6, 9), []
    for low, high in itertools.pairwise(edges.tolist()):
        here = x[(distance > low) & (distance <= high)]
        (a, a_error), (b, b_error) = mean(angle(noisy, NOISY, here)), mean(angle(clean, CLEAN, here))
        rows.append((a, b, (a_error**2 + b_error**2).sqrt()))
    left, right, error = table(rows)
    along = Along("distance from the nearest mode", (edges[1:] + edges[:-1]).double() / 2, "angle to the true score, degrees")
    yield at_most("trained only at u = 0.07; dots: at u = 3", left, right, error, along=along)
    near, near_error = mean(angle(clean, CLEAN, THREE.sample(draws(2000, 1))))
    wrong, wrong_error = mean(angle(clean, CLEAN, far))
    right, right_error = mean(angle(noisy, NOISY, far))
    yield at_most("u = 0.07 on the data: degrees, 6", near, 6.0, near_error)
    yield at_most("10, u = 0.07 far from them: degrees", 10.0, wrong, wrong_error)
    yield at_most("u = 3 far from them: degrees, 5", right, 5.0, right_error)
