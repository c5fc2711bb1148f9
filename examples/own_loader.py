"""Use your own data loader, network, optimiser and learning rate in the training loop of ancestral."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import ancestral as an


class Spiral(Dataset):
    """Points along a spiral in the plane."""

    def __len__(self):
        return 2000

    def __getitem__(self, i):
        angle = torch.tensor(4 * 3.1416 * i / 2000)
        return {"x": angle / 8 * torch.stack([angle.cos(), angle.sin()]), "class": int(i >= 1000)}


class Network(nn.Module):
    """A small MLP: (z `(n, 2)`, logsnr `(n,)`) -> `(n, 2)`."""

    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, z, logsnr):
        return self.layers(torch.cat([z, logsnr[:, None] / 10], 1))


torch.manual_seed(0)
model = an.Diffusion(Network(), shape=(2,))
losses = []
model = an.train(
    DataLoader(Spiral(), batch_size=100),
    model=model,
    budget="200it",
    out="runs/spiral",
    quiet=True,
    optimizer=lambda parameters: torch.optim.RAdam(parameters, lr=3e-3),
    lr_schedule=lambda step, progress: 1 - progress,
    callbacks=[lambda step: losses.append(step.losses["model/total"])],
    settings=("train.batch=256", "train.previews=0"),
)
print(f"loss {losses[0]:.3f} -> {sum(losses[-20:]) / 20:.3f}")

again = an.load("runs/spiral", network=Network())  # the run has weights and settings, but not your code
print("the same samples:", torch.allclose(again.sample(8, seeds=range(8)), model.sample(8, seeds=range(8)), atol=1e-4))
