"""Measurement of a network's training speed on this machine, and choice of the network size for a time budget."""

from __future__ import annotations

import time

import torch

from ancestral.app.data import DataSet
from ancestral.app.recipes import FamilyRecipe
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.training.budget import Budget
from ancestral.app.training.memory import bytes_per_sample, parts_that_fit
from ancestral.models import GenerativeModel
from ancestral.noise import StreamNoise
from ancestral.runtime import Runtime, holds_float64

ENOUGH = 0.5  # a smaller network is chosen if fewer than this share of the family's least steps fit


def seconds_per_step(model: GenerativeModel, data: DataSet, batch: int, runtime: Runtime, *, alone: bool = False) -> float:
    """Measure the seconds of a forward and backward pass of every player on a batch. The first pass is not measured.

    A batch that does not fit into the memory is measured by a part of it.

    alone: whether to leave out the time that other processes take from the CPU, for a training that starts when they end.
    """
    model.conditioner.fit(data.train.all_columns)
    some = data.encoded(model.conditioner)
    runtime.place(model)
    model.precision = runtime.autocast
    batch = min(batch, len(data.train))
    with runtime.threaded():
        parts = parts_that_fit(bytes_per_sample(model, some, runtime), batch, 1, runtime)
        for _ in range(2):
            started, busy = time.monotonic(), time.process_time()
            for player in model.players():
                noise = StreamNoise(-(-batch // parts), 0, 0, runtime.device)
                drawn = some.batch(torch.arange(noise.n), noise=noise).to(runtime.device)
                with runtime.autocast():
                    terms = model.losses(drawn, player.name, noise)
                if terms:
                    torch.autograd.backward(terms["total"].float().mean())
                for p in player.parameters:
                    p.grad = None
            if runtime.device.type == "cuda":
                torch.cuda.synchronize(runtime.device)
            took = time.monotonic() - started
            if alone and runtime.device.type == "cpu":
                took = min(took, (time.process_time() - busy) / torch.get_num_threads())
    return took * parts


def suited(recipe: Recipe, data: DataSet, device: str, *, alone: bool = False) -> tuple[FamilyRecipe, tuple[str, ...]]:
    """Return the recipe's model, with a smaller network if the default is far too slow for a time budget, and notes.

    Only sizes that the user has not set are changed. alone: as in `seconds_per_step`.
    """
    budget, family = Budget.parse(recipe.train.budget), recipe.model
    if budget.unit != "seconds" or family.smaller() is None:
        return family, ()
    tried: list[float] = []
    while True:
        with torch.random.fork_rng(devices=[]):
            model = family.build(data.spec)
        size = sum(p.numel() for p in model.parameters())
        runtime = Runtime.choose(device, recipe.train.precision, parameters=size, float64=holds_float64(model))
        tried.append(budget.amount / seconds_per_step(model, data, recipe.train.batch, runtime, alone=alone))
        smaller = family.smaller()
        if tried[-1] >= ENOUGH * family.least_steps or smaller is None:
            break
        family = smaller
    if len(tried) == 1:
        return family, ()
    return family, (
        f"a smaller network ({family.size}) than the default, which would take only about {tried[0]:,.0f} steps in "
        f"{recipe.train.budget}",
    )
