"""The VAE family against closed forms: probabilistic PCA, collapse, beta, bounds; its posteriors, priors and codes."""

import math

import pytest
import torch
from torch import distributions as td
from torch import nn

from ancestral.batch import Batch, Part
from ancestral.conditioning import Context, ContextShape
from ancestral.distributions import BernoulliLikelihood, GaussianLikelihood
from ancestral.errors import UsageError
from ancestral.gaussian import Gaussian, slerp
from ancestral.models import HasBound, HasDiagnosis, HasLatent, HasPostFit, HasPrior
from ancestral.models.aggregate_prior import Mixture
from ancestral.models.codec import Amortised, Diagonal, Flow, Full, log_standard
from ancestral.models.health.vae import information
from ancestral.models.hierarchical import Hierarchical
from ancestral.models.quantised import Quantised
from ancestral.models.vae import VAE
from ancestral.networks.autoencoder import ConvDecoder, ConvEncoder, Plan
from ancestral.noise import SampleNoise, StreamNoise

LAM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25])
D = len(LAM)


class LinearEncoder(nn.Module):
    """mean = V x + b, log-variance a parameter: the form of the exact posterior of a linear decoder."""

    def __init__(self, latent):
        super().__init__()
        self.mean = nn.Linear(D, latent)
        self.log_var = nn.Parameter(torch.zeros(latent))

    def forward(self, y, context):
        return torch.cat([self.mean(y), self.log_var.expand(len(y), -1)], 1)


class LinearDecoder(nn.Linear):
    def forward(self, z, context):
        return super().forward(z)


class Points:
    """Noise whose normal draws are the 2d sigma points: exact for every quadratic, so the ELBO of a linear VAE has no noise."""

    def __init__(self, n, latent):
        self.n = n
        self.points = math.sqrt(latent) * torch.cat([torch.eye(latent), -torch.eye(latent)])

    def normal(self, shape):
        return self.points.repeat(self.n // len(self.points), 1)


def data(latent):
    """Sigma points of N(0, diag(lam)), each for all sigma points of z."""
    x = math.sqrt(D) * torch.cat([torch.diag(LAM.sqrt()), -torch.diag(LAM.sqrt())])
    return x.repeat_interleave(2 * latent, 0)


def linear(latent, variance="learned", value=1.0, **options):
    head = GaussianLikelihood(torch.zeros(D), torch.ones(D), variance, value)
    coder = Amortised(LinearEncoder(latent), Diagonal(latent), LinearDecoder(latent, D))
    return VAE(coder, shape=(D,), likelihood=head, **options)


def trained(model):
    """Train a model to the optimum of its loss. Return the terms of the loss there, as means over the data."""
    latent = model.coder.latent
    x = data(latent)
    noise = Points(len(x), latent)
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1, max_iter=600, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = model.losses(Batch(x), "model", noise)["total"].mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    terms = {name: v.detach().mean().item() for name, v in model.losses(Batch(x), "model", noise).items()}
    code, h = model.coder(model.coder.features(x, Context()), Context(), noise)
    return terms, code.kl.mean(0).detach().sort(descending=True).values, (h - x).square().mean().item()


@pytest.mark.parametrize("variance", ["learned", "optimal"])
def test_a_linear_vae_is_probabilistic_pca(variance):
    """F1: its best ELBO is the maximal log-likelihood; F4: its variance is then the mean squared error per dimension."""
    model = linear(2, variance)
    terms, _, error = trained(model)
    s2 = LAM[2:].mean().item()
    exact = -0.5 * (D * math.log(2 * math.pi) + LAM[:2].log().sum().item() + 3 * math.log(s2) + D)
    assert exact == pytest.approx(-7.325919, abs=1e-6)
    assert -terms["total"] == pytest.approx(exact, abs=1e-4)
    assert terms["total"] == pytest.approx(terms["reconstruction"] + terms["kl"], abs=1e-6)
    assert error == pytest.approx(s2, abs=1e-3)
    if variance == "learned":
        assert model.likelihood.log_value.exp().item() == pytest.approx(error, abs=1e-3)


@pytest.mark.parametrize(("s2", "active"), [(0.75, 3), (1.0, 2), (3.0, 1)])
def test_exactly_the_weak_units_collapse(s2, active):
    """F2: unit j is active iff lam_j > s^2, and then costs 1/2 ln(lam_j / s^2)."""
    _, kl, _ = trained(linear(3, "fixed", s2))
    expected = torch.clamp(0.5 * (LAM[:3] / s2).log(), min=0)
    assert (expected > 0).sum() == active
    torch.testing.assert_close(kl, expected, atol=5e-3, rtol=0)


def test_beta_rescales_the_noise():
    """F3: the optimum of beta and s^2 is that of 1 and beta s^2."""
    _, weighed, _ = trained(linear(3, "fixed", 0.3, beta=4.0))
    _, plain, _ = trained(linear(3, "fixed", 1.2))
    torch.testing.assert_close(weighed, plain, atol=5e-3, rtol=0)
    torch.testing.assert_close(plain, torch.clamp(0.5 * (LAM[:3] / 1.2).log(), min=0), atol=5e-3, rtol=0)


def exact_model(shift):
    """A fixed linear decoder W, s^2 = 0.5, with its exact posterior N(m, S), moved by S^(1/2) d, |d| = shift."""
    model = linear(2, "fixed", 0.5)
    W = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 1.0]])  # orthogonal columns: S is diagonal
    S = 1 / (1 + W.square().sum(0) / 0.5)
    with torch.no_grad():
        model.coder.decoder.weight.copy_(W)
        model.coder.decoder.bias.zero_()
        model.coder.encoder.mean.weight.copy_(S[:, None] * W.T / 0.5)
        model.coder.encoder.mean.bias.copy_(S.sqrt() * shift / math.sqrt(2))
        model.coder.encoder.log_var.copy_(12 * torch.atanh(S.log() / 12))
    return model.eval(), td.MultivariateNormal(torch.zeros(D), W @ W.T + 0.5 * torch.eye(D))


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_elbo_is_log_p_less_the_divergence_to_the_posterior(shift):
    """Per sample; F5: a shift by S^(1/2) d costs |d|^2 / 2."""
    model, p = exact_model(shift)
    x = torch.randn(6, D)
    repeated = x.repeat_interleave(4, 0)
    bound = model.log_prob(repeated, noise=Points(24, 2), k=1)
    value = bound.value.view(6, 4).mean(1)
    torch.testing.assert_close(value.float(), p.log_prob(x) - shift**2 / 2, atol=1e-4, rtol=0)
    torch.testing.assert_close(sum(bound.terms.values()), bound.value)
    assert (bound.kind, bound.direction, bound.discrete) == ("elbo", "lower", False)
    many = model.log_prob(x, k=500, noise=StreamNoise(6, 0, 0))
    assert ((many.value - p.log_prob(x) + shift**2 / 2).abs() < 5 * many.std_err + 1e-4).all()


def test_the_gap_of_iwae_follows_its_formula():
    """F5: (exp(|d|^2) - 1)/(2K) for large K; it never grows with K, and K = 1 is the ELBO."""
    model, p = exact_model(1.0)
    n = 20_000
    x = torch.randn(1, D).expand(n, D)
    exact = p.log_prob(x[:1]).item()
    bounds = {k: model.log_prob(x, method="iwae", k=k, noise=StreamNoise(n, 1, k)) for k in (1, 2, 8, 64)}
    gaps = {k: exact - b.value.mean().item() for k, b in bounds.items()}
    assert gaps[1] == pytest.approx(0.5, abs=0.03)
    assert gaps[64] == pytest.approx((math.e - 1) / 128, abs=0.004)
    assert gaps[1] > gaps[2] > gaps[8] > gaps[64] > 0
    assert bounds[64].std_err.mean().item() == pytest.approx(bounds[64].value.std().item(), rel=0.1)
    torch.testing.assert_close(sum(bounds[8].terms.values()), bounds[8].value)


def test_the_second_stage_prior_tightens_the_bound_of_data_that_are_not_normal():
    model, _ = exact_model(0.0)
    x = torch.cat([torch.randn(300, D) * 0.1 + 3, torch.randn(300, D) * 0.1 - 3])
    model.fit_after(Batch(x))
    plain = model.log_prob(x[::20], k=64).value.mean()
    fitted = model.log_prob(x[::20], k=64, prior="aggregate").value.mean()
    assert fitted > plain + 1
    drawn = model.draw_latent(StreamNoise(4000, 0, 0))
    z = model.encode(x)
    torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.std(0), z.std(0), atol=0.15, rtol=0)


def test_likelihoods_that_do_not_exist_are_refused():
    """Grey values under a Bernoulli, codes without a density, and an unknown prior have no likelihood."""
    model = VAE(quantised(width=4, codes=16), shape=(24,), likelihood=BernoulliLikelihood()).eval()
    black_and_white = (torch.rand(3, 24) > 0.5).float()
    value = model.log_prob(black_and_white).value
    assert (value < -6 * math.log(16)).all()  # its prior's price is never dropped
    with pytest.raises(UsageError, match="not a likelihood: for one train with"):
        model.log_prob(black_and_white / 2)
    with pytest.raises(UsageError, match="whole numbers: choose prior='standard'"):
        model.log_prob(black_and_white, prior="aggregate")
    with pytest.raises(UsageError, match="unknown prior 'agregate'"):
        model.log_prob(black_and_white, prior="agregate")


def test_divergences_against_torch_and_monte_carlo():
    mean, var, mean2, var2 = torch.randn(5, 3), torch.rand(5, 3) + 0.2, torch.randn(5, 3), torch.rand(5, 3) + 0.2
    q, p = Gaussian(mean, var), Gaussian(mean2, var2)
    expected = td.kl_divergence(td.Normal(mean, var.sqrt()), td.Normal(mean2, var2.sqrt())).sum(1)
    torch.testing.assert_close(q.kl(p), expected)
    torch.testing.assert_close(q.kl(), td.kl_divergence(td.Normal(mean, var.sqrt()), td.Normal(0, 1)).sum(1))
    z = q.draw(torch.randn(100_000, 5, 3)).transpose(0, 1)
    sampled = (td.Normal(mean, var.sqrt()).log_prob(z.transpose(0, 1)) - td.Normal(0.0, 1.0).log_prob(z.transpose(0, 1))).sum(2)
    torch.testing.assert_close(sampled.mean(0), q.kl(), atol=0.03, rtol=0.02)
    # relative to the prior, as in a hierarchy: KL(N(m + s dm, s^2 ds^2) || N(m, s^2)) = KL(N(dm, ds^2) || N(0, 1))
    torch.testing.assert_close(Gaussian(mean2 + var2.sqrt() * mean, var2 * var).kl(p), q.kl())


@pytest.mark.parametrize("kind", [Diagonal, Full, Flow])
def test_posteriors_are_densities_whose_divergence_is_as_they_say(kind):
    """log q - log p at draws against torch or autodiff, and its mean against the KL."""
    torch.manual_seed(1)
    posterior, n = kind(3), 4000
    h = torch.randn(1, posterior.outputs).mul(0.7).expand(n, -1)
    code = posterior(h, StreamNoise(n, 0, 0))
    mean, scale = h[0, :3], torch.exp(6 * torch.tanh(h[0, 3:6] / 12))
    if kind is Flow:
        eps = StreamNoise(n, 0, 0).normal((3,))[0]
        f = lambda u: posterior.flow(h[0, 6:]).transform(u)  # noqa: E731
        log_det = torch.autograd.functional.jacobian(f, mean + scale * eps).slogdet().logabsdet
        log_q = td.Normal(mean, scale).log_prob(mean + scale * eps).sum() - log_det
        torch.testing.assert_close(code.log_ratio[0], log_q - log_standard(code.z[:1])[0], atol=1e-4, rtol=1e-4)
    else:
        L = torch.diag(scale)
        if kind is Full:
            rows, columns = posterior.below
            L[rows, columns] = h[0, 6:] / math.sqrt(3)
        q = td.MultivariateNormal(mean, scale_tril=L)
        expected = td.kl_divergence(q, td.MultivariateNormal(torch.zeros(3), torch.eye(3)))
        torch.testing.assert_close(code.kl[0].sum(), expected)
        torch.testing.assert_close(code.log_ratio, q.log_prob(code.z) - log_standard(code.z), atol=1e-4, rtol=1e-4)
    assert code.log_ratio.mean().item() == pytest.approx(code.kl.sum(1).mean().item(), abs=4 * code.log_ratio.std().item() / 63)
    assert posterior(h[:2], None).z.shape == (2, 3)


def test_mutual_information_of_a_known_channel():
    """z = x + noise: I = 1/2 ln(1 + var_x/var_noise); and 0 where posteriors are all alike."""
    x, eps = torch.randn(2, 3000, 1)
    x = (x - x.mean()) / x.std()
    q = Gaussian(2 * x, torch.full_like(x, 0.5))
    assert information(q, q.draw(eps)) == pytest.approx(0.5 * math.log(1 + 4 / 0.5), abs=0.05)
    same = Gaussian(torch.zeros(100, 2), torch.ones(100, 2))
    assert information(same, torch.randn(100, 2)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("latent", [3, 70])
def test_the_mixture_is_the_density_that_it_draws_from(latent):
    mixture = Mixture(latent, parts=4)
    z = torch.randn(500, latent)
    torch.testing.assert_close(mixture.log_prob(z[:5]), log_standard(z[:5]), atol=1e-4, rtol=1e-4)
    mixture.fit(z * torch.linspace(0.5, 2, latent) + torch.where(z[:, :1] > 0, 4.0, -4.0))
    parts = [i for i in range(4) if mixture.weights[i] > 0]
    B, s2 = mixture.axes, mixture.rest**2
    beyond = s2 * (torch.eye(latent) - B @ B.T)
    covariances = [B @ f @ f.T @ B.T + beyond for f in mixture.factors[parts]]
    components = td.MultivariateNormal(mixture.centre + mixture.means[parts] @ B.T, torch.stack(covariances))
    exact = td.MixtureSameFamily(td.Categorical(mixture.weights[parts]), components)
    drawn = mixture.draw(StreamNoise(3000, 0, 0))
    torch.testing.assert_close(mixture.log_prob(drawn[:20]), exact.log_prob(drawn[:20]), atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(drawn.mean(0), exact.mean, atol=0.4, rtol=0)
    assert len(parts) > 1 or latent == 70


def test_free_bits_and_warm_up():
    model = linear(3, free_bits=0.4, warmup=100)
    x = data(3)
    terms = model.losses(Batch(x), "model", Points(len(x), 3))
    torch.testing.assert_close(terms["total"], terms["reconstruction"])  # weight 0 of the first samples
    assert model.seen == 0  # a loss changes nothing
    model.after_step("model", {}, len(x))
    assert model.seen == len(x)
    model.seen.fill_(50)
    terms = model.losses(Batch(x), "model", Points(len(x), 3))
    code, _ = model.coder(model.coder.features(x, Context()), Context(), None)
    charged = torch.where(code.kl.mean(0) > 0.4, code.kl, 0.4).sum(1)
    torch.testing.assert_close(terms["total"], terms["reconstruction"] + 0.5 * charged)
    terms = model.eval().losses(Batch(x), "model", Points(len(x), 3))
    torch.testing.assert_close(terms["total"], terms["reconstruction"] + charged)
    assert model.seen == 50


def test_a_diagnosis_does_not_depend_on_when_the_model_was_saved():
    """The optimal variance is that of the samples, not the running value, which each save replaces."""
    model = linear(3, "optimal")
    x, y = Batch(torch.randn(50, D)), Batch(torch.randn(50, D))
    rows = []
    for value in (1.0, 0.01):
        model.likelihood.value.fill_(value)
        rows.append(model.diagnose(x, y, StreamNoise(50, 0, 0)).row())
    assert rows[0] == rows[1]


def test_collapse_is_named():
    model = linear(8)
    with torch.no_grad():
        model.coder.encoder.mean.weight.zero_()
        model.coder.encoder.mean.weight[0, 0] = 0.7
    x = Batch(torch.randn(100, D))
    assert model.diagnose(x, x, StreamNoise(100, 0, 0)).findings == (), "too early to say"
    model.seen.fill_(10**6)
    seen = model.diagnose(x, x, StreamNoise(100, 0, 0))
    assert seen.numbers["active"] == 1
    assert "1 of 8 latent dimensions are in use: posterior collapse; lower model.beta" in seen.findings[0]
    assert "1/8 dimensions" in seen.line
    assert seen.numbers["kl"] == pytest.approx(sum(seen.numbers[f"kl/{j}"] for j in range(8)), rel=1e-5)


def test_capabilities():
    model = linear(2)
    for kind in (HasLatent, HasPrior, HasBound, HasDiagnosis, HasPostFit):
        assert isinstance(model, kind)
    with pytest.raises(UsageError, match="did you mean 'iwae'"):
        model.log_prob(torch.zeros(1, D), method="iwea")
    with pytest.raises(UsageError, match="unknown prior"):
        model.sample(1, prior="flow")
    with pytest.raises(UsageError, match="unknown way to observe"):
        model.sample(1, observe="noise")


def test_latents_there_and_back():
    model, _ = exact_model(0.0)
    x = torch.randn(4, D)
    path = model.interpolate(x[:2], x[2:], steps=5)
    assert path.shape == (2, 5, D)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:2]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[2:]), atol=1e-5, rtol=1e-4)
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(slerp(a, b, torch.tensor(0.5)), torch.full((1, 2), math.sqrt(0.5)))
    torch.testing.assert_close(slerp(a, 2 * a, torch.tensor(0.5)), 1.5 * a)


def hierarchical(shape=(1, 12, 12), groups=3):
    coder = Hierarchical(Plan.of(shape, width=8), shape[0], groups, channels=2)
    for p in coder.parameters():
        nn.init.normal_(p, std=0.1)
    return coder


def test_a_hierarchical_codec_decodes_its_own_codes():
    coder = hierarchical()
    y = torch.randn(5, 1, 12, 12)
    code, h = coder(coder.features(y, Context()), Context(), StreamNoise(5, 0, 0))
    torch.testing.assert_close(coder.decode(code.z, Context()), h)
    assert coder.latent == code.kl.shape[1] == sum(coder.sizes)
    assert coder.levels == [1, 1, 0]
    many = [coder(coder.features(y, Context()), Context(), StreamNoise(5, 1, k))[0] for k in range(200)]
    ratio = torch.stack([c.log_ratio - c.kl.sum(1) for c in many])
    assert (ratio.mean(0).abs() < 4 * ratio.std(0) / math.sqrt(200)).all(), "log q/p at draws averages to the KL"


def quantised(positions=6, width=2, codes=8):
    class Cut(nn.Module):
        def forward(self, y, context):
            return y.flatten(1)

    return Quantised(Cut(), Cut(), positions, width, codes)


def test_codes_are_the_nearest_and_gradients_pass_straight_through():
    coder = quantised(width=4, codes=16)
    y = torch.randn(7, 24, requires_grad=True)
    z_e = coder.features(y, Context())
    z_e.retain_grad()
    code, h = coder.eval()(z_e, Context(), None)
    distances = torch.cdist(z_e.flatten(0, 1), coder.codebook)
    torch.testing.assert_close(code.z.view(-1, 4), coder.codebook[distances.argmin(1)])
    torch.testing.assert_close(code.penalty, 0.25 * distances.min(1).values.square().view(7, 6).sum(1), atol=1e-5, rtol=1e-4)
    assert code.kl.sum(1)[0].item() == pytest.approx(6 * math.log(16))
    (h * 3).sum().backward()
    torch.testing.assert_close(z_e.grad, torch.full_like(z_e, 3.0))
    prior = coder.prior(StreamNoise(3, 0, 0)).view(-1, 4)
    assert torch.cdist(prior, coder.codebook).min(1).values.max() < 1e-5


def test_the_codebook_follows_the_encoder_and_revives_its_dead():
    """Eight codes for two clusters: in use stay few, each the mean of what it stands for, the others are put where data are."""
    coder = quantised(positions=1, width=8, codes=8).train()
    centres = nn.functional.layer_norm(torch.randn(2, 8), (8,))
    coder.codebook[2:] = 100.0
    coder.sums[2:] = 100.0
    for step in range(1500):
        y = centres[torch.arange(64) % 2] + 0.01 * StreamNoise(64, 0, step).normal((8,))
        noise, part = StreamNoise(64, 1, step), Part(0, 64)
        code, _ = coder(coder.features(y, Context()), Context(), noise)
        coder.record(Batch(y, part=part), code, noise)
        coder.after_step(part.records)
    assert torch.cdist(coder.codebook, centres).min(1).values.max() < 0.2
    assert torch.cdist(centres, coder.codebook).min(1).values.max() < 0.1
    coder.counts.fill_(1e-6)[:1] = 1.0
    numbers, findings = coder.diagnose()
    assert numbers["codes_used"] == 1
    assert numbers["perplexity"] == pytest.approx(1, abs=0.01)
    assert "1 of 8 codes are in use" in findings[0]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (3, 64, 64), (2, 37), (1, 300), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("local", [False, True])
def test_networks_of_any_shape(shape, local):
    plan = Plan.of(shape, width=8, context=ContextShape(3))
    context = Context(vector=torch.randn(2, 3))
    encoder, decoder = ConvEncoder(plan, 4, local), ConvDecoder(plan, 4, 2 * shape[0], local)
    for p in [*encoder.parameters(), *decoder.parameters()]:
        nn.init.normal_(p, std=0.2)
    z = encoder(torch.randn(2, *shape), context)
    positions = math.prod(plan.map_at(len(plan.channels) - 1))
    assert z.shape == (2, 4 * positions if local else 4)
    assert max(plan.map_at(len(plan.channels) - 1)) <= 8
    out = decoder(z, context)
    assert out.shape == (2, 2 * shape[0], *shape[1:])
    assert not torch.allclose(out, decoder(z, Context(vector=torch.zeros(2, 3))))


def test_a_second_stage_of_few_draws_is_a_density_too():
    """Fitted to 20 draws in 40 dimensions: N(m + B mean, B L L' B'), B a whole orthonormal basis."""
    mixture = Mixture(40, 4)
    mixture.fit(torch.randn(20, 40))
    B, L = mixture.axes, mixture.factors[0]
    torch.testing.assert_close(B.T @ B, torch.eye(40), atol=1e-5, rtol=0)
    z = mixture.draw(StreamNoise(10, 0, 0)).double()
    root = B.double() @ L.double()
    whole = td.MultivariateNormal((mixture.centre + B @ mixture.means[0]).double(), root @ root.T)
    torch.testing.assert_close(mixture.log_prob(z).double(), whole.log_prob(z), atol=0.1, rtol=1e-3)


def test_a_conditional_aggregate_prior_is_a_regression():
    """For z = A c + N(m, S), A is found, and density and draws are those of z given c. An unrelated c has the slope 0."""
    A, m = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.5, 3.0]]), torch.tensor([1.0, 2.0, 3.0])
    c = torch.randn(4000, 2)
    z = c @ A + m + 0.3 * torch.randn(4000, 3)
    mixture = Mixture(3, 1, context_dims=2)
    mixture.fit(z, c)
    torch.testing.assert_close(mixture.slope, A, atol=0.05, rtol=0)
    exact = torch.distributions.Normal(c @ A + m, 0.3).log_prob(z).sum(1)
    torch.testing.assert_close(mixture.log_prob(z, c), exact, atol=1.5, rtol=0)
    assert (mixture.log_prob(z, c) - exact).mean().abs() < 0.02
    drawn = mixture.draw(SampleNoise(range(4000)), c)
    torch.testing.assert_close((drawn - c @ A).mean(0), m, atol=0.03, rtol=0)
    torch.testing.assert_close((drawn - c @ A).std(0), torch.full((3,), 0.3), atol=0.02, rtol=0)
    mixture.fit(torch.randn(4000, 3), c)
    assert mixture.slope.abs().max() < 0.05
