"""Train your own network on two moons in your own loop, with our loss. Save it, load it, and draw samples with our sampler."""

import torch
from torch import nn

import ancestral as an


class Network(nn.Sequential):
    def __init__(self):
        hidden = (nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        super().__init__(nn.Linear(3, 128), nn.SiLU(), *hidden, nn.Linear(128, 2))

    def forward(self, z, logsnr):
        return super().forward(torch.cat([z, logsnr[:, None] / 4], 1))


x = an.load_data("moons").batch(torch.arange(4000)).x
model = an.Diffusion(Network(), shape=(2,), mean=x.mean(0).tolist(), std=x.std(0).tolist())
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(3000):
    optimizer.zero_grad()
    model.loss(x[torch.randint(len(x), (256,))], seed=step)["total"].mean().backward()
    optimizer.step()
model.save("runs/own-network")
samples = an.load("runs/own-network", network=Network()).sample(1000)
