"""The packages of the comparison, ancestral among them, behind one interface.

Every package trains in its own loop, as its example script, its trainer or its README writes it, and samples with its
own sampler; what is common is the work: the same pictures in memory, the same batch, the CPU. Where a loop would read
picture files through torchvision, it is given the same tensors from memory instead, which can only make it faster.

What the benchmarks know of ancestral beyond its command line is in the class `Ancestral` and the functions after it.
"""

from __future__ import annotations

import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partialmethod
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

with suppress(ModuleNotFoundError):  # the peers draw progress bars among the tables
    from tqdm import tqdm

    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)

SHAPE = (1, 28, 28)  # fashion-mnist's
FOREVER = 10**9  # steps or epochs that no measurement reaches
TOY_HIDDEN = (16, 128, 128, 128, 128, 16)  # the network of smalldiffusion's README


class Subject(Protocol):
    """A diffusion model of one package. `network` is what is counted: parameters, operations."""

    network: nn.Module

    def train(self) -> Iterator[Any]:
        """An endless loop: every `next` is one step of optimisation."""

    def sample(self, n: int, steps: int) -> Any:
        """Draw n pictures by DDIM in so many steps."""

    def forward(self, n: int) -> Any:
        """One evaluation of the network for n noisy pictures, as sampling does it."""


def synthetic_images(n: int = 4096) -> Tensor:
    """Pictures of fashion-mnist's shape and type, `(n, 1, 28, 28)` uint8: what they show does not change their cost."""
    return torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """An importable `torchvision` without content, for packages that import it and use it only to read picture files.

    It is on the path inside this context alone. A torchvision that is installed takes precedence.
    """
    if find_spec("torchvision") is not None:
        yield
        return
    anything = "class Anything:\n    def __init__(self, *_, **__): ...\n\ndef __getattr__(name):\n    return Anything\n"
    with TemporaryDirectory(prefix="stand-in-") as folder:
        package = Path(folder) / "torchvision"
        package.mkdir()
        (package / "__init__.py").write_text("")
        for module in ("transforms", "utils"):
            (package / f"{module}.py").write_text(anything)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]


class _Pictures(Dataset[Any]):
    """Pictures of uint8 handed out one by one as floats, as by `ToTensor`; `finish`: what the loop does with each."""

    def __init__(self, images: Tensor, finish: Callable[[Tensor], Any]):
        self.images, self.finish = images, finish

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.finish(self.images[index].float().div_(255))


def _noisy(n: int) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def diffusers_network(shape: tuple[int, ...]) -> nn.Module:
    """The UNet2DModel of 2.73 M parameters that is compared."""
    from diffusers import UNet2DModel

    network: nn.Module = UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    return network


class Diffusers:
    """The loop of diffusers' examples/unconditional_image_generation/train_unconditional.py: UNet2DModel,
    DDPMScheduler, AdamW, cosine learning rate, EMAModel, DataLoader, float32. Sampling is `DDIMPipeline`.
    """

    package = "diffusers"

    def __init__(self, images: Tensor, batch: int, total: int = FOREVER):
        """total: steps over which the learning rate falls."""
        self.images, self.batch, self.total = images, batch, total
        self.network = diffusers_network(SHAPE)

    def train(self) -> Iterator[Any]:
        from accelerate import Accelerator
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        accelerator = Accelerator(cpu=True)
        scheduler = DDPMScheduler(num_train_timesteps=1000)
        pictures = _Pictures(self.images, lambda x: {"input": (x - 0.5) / 0.5})
        loader = DataLoader(pictures, batch_size=self.batch, shuffle=True, drop_last=True, num_workers=0)
        optimizer = torch.optim.AdamW(self.network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=self.total)
        ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
        model, optimizer, loader, rate = accelerator.prepare(self.network, optimizer, loader, rate)
        while True:
            model.train()
            for batch in loader:
                clean = batch["input"]
                noise = torch.randn_like(clean)
                t = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),)).long()
                noisy = scheduler.add_noise(clean, noise, t)
                with accelerator.accumulate(model):
                    loss = F.mse_loss(model(noisy, t).sample.float(), noise.float())
                    accelerator.backward(loss)
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    rate.step()
                    optimizer.zero_grad()
                ema.step(model.parameters())
                self.averaged = ema
                yield loss.detach().item()

    def finish(self) -> None:
        """The averaged weights in the network's place, as the script saves them."""
        self.averaged.copy_to(self.network.parameters())

    @cached_property
    def _pipeline(self) -> Any:
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(unet=self.network.eval(), scheduler=DDIMScheduler(num_train_timesteps=1000))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def sample(self, n: int, steps: int) -> Any:
        return self._pipeline(batch_size=n, num_inference_steps=steps, output_type="np").images

    def forward(self, n: int) -> Any:
        self.network.eval()
        with torch.no_grad():
            return self.network(_noisy(n), torch.full((n,), 500)).sample


class DenoisingDiffusion:
    """`Unet(dim=32, dim_mults=(1, 2, 4))` and `GaussianDiffusion` of denoising-diffusion-pytorch in the loop of its
    `Trainer`, which itself needs picture files and torchvision: Adam, EMA every ten steps, DataLoader, float32.
    """

    package = "denoising_diffusion_pytorch"

    def __init__(self, images: Tensor, batch: int, total: int = FOREVER):
        """total: not used, as the learning rate is constant."""
        with torchvision_stand_in():
            from denoising_diffusion_pytorch import GaussianDiffusion, Unet

        self.images, self.batch = images, batch
        self.network = Unet(dim=32, dim_mults=(1, 2, 4), channels=SHAPE[0])
        self.diffusion = GaussianDiffusion(self.network, image_size=SHAPE[1], timesteps=1000, sampling_timesteps=20)

    def train(self) -> Iterator[Any]:
        from accelerate import Accelerator
        from ema_pytorch import EMA

        accelerator = Accelerator(cpu=True)
        pictures = _Pictures(self.images, lambda x: x)
        loader = DataLoader(pictures, batch_size=self.batch, shuffle=True, drop_last=True, num_workers=0)
        optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        ema = EMA(self.diffusion, beta=0.995, update_every=10)
        loader = accelerator.prepare(loader)
        model, optimizer = accelerator.prepare(self.diffusion, optimizer)
        while True:
            for batch in loader:
                model.train()
                with accelerator.autocast():
                    loss = model(batch)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                ema.update()
                self.averaged = ema
                yield loss.item()

    def finish(self) -> None:
        """The averaged model in the trained one's place, as `Trainer` samples from it."""
        self.diffusion = self.averaged.ema_model

    def sample(self, n: int, steps: int) -> Any:
        self.diffusion.eval()
        self.diffusion.sampling_timesteps = steps
        return self.diffusion.sample(batch_size=n)

    def forward(self, n: int) -> Any:
        self.network.eval()
        with torch.no_grad():
            return self.network(_noisy(n), torch.full((n,), 500))


class Ancestral:
    """What `ancestral.train` runs and `ancestral.load` gives back. settings: of the recipe, "section.name=value"."""

    package = "ancestral"

    def __init__(self, data: Tensor | str, batch: int, settings: tuple[str, ...] = ()):
        from ancestral.app.api import plan

        folder = mkdtemp(prefix="ancestral-benchmark-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.run = Path(folder) / "run"
        quiet = (f"train.batch={batch}", "train.previews=0", f"train.checkpoint_every={FOREVER}")
        source = data if isinstance(data, str) else data.numpy()
        self.trainer = plan(source, out=self.run, budget=f"{FOREVER}it", device="cpu", settings=(*quiet, *settings)).begin()
        self.network: nn.Module = _network(self.trainer.model)

    @property
    def batch(self) -> int:
        return self.trainer.state.batch

    def train(self) -> Iterator[Any]:
        yield from self.trainer  # as a generator of this object, which holds the run folder

    @cached_property
    def loaded(self) -> Any:
        """The model as a user has it for sampling."""
        from ancestral.app.api import load

        self.trainer.save()
        return load(self.run, device="cpu")

    @property
    def sampling_network(self) -> nn.Module:
        return _network(self.loaded)

    def sample(self, n: int, steps: int, solver: str = "ddim") -> Any:
        return self.loaded.sample(n, seeds=0, steps=steps, solver=solver)

    def forward(self, n: int) -> Any:
        network = self.sampling_network.eval()
        with torch.inference_mode(), self.trainer.runtime.autocast():
            return evaluate(network, _noisy(n))

    def bare(self) -> Iterator[None]:
        """What no loop can do without: forward, backward, fused optimiser, on one noisy batch made beforehand."""
        from ancestral.app.training.player import FlatParameters

        network = self.network.train()
        flat = FlatParameters(network.parameters())
        optimizer = torch.optim.AdamW([flat.value], lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        x = _noisy(self.batch)
        while True:
            with self.trainer.runtime.autocast():
                loss = (evaluate(network, x).float() - x).square().mean()
            loss.backward()
            optimizer.step()
            flat.grad.zero_()
            yield


def _network(model: Any) -> nn.Module:
    network: nn.Module = model.denoiser.network
    return network


def ancestral_network(**settings: Any) -> nn.Module:
    """The network of ancestral for these pictures, with those settings."""
    from ancestral.networks import denoising_network

    return denoising_network(SHAPE, **settings)


def evaluate(network: nn.Module, x: Tensor) -> Tensor:
    """One evaluation of a network of ancestral, at logsnr 0."""
    from ancestral.conditioning import Context

    out: Tensor = network(x, torch.zeros(len(x)), Context())
    return out


def smalldiffusion_toy(points: Tensor, batch: int) -> tuple[nn.Module, Iterator[Any]]:
    """The README of smalldiffusion: `TimeInputMLP`, `ScheduleLogLinear` and `training_loop`, as they stand there."""
    from accelerate import Accelerator

    with torchvision_stand_in():
        from smalldiffusion import ScheduleLogLinear, TimeInputMLP, training_loop

    loader = DataLoader(points, batch_size=batch, shuffle=True, drop_last=True)
    model = TimeInputMLP(hidden_dims=TOY_HIDDEN)
    schedule = ScheduleLogLinear(N=200, sigma_min=0.005, sigma_max=10)
    loop = training_loop(loader, model, schedule, accelerator=Accelerator(cpu=True), epochs=FOREVER)
    return model, (state.loss.item() for state in loop)


class _TimeMLP(nn.Module):
    """The layers of smalldiffusion's `TimeInputMLP` as a backbone for azula, which brings none for vectors."""

    def __init__(self, features: int = 2):
        super().__init__()
        widths = (features + 2, *TOY_HIDDEN)
        layers = [layer for c_in, c_out in pairwise(widths) for layer in (nn.Linear(c_in, c_out), nn.GELU())]
        self.layers = nn.Sequential(*layers, nn.Linear(TOY_HIDDEN[-1], features))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] / 2
        out: Tensor = self.layers(torch.cat([x, angle.sin(), angle.cos()], 1))
        return out


def azula_toy(points: Tensor, batch: int) -> tuple[nn.Module, Iterator[Any]]:
    """The README of azula: `KarrasDenoiser`, `VPSchedule`, Adam, and the loop written there."""
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule

    denoiser = KarrasDenoiser(backbone=_TimeMLP(), schedule=VPSchedule())
    loader = DataLoader(points, batch_size=batch, shuffle=True, drop_last=True)

    def loop() -> Iterator[Any]:
        optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
        while True:
            for x in loader:
                loss = denoiser.loss(x, torch.rand(len(x)))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                yield loss

    return denoiser, loop()


def moons() -> Tensor:
    """The points of the built-in `moons`, `(20000, 2)`."""
    from ancestral.app.data import load

    return load("moons").train.array


KINDS: dict[str, Any] = {kind.package: kind for kind in (Diffusers, DenoisingDiffusion, Ancestral)}


@dataclass(frozen=True)
class Entry:
    """A subject to be: its name in the tables, its package, and settings, which only ancestral takes."""

    name: str
    package: str
    settings: tuple[str, ...] = ()

    def make(self, batch: int) -> Any:
        """A fresh, untrained subject on pictures of its own."""
        torch.manual_seed(0)
        more = (self.settings,) if self.settings else ()
        return KINDS[self.package](synthetic_images(), batch, *more)


NEEDS = {
    "diffusers": ("accelerate",),
    "denoising_diffusion_pytorch": ("accelerate", "einops", "ema_pytorch", "scipy"),
    "smalldiffusion": ("accelerate", "einops"),
    "azula": ("einops",),
}


def missing(package: str) -> list[str]:
    """What of the package and of the modules that its loop needs is not installed."""
    return [name for name in (package, *NEEDS[package]) if find_spec(name) is None]
