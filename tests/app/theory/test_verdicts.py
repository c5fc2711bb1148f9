"""The rule of verdicts, the choice of claims by name, and `ancestral verify` as people use it."""

import json

import pytest
import torch

from ancestral.app.cli import main
from ancestral.app.theory import CLAIMS, K, Verdict, select
from ancestral.app.theory.claims import at_most, equal, mean, variance
from ancestral.errors import UsageError


def test_an_equation_holds_within_errors_and_tolerance():
    assert equal("", 1.0, 1.0).holds
    assert not equal("", 1.0, 1.0001).holds
    assert equal("", 1.0, 1.0 + 0.9 * K * 0.1, std_err=0.1).holds
    assert not equal("", 1.0, 1.0 + 1.1 * K * 0.1, std_err=0.1).holds
    assert equal("", 100.0, 100.5, tolerance=0.01).holds
    assert not equal("", 0.0, 0.5, tolerance=0.01).holds


def test_an_inequality_is_one_sided():
    assert at_most("", 1.0, 5.0).holds
    assert not at_most("", 5.0, 1.0).holds
    assert not at_most("", 1.0, 1.0, tolerance=-0.1).holds


def test_one_wrong_point_of_many_is_enough_and_is_the_one_shown():
    s = equal("", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 3.0]))
    assert (s.holds, s.worst) == (False, 1)
    s = at_most("", torch.tensor([-9.0, 0.2]), torch.tensor([0.0, 0.0]))
    assert (s.holds, s.worst) == (False, 1)


def test_nothing_compared_does_not_hold():
    assert not equal("", torch.zeros(0), torch.zeros(0)).holds
    assert not Verdict(CLAIMS["gan.hinge"], (), (), 0.0).holds


@pytest.mark.parametrize("side", [equal, at_most])
def test_what_is_not_a_number_never_holds(side):
    assert not side("", float("nan"), 1.0).holds
    assert not side("", torch.tensor([1.0, float("nan")]), 1.0).holds
    assert side("", torch.tensor([1.0, float("nan")]), 1.0).worst == 1


def test_errors_of_mean_and_variance():
    """std/sqrt(n), and sqrt(2/n) var for normal draws."""
    x = 3 * torch.randn(100_000, dtype=torch.float64)
    assert mean(x)[1].item() == pytest.approx(3 / 100_000**0.5, rel=0.02)
    assert variance(x)[0].item() == pytest.approx(x.var().item(), rel=1e-6)
    assert variance(x)[1].item() == pytest.approx(9 * (2 / 100_000) ** 0.5, rel=0.03)


def test_names_select_by_their_beginning():
    assert len(select([])) == len(CLAIMS)
    assert {c.family for c in select(["vae"])} == {"vae"}
    assert [c.name for c in select(["gan.optimal-discriminator"])] == ["gan.optimal-discriminator"]
    assert [c.name for c in select(["gan.optimal", "vae.beta"])] == ["vae.beta", "gan.optimal-discriminator"]
    assert {c.family for c in select([])} == {"vae", "gan", "diffusion", "latent", "score"}


def test_unknown_names_get_a_sentence():
    with pytest.raises(UsageError, match="unknown claim 'vea': did you mean 'vae'"):
        select(["vea"])
    with pytest.raises(UsageError, match=r"unknown claim 'gan.hinges': did you mean 'gan.hinge'\? Known: gan.cross-entropy"):
        select(["gan.hinges"])


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_explains_itself(claim):
    """A title of one line, an equation, a source, and code that exists."""
    assert 20 < len(claim.title) < 140
    assert any(line.startswith("    ") for line in claim.derivation.splitlines())
    assert any(c.isdigit() for c in claim.source)
    assert claim.lines
    assert all(line.startswith("ancestral.") for line in claim.lines)
    assert not any(line.startswith("ancestral.app.theory.") for line in claim.lines)


def run(*words):
    with pytest.raises(SystemExit) as exit_:
        main(["verify", *words])
    return exit_.value.code


def test_the_command_prints_both_sides(capsys):
    assert run("gan.hinge", "vae.beta", "-q") == 0
    assert "2 of 2 claims hold" in capsys.readouterr().out
    assert run("gan.hinge") == 0
    out = capsys.readouterr().out
    assert "1.23419" in out
    assert "holds" in out


def test_json_and_the_exit_code_of_a_failure(capsys, monkeypatch):
    assert run("gan.hinge", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is True
    assert told["claims"][0]["sides"][0]["left"] == pytest.approx(told["claims"][0]["sides"][0]["right"])
    monkeypatch.setattr("ancestral.models.objectives.Hinge.discriminator", lambda o, x, y: (0.5 - x).relu() + (1 + y).relu())
    assert run("gan.hinge", "--json") == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False
    assert run("gan.hinge") == 1
    assert "these fail: gan.hinge" in capsys.readouterr().out


def test_explanations_have_equations_source_and_code(capsys):
    assert run("--explain", "vae.gap") == 0
    out = capsys.readouterr().out
    for words in ("KL(q(z|x) ‖ p(z|x))", "Kingma & Welling 2014", "ancestral.models.vae.VAE.losses, line"):
        assert words in out


def test_an_unknown_claim_is_a_wrong_request(capsys):
    assert run("vea") == 2
    assert "did you mean 'vae'" in capsys.readouterr().err


def test_the_same_on_every_run():
    a, b = (CLAIMS["vae.gaussian-kl"].verify().sides for _ in range(2))
    assert all(torch.equal(x.left, y.left) for x, y in zip(a, b, strict=True))
