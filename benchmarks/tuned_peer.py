"""A peer's network at its best: trained in our loop, with our loss, learning rate, average and precision, in the same time.

    python benchmarks/tuned_peer.py --network ours diffusers --seconds 220 --seeds 3 --lr 2e-3

Fashion-mnist without classes. Each training takes `--seconds` from its first step; drawing and evaluating are not part of it.
The distance is that of `ancestral evaluate`, of 2,000 samples with 10 evaluations each, beside real data. With several values
of `--lr` each network is trained with each, and the best counts: the default network is not tuned here, because the default
learning rate belongs to it. One line of JSON for each training, in `results/tuned_peer.jsonl`; what is there is not repeated.
Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import ancestral as an
from ancestral.app.data import load
from ancestral.runtime import Runtime
from peers import diffusers_network

RESULTS = Path(__file__).parent / "results" / "tuned_peer.jsonl"


class OfDiffusers(nn.Module):
    """UNet2DModel of diffusers."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = diffusers_network(shape)

    def forward(self, z: Tensor, logsnr: Tensor, context: object = None) -> Tensor:
        return self.network(z, times(logsnr)).sample


class OfDenoisingDiffusion(nn.Module):
    """Unet of denoising-diffusion-pytorch, of the size of `peers.py`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        from denoising_diffusion_pytorch import Unet

        super().__init__()
        self.network = Unet(dim=32, dim_mults=(1, 2, 4), channels=shape[0])

    def forward(self, z: Tensor, logsnr: Tensor, context: object = None) -> Tensor:
        return self.network(nn.functional.pad(z, (2, 2, 2, 2)), times(logsnr))[..., 2:-2, 2:-2]  # sides that it can halve


def times(logsnr: Tensor) -> Tensor:
    """Return times from 0 to 1000, as these networks have them: t of x_t = (1 - t) x + t eps, times 1000."""
    return 1000 * torch.sigmoid(-logsnr / 2)


NETWORKS = {"diffusers": OfDiffusers, "denoising_diffusion_pytorch": OfDenoisingDiffusion}


def measured(network: str, source: str, seed: int, lr: float | None, seconds: float, n: int) -> dict[str, object]:
    """Train and evaluate once."""
    torch.manual_seed(seed)
    data = load(source)
    spec = data.spec
    model = None
    if network != "ours":
        net = NETWORKS[network](spec.shape)
        how = {"mean": list(spec.mean), "std": list(spec.std), "bounds": spec.range, "levels": spec.levels}
        model = an.Diffusion(net, shape=spec.shape, target="velocity", **how)
    settings = [f"train.seed={seed}", "train.previews=0", "train.diagnoses=0", "train.memorisation=off"]
    settings += [] if lr is None else [f"train.lr={lr}"]
    place = Path(tempfile.mkdtemp())
    try:
        begun = time.monotonic()
        trained = an.train(data, model=model, budget=f"{seconds:g}s", out=place / "run", settings=tuple(settings), quiet=True)
        took = time.monotonic() - begun
        row = json.loads((place / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        result = an.evaluate(trained, against=source, n=n, how={"steps": 10})
        assert result is not None
        kept = [metric for metric in map(result.__getitem__, result) if metric.name in ("fd-classifier", "fd-efficientnet")]
        size = sum(p.numel() for p in trained.parameters())
        distances = {m.name: [m.value.value, m.value.std_err, m.real and m.real.value] for m in kept}
        return {
            "network": network,
            "parameters": size,
            "source": source,
            "seed": seed,
            "lr": lr,
            "budget": seconds,
            "seconds": round(took, 1),
            "images": row["images"],
            "precision": Runtime.choose("cpu", parameters=size).precision,
            **distances,
        }
    finally:
        shutil.rmtree(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["ours", "diffusers"], choices=["ours", *NETWORKS])
    parser.add_argument("--seconds", type=float, default=220)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, nargs="+", default=[2e-3], help="of the peers' networks (2e-3)")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--source", default="fashion-mnist", help="grey images with classes (fashion-mnist)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    found: dict[tuple[str, float | None], list[float]] = {}
    for seed in range(options.seeds):
        for network in options.network:
            for lr in [None] if network == "ours" else options.lr:
                key = (network, options.source, seed, lr, options.seconds)
                row = next(
                    (r for r in known if tuple(r[k] for k in ("network", "source", "seed", "lr", "budget")) == key), None
                )
                if row is None:
                    row = measured(network, options.source, seed, lr, options.seconds, options.n)
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
                found.setdefault((network, lr), []).append(row["fd-classifier"][0])
    for (network, lr), values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        how = f"{network}, lr {lr or 'default'}"
        print(f"{how}: fd-classifier {statistics.fmean(values):.1f} ± {spread:.1f} over {len(values)} seeds")


if __name__ == "__main__":
    main()
