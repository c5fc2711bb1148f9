"""Use a network of another library: UNet2DModel is trained with diffusers on digits, and sampled and compared here."""

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

import ancestral as an
from ancestral.app.evaluation import Comparison, Evaluator, Samples, Subject, baseline

CHAIN = an.schedules.Chain.linear()  # beta from 1e-4 to 0.02 in 1,000 steps, also the defaults of diffusers


class Eps(nn.Module):
    """diffusers' network as a module (x_t, step) -> eps."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        return self.unet(x, step).sample


def tiny() -> UNet2DModel:
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return UNet2DModel(
        8, 1, 1, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, add_attention=False, **blocks
    )


def train_there(unet: nn.Module, x: Tensor, steps: int) -> None:
    """Train with diffusers' loop: noise of its scheduler on pictures in [-1, 1]."""
    scheduler, optimizer = DDPMScheduler(), torch.optim.Adam(unet.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = 2 * x[torch.randint(len(x), (64,))] - 1
        eps, i = torch.randn_like(batch), torch.randint(1000, (64,))
        loss = (unet(scheduler.add_noise(batch, eps, i), i).sample - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(steps: int = 2000) -> tuple[an.Diffusion, Tensor]:
    unet = tiny()
    train_there(unet, an.load_data("digits").batch(torch.arange(1500)).x, steps)
    network = an.networks.FromTime(Eps(unet), CHAIN, time="step")
    model = an.Diffusion(
        network, shape=(1, 8, 8), schedule=CHAIN, target="eps", mean=0.5, std=0.5, bounds=(0, 1)
    )  # diffusers' pictures in [-1, 1] are (x - 0.5) / 0.5
    return model.eval(), model.sample(16, solver="dpmpp", steps=20)


def compared(model: an.Diffusion, n: int = 500) -> Comparison:
    """Compare samples of the model with held-out digits, and with a Gaussian for each class, which needs no training."""
    data = an.load_data("digits")
    evaluator = Evaluator(data, n=n)
    ours = Subject("diffusers", Samples(model.sample(evaluator.n, solver="dpmpp", steps=20)))
    return Comparison.of([ours, Subject("gaussian", baseline("gaussian", data, evaluator.n), baseline=True)], evaluator)


if __name__ == "__main__":
    model, _ = main()
    comparison = compared(model)
    for subject in comparison.subjects:
        print(subject.name, subject.evaluation.headline.value)
    print(*comparison.verdict, sep="\n")
