"""Pipelines of the library diffusers as models: a U-Net with the chain of its scheduler, in pixels or in latents.

A folder of a pipeline has `unet`, `scheduler` and, for latents, `vae` or `vqvae`, each with its configuration. Pictures of a
pipeline are in [-1, 1], those of the model in [0, 1]. Only configurations and safetensors are read.

A UNet2DModel can have classes, which are the condition `class`. A UNet2DConditionModel has the condition `embedding`: its
encoder hidden states, since the encoder of a text is not part of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ancestral.conditioning import ClassCondition, Condition, Conditioner, EmbeddingCondition
from ancestral.errors import UsageError
from ancestral.files import read_json
from ancestral.models.base import GenerativeModel
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.networks import diffusers
from ancestral.networks.diffusers import DiffusersAutoencoder, DiffusersUNet, embedding_width, halvings
from ancestral.prediction import PredictionType
from ancestral.schedules import Chain

TARGETS: Mapping[str, PredictionType] = {"epsilon": "eps", "sample": "x", "v_prediction": "v"}
SCHEDULER = "scheduler_config.json"
NOTE = "ancestral.json"  # of an export, with the names of the classes
LEVELS = 256  # of pictures
DROP = 0.1  # a rate above 0 tells that the null of the classes was trained
UNREAD = (  # keys of a network's configuration that stand for other inputs
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)


def load_pipeline(folder: str | Path) -> GenerativeModel:
    """Load a pipeline as a model, on the CPU and in evaluation mode.

    Args:
        folder: the folder that the library's `save_pretrained` wrote.

    Returns:
        A `Diffusion` of pictures in [0, 1], or a `LatentModel` with an AutoencoderKL. Its condition is `class` or `embedding`,
        or it has none.

    Raises:
        UsageError: if the folder holds no such pipeline, or one of another kind.
        AncestralError: if the package diffusers is not installed.
    """
    folder = Path(folder)
    if not (folder / "unet" / diffusers.CONFIG).is_file():
        there = "holds no pipeline (no unet)" if folder.is_dir() else "does not exist"
        raise UsageError(f"{folder} {there}: give a folder that `save_pretrained` of a diffusers pipeline wrote")
    config = _read(folder / "unet" / diffusers.CONFIG)
    chain, target = forward_process(_read(folder / "scheduler" / SCHEDULER), folder)
    network, conditioner = _network(folder, config, chain)
    size = config.get("sample_size")
    if size is None:
        raise UsageError(f"{folder / 'unet' / diffusers.CONFIG} has no sample_size, the sides of a sample: write it there")
    shape = (int(config["in_channels"]), *((size, size) if isinstance(size, int) else map(int, size)))
    first = next((folder / name for name in ("vae", "vqvae") if (folder / name).is_dir()), None)
    if first is None:
        model: GenerativeModel = Diffusion(
            network,
            shape,
            schedule=chain,
            target=target,
            levels=LEVELS,
            mean=0.5,
            std=0.5,
            bounds=(0.0, 1.0),
            conditioner=conditioner,
        )
    else:
        model = _latent(first, Diffusion(network, shape, schedule=chain, target=target, conditioner=conditioner))
    return model.eval().requires_grad_(False)


def forward_process(config: Mapping[str, Any], folder: Path) -> tuple[Chain, PredictionType]:
    """Return the chain of a scheduler's configuration, and what its network predicts. folder: for errors.

    Raises:
        UsageError: if the chain is not one of those here.
    """
    name, T = config.get("beta_schedule", "linear"), int(config.get("num_train_timesteps", 1000))
    first, last = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in TARGETS:
        raise UsageError(f"the network of {folder} predicts {predicts!r}, and only {', '.join(TARGETS)} can be used")
    if "sigma_max" in config or "base_shift" in config or config.get("rescale_betas_zero_snr"):
        raise UsageError(
            f"the scheduler of {folder}, {config.get('_class_name')}, has another forward process than a chain of betas: wrap "
            "its network with ancestral.networks.FromTime"
        )
    if config.get("trained_betas") is not None:
        chain = Chain(torch.tensor(config["trained_betas"], dtype=torch.float64))
    elif name == "linear":
        chain = Chain.linear(T, first, last)
    elif name == "scaled_linear":
        chain = Chain(torch.linspace(first**0.5, last**0.5, T, dtype=torch.float64) ** 2)
    elif name == "squaredcos_cap_v2":
        chain = Chain.cosine(T)
    else:
        raise UsageError(f"unknown beta_schedule {name!r} of {folder}: linear, scaled_linear and squaredcos_cap_v2 can be used")
    return chain, TARGETS[predicts]


def _network(folder: Path, config: Mapping[str, Any], chain: Chain) -> tuple[DiffusersUNet, Conditioner]:
    """Return the network of a pipeline and its conditions.

    Raises:
        UsageError: if it takes other inputs, or cannot be read.
    """
    plain = _supported(config, folder)
    weights = dict(diffusers.read(folder / "unet", config["_class_name"]))
    classes = plain.pop("num_class_embeds", None)
    kinds: dict[str, Condition] = {}
    names: Sequence[str] | None = None
    if config["_class_name"] == diffusers.CROSS:
        kinds["embedding"] = EmbeddingCondition(plain["cross_attention_dim"])
    elif classes:
        names = _names(folder, classes)
        kind = kinds["class"] = ClassCondition(names, embedding_width(config))
        rows = weights.pop("class_embedding.weight")
        kind.load_state_dict({"table.weight": torch.cat([rows, torch.zeros_like(rows[:1])])[: len(names) + 1]})
    null = names is not None and len(names) < classes
    conditioner = Conditioner(kinds, drop=DROP if null else 0.0)
    network = DiffusersUNet(plain, chain, conditioner.widths)
    network.network.load_state_dict(weights)
    if network.context is not None:  # the rows of the table are what the network adds
        nn.init.eye_(network.context.weight)
        nn.init.zeros_(network.context.bias)
    return network, conditioner


def _names(folder: Path, rows: int) -> Sequence[str]:
    """Return the names of the classes of a network with so many rows. If it has a row more than names, the last is the null."""
    file = folder / NOTE
    names = _read(file).get("classes") if file.is_file() else None
    if names is None:
        return [str(i) for i in range(rows)]
    if not isinstance(names, list) or len(names) not in (rows - 1, rows):
        raise UsageError(f"{file} names other classes than the {rows} of the network: delete `classes` there to number them")
    return [str(name) for name in names]


def _supported(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a U-Net's configuration without the library's notes. Raises UsageError for one that takes other inputs."""
    name = config.get("_class_name")
    if name not in (diffusers.UNET, diffusers.CROSS):
        raise UsageError(f"the network of {folder} is a {name}, and only a {diffusers.UNET} or a {diffusers.CROSS} can be used")
    if config.get("time_embedding_type", "positional") != "positional" or config.get("center_input_sample"):
        raise UsageError(f"the network of {folder} does not take the step of a chain: wrap it with ancestral.networks.FromTime")
    others = UNREAD if name == diffusers.UNET else (*UNREAD, "num_class_embeds")
    if found := [key for key in others if config.get(key)]:
        raise UsageError(
            f"the network of {folder} takes other inputs than a sample, a step and a condition ({found[0]} in its "
            f"{diffusers.CONFIG}): wrap it with a module of yours"
        )
    if name == diffusers.CROSS and not isinstance(config.get("cross_attention_dim"), int):
        raise UsageError(f"the blocks of the network of {folder} read different states: wrap it with a module of yours")
    if config.get("in_channels") != config.get("out_channels"):
        raise UsageError(
            f"the network of {folder} has {config.get('in_channels')} channels as input and {config.get('out_channels')} as "
            "output, and only one with equally many can be used"
        )
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _latent(folder: Path, prior: Diffusion) -> LatentModel:
    """Return the model of pictures whose latents have this prior."""
    config = _read(folder / diffusers.CONFIG)
    if config.get("_class_name") != diffusers.NAME:
        raise UsageError(f"{folder} holds a {config.get('_class_name')}, and only an {diffusers.NAME} can be used")
    sides = [side * 2 ** halvings(config) for side in prior.shape[1:]]
    shape = (int(config.get("out_channels", 3)), *sides)
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    autoencoder = DiffusersAutoencoder(plain, shape, (0.0, 1.0))
    autoencoder.network.load_state_dict(diffusers.read(folder))
    model = LatentModel(autoencoder, prior, shape=shape, bounds=(0.0, 1.0))
    model.mean.fill_(config.get("shift_factor") or 0.0)
    model.std.fill_(1 / config.get("scaling_factor", 0.18215))
    model.known.fill_(True)
    return model


def _read(file: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read_json(file.read_bytes())
        config.keys()
        return config
    except (OSError, ValueError, AttributeError):
        raise UsageError(f"{file} cannot be read: give a folder that `save_pretrained` of a diffusers pipeline wrote") from None
