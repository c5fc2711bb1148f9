"""Dynamic batching: what is drawn together equals what is drawn alone; nobody waits for ever, and nothing is lost."""

import io
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ancestral.app.pictures import to_uint8
from ancestral.app.sampling import Conditions, EditRequest, Guidance, SampleRequest
from ancestral.app.sampling.batching import Batcher, BusyError
from ancestral.app.training.saved import opened
from ancestral.errors import AncestralError, UsageError

RUNS = Path(__file__).parents[2] / "fixtures" / "format1"
FAMILIES = ("diffusion", "gan", "latent", "score", "vae")
BY_CLASS = ("diffusion", "gan")


@pytest.fixture(scope="module")
def runs():
    return {name: opened(RUNS / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def models(runs):
    return {name: run.load_model("cpu", "fp32") for name, run in runs.items()}


class Held:
    """A batcher that waits after its first batch until `go` is set, so that all that is submitted meanwhile waits together."""

    def __init__(self, **limits):
        self.batches, self.go, self.begun = [], threading.Event(), threading.Event()
        self.batcher = Batcher(on_batch=self._note, **limits)

    def _note(self, batch):
        self.batches.append((batch.samples, batch.requests))
        self.begun.set()
        self.go.wait(30)

    def hold(self, sampling):
        self.batcher.submit(sampling)
        assert self.begun.wait(30)
        return self

    def finish(self):
        self.go.set()
        self.batcher.close()
        return self.batches[1:]


@pytest.fixture
def held(models):
    made = []

    def hold(**limits):
        made.append(Held(**limits).hold(SampleRequest(seeds=(0,)).prepare(models["vae"])))
        return made[-1]

    yield hold
    for each in made:
        each.finish()


def grey(x, spec):
    """Samples as pictures show them; points in hundredths of the deviation of the data."""
    return to_uint8(x, spec).astype(int) if spec.is_image else (x / torch.tensor(spec.std) * 100).round().numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_drawn_together_is_what_the_command_draws(family, runs, models, held, command, tmp_path):
    """To one grey level, with other classes and other numbers of samples beside it."""
    spec, steps = runs[family].spec, {} if family in ("gan", "vae") else {"steps": 6}
    asked = [((3, 7), "2"), ((11,), "9"), ((7, 3, 5), "4"), ((2**63,), "0")]
    given = [{"conditions": Conditions(classes=(name,))} if family in BY_CLASS else {} for _, name in asked]
    requests = [SampleRequest(seeds=seeds, **steps, **how) for (seeds, _), how in zip(asked, given, strict=True)]
    waiting = held()
    jobs = [waiting.batcher.submit(request.prepare(models[family], run=runs[family])) for request in requests]
    assert waiting.finish() == [(7, 4)]
    for (seeds, name), job in zip(asked, jobs, strict=True):
        words = ["--seeds", ",".join(map(str, seeds)), *(["--class", name] if family in BY_CLASS else [])]
        words += [f"--steps={steps['steps']}"] if steps else []
        file = tmp_path / f"{name}.npz"
        ended = command("sample", RUNS / family, *words, "--precision", "fp32", "--device", "cpu", "--quiet", "--out", file)
        assert ended.returncode == 0, ended.stderr
        stored = np.load(io.BytesIO(file.read_bytes()))
        expected = torch.from_numpy(stored["raw"] if "raw" in stored else stored["x"])
        expected = expected / (spec.levels - 1) if expected.dtype == torch.uint8 else expected
        x = job.future.result(0)
        x = (x * (spec.levels - 1)).round() / (spec.levels - 1) if spec.levels else x
        assert np.abs(grey(x, spec) - grey(expected, spec)).max() <= 1
        assert stored["seeds"].tolist() == list(seeds)


def test_mixed_requests_at_the_same_time_get_what_each_gets_alone(runs, models):
    requests = [
        ("diffusion", SampleRequest(seeds=(1, 2), steps=3, conditions=Conditions(classes=("1", "2")))),
        ("diffusion", SampleRequest(seeds=(1,), steps=3, conditions=Conditions(classes=("8",)))),
        ("diffusion", SampleRequest(seeds=(1,), steps=3)),
        ("diffusion", SampleRequest(n=3, seed=4, steps=3, solver="ddpm", conditions=Conditions(classes=("3",)))),
        ("diffusion", SampleRequest(n=2, steps=3, conditions=Conditions(classes=("3",)), guidance=Guidance(scale=3.0))),
        ("diffusion", SampleRequest(n=3, steps=3, solver="adaptive")),
        ("gan", SampleRequest(n=5, options={"truncation": 0.5})),
        ("gan", SampleRequest(n=2)),
        ("latent", SampleRequest(n=2, steps=2)),
        ("score", SampleRequest(n=40, steps=4, solver="pc")),
        ("score", SampleRequest(n=2, spacing=(1.0, 0.5, 0.0))),
        ("vae", SampleRequest(n=3, options={"observe": "draw"})),
    ]
    prepared = [request.prepare(models[name], run=runs[name]) for name, request in requests]
    expected = [sampling.sample() for sampling in prepared]
    batcher, jobs = Batcher(batch=8), {}

    def ask(indices):
        for i in indices:
            jobs[i] = batcher.submit(prepared[i % len(prepared)])

    threads = [threading.Thread(target=ask, args=(range(k, 4 * len(prepared), 6),)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert len(jobs) == 4 * len(prepared)
    for i, job in jobs.items():
        torch.testing.assert_close(job.future.result(0), expected[i % len(prepared)], rtol=0, atol=2e-5)


def test_a_solver_that_chooses_steps_for_a_batch_is_drawn_alone(models, held):
    sampling = [SampleRequest(seeds=(i,), steps=3, solver="adaptive").prepare(models["diffusion"]) for i in range(2)]
    waiting = held()
    jobs = [waiting.batcher.submit(each) for each in sampling]
    assert waiting.finish() == [(1, 1), (1, 1)]
    for job, each in zip(jobs, sampling, strict=True):
        assert torch.equal(job.future.result(0), each.sample())


def test_an_edit_is_drawn_alone(models, held):
    edit = EditRequest(vary=torch.full((1, 1, 8, 8), 0.5), strength=0.5)
    sampling = SampleRequest(seeds=(1, 2), steps=4, edit=edit).prepare(models["diffusion"])
    waiting = held(batch=1)
    job = waiting.batcher.submit(sampling)
    assert waiting.finish() == [(2, 1)]
    assert torch.equal(job.future.result(0), sampling.sample())


def test_other_options_other_kinds_of_conditions_and_other_models_are_other_batches(models, held):
    one, model = SampleRequest(seeds=(1,), steps=2), models["diffusion"]
    requests = [one, replace(one, steps=3), replace(one, solver="heun"), replace(one, conditions=Conditions(classes=("1",)))]
    requests += [replace(one, conditions=Conditions(classes=("1",)), guidance=Guidance(scale=2.0)), one]
    waiting = held()
    for request in requests:
        waiting.batcher.submit(request.prepare(model))
    waiting.batcher.submit(one.prepare(models["latent"]))
    assert waiting.finish() == [(1 + (i == 0), 1 + (i == 0)) for i in range(6)]


def test_a_small_request_does_not_wait_for_the_whole_of_a_large_one(models, held):
    waiting, order = held(batch=4), []
    for n in (12, 2):
        job = waiting.batcher.submit(SampleRequest(n=n).prepare(models["vae"]))
        job.future.add_done_callback(lambda _, n=n: order.append(n))
    assert waiting.finish() == [(4, 1), (4, 2), (4, 1), (2, 1)]
    assert order == [2, 12]
    assert waiting.batcher.waiting == 0


def test_a_full_queue_refuses_and_says_when_to_ask_again(models, held):
    waiting, sampling = held(queue=5), SampleRequest(n=3).prepare(models["vae"])
    first = waiting.batcher.submit(sampling)
    with pytest.raises(BusyError, match="3 samples wait, and 5 can") as busy:
        waiting.batcher.submit(sampling)
    assert 1 <= busy.value.seconds <= 600
    first.future.cancel()
    assert waiting.batcher.waiting == 0
    second = waiting.batcher.submit(sampling)
    assert waiting.finish() == [(3, 1)]
    assert second.future.result(0).shape == (3, 1, 8, 8)
    with pytest.raises(AncestralError, match="ending"):
        waiting.batcher.submit(sampling)


def test_work_that_nobody_waits_for_ends(models):
    """A request that is cancelled on its way ends at its next step, and the next one begins."""
    batcher = Batcher()
    long = batcher.submit(SampleRequest(n=8, steps=100_000).prepare(models["diffusion"]), watched=True)
    while long.progress is None:
        time.sleep(0.01)
    assert long.progress.x.shape == (8, 1, 8, 8)
    assert long.progress.done < long.progress.total == 100_000
    next_ = batcher.submit(SampleRequest(n=1, steps=2).prepare(models["diffusion"]))
    assert long.future.cancel()
    assert next_.future.result(60).isfinite().all()
    batcher.close()
    with pytest.raises(CancelledError):
        long.future.result(0)


def test_a_request_that_fails_fails_alone(models, held):
    waiting, model = held(), models["gan"]
    wrong = waiting.batcher.submit(SampleRequest(n=2, options={"truncation": -1}).prepare(model))
    right = waiting.batcher.submit(SampleRequest(n=2).prepare(model))
    waiting.finish()
    with pytest.raises(UsageError, match="truncation is a number from 0"):
        wrong.future.result(0)
    assert right.future.result(0).isfinite().all()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (SampleRequest(n=1, solver="hean"), "did you mean 'heun'"),
        (SampleRequest(seeds=(2**64,)), "from 0 to 2\\^64 - 1"),
        (SampleRequest(n=1, options={"truncation": 0.5}), "unknown option of this model 'truncation'"),
    ],
)
def test_what_is_wrong_is_refused_before_it_waits(request_, said, models):
    batcher = Batcher()
    with pytest.raises(UsageError, match=said):
        batcher.submit(request_.prepare(models["diffusion"]))
    batcher.close()
