"""Draw samples from an exported model. This file needs numpy and the runtime of the export, and no other file of ancestral.
Conditions on texts also need the package tokenizers.

    python runner.py -n 16 --seed 0 --out samples.png

    model = Exported("folder")
    x = model.sample(16, seed=0)

The runtime is onnxruntime for `.onnx`, openvino for `.xml` and torch for `.pt2`. A seed gives the same sample as in ancestral,
because the noise has the same generator: draw j of the sample with seed s is from Philox with the key (s, j).
"""

from __future__ import annotations

import argparse
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Graph = Callable[[Sequence[Array]], Array]
CONFIG = "config.json"
FORMAT = 1
BATCH = 32  # samples at a time
MASK = (1 << 64) - 1


class ExportError(ValueError):
    """The export is damaged, its runtime is missing, or the request does not fit it."""


class Exported:
    """An exported model.

    Args:
        folder: the folder that `ancestral export` wrote.
        precision: the arithmetic, "fp32" or, for openvino, "bf16", which is faster and less exact.
        threads: the number of threads. None: the runtime chooses.

    Raises:
        ExportError: if a file is missing or damaged, or the runtime is not installed.
    """

    def __init__(self, folder: str | Path, precision: str = "fp32", threads: int | None = None):
        self.folder = Path(folder)
        self.config = read_config(self.folder)
        format, graphs = self.config["format"], self.config["graphs"]
        for name, graph in graphs.items():
            for file, checksum in graph["files"].items():
                if digest(self.folder / file) != checksum:
                    raise ExportError(f"{self.folder / file} is damaged or not the {name} of {CONFIG}: export the model again")
        if precision != "fp32" and format != "openvino":
            raise ExportError(f"only openvino has another arithmetic than fp32; got precision={precision!r}")
        files = {name: self.folder / next(iter(graph["files"])) for name, graph in graphs.items()}
        self.graphs: dict[str, Graph] = {name: RUNTIMES[format](file, precision, threads) for name, file in files.items()}
        self.threads = threads
        self.readers: dict[str, Reader] = {}  # of texts, loaded with the first text

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        guidance: float | None = None,
        **conditions: Any,
    ) -> Array:
        """Draw n samples `(n, *shape)`, float32, in the units of the data.

        Args:
            n: the number of samples. None: that of the seeds, or 16.
            seed: the first of n consecutive seeds, as `ancestral sample --seed` counts them.
            seeds: one seed for each sample instead.
            guidance: the scale of guidance, which only an exported network can change. None: that of the export.
            **conditions: e.g. `**{"class": "cat"}`: one value for all samples, or a list of n. A class is a name or a number;
                `number` is a row of numbers, NaN for one that is left open; `text` is a text, for which the package tokenizers
                is needed; all other kinds are arrays as `config.json` says.

        Raises:
            ExportError: if the request does not fit the model.
        """
        chosen = [(seed << 32) + i for i in range(n or 16)] if seeds is None else [int(s) for s in seeds]
        if n is not None and n != len(chosen):
            raise ExportError(f"{len(chosen)} seeds are given for {n} samples: leave n out")
        return self.draw(chosen, self.inputs(len(chosen), self.raw(len(chosen), conditions)), guidance)

    def draw(self, seeds: Sequence[int], given: Sequence[Array] = (), guidance: float | None = None) -> Array:
        """Draw a sample for each seed, `BATCH` at a time. given: as `inputs` returns it."""
        parts = [slice(i, i + BATCH) for i in range(0, len(seeds), BATCH)]
        return np.concatenate([self._part(seeds[part], [a[part] for a in given], guidance) for part in parts])

    def _part(self, seeds: Sequence[int], given: Sequence[Array], guidance: float | None) -> Array:
        noise = self.noise(seeds)
        if "denoiser" in self.graphs:
            return self._denoised(noise[0], given, guidance)
        if guidance is not None:
            raise ExportError("guidance is part of the exported graph: leave it out")
        (graph,) = self.graphs.values()
        return graph([*noise, *given])

    def _denoised(self, z: Array, given: Sequence[Array], guidance: float | None) -> Array:
        """Draw samples with the exported denoiser by DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12, with sigma = 0)."""
        sampler = self.config["sampler"]
        scale = sampler["guidance"] if guidance is None else guidance
        without = [np.zeros_like(a) if a.dtype == bool else a for a in given]
        levels = sampler["levels"]
        x: Array = np.float32(hypot(*levels[0])) * z
        for (alpha, sigma), (alpha_s, sigma_s) in pairwise(levels):
            x_hat = self.denoise(x, alpha, sigma, given)
            if scale != 1 and given:
                null = self.denoise(x, alpha, sigma, without)
                x_hat = null + np.float32(scale) * (x_hat - null)
            if sampler["clip"] is not None:
                x_hat = np.clip(x_hat, *(_column(limit, x) for limit in sampler["clip"]))
            eps = (x - np.float32(alpha) * x_hat) / np.float32(sigma)
            x = np.float32(alpha_s) * x_hat + np.float32(sigma_s) * eps
        return self.graphs["decoder"]([x]) if "decoder" in self.graphs else self.to_data(x)

    def denoise(self, x_t: Array, alpha: float, sigma: float, given: Sequence[Array] = ()) -> Array:
        """Return E[x | x_t] for x_t = alpha x + sigma eps `(n, *shape)` in model units, with conditions as of `inputs`."""
        level = [np.full(len(x_t), v, dtype=np.float32) for v in (alpha, sigma)]
        return self.graphs["denoiser"]([x_t, *level, *given])

    def to_data(self, z: Array) -> Array:
        """Convert model units to the units of the data."""
        x: Array = z * _column(self.config["std"], z) + _column(self.config["mean"], z)
        bounds = self.config["bounds"]
        return x if bounds is None else np.clip(x, np.float32(bounds[0]), np.float32(bounds[1]))

    def noise(self, seeds: Sequence[int]) -> list[Array]:
        """Return the random numbers of samples with these seeds, `(n, *shape)` for each draw of the model."""
        draws = []
        for j, (method, shape) in enumerate(self.config["noise"], start=1):
            rows = [_generator(seed, j) for seed in seeds]
            kind = {"normal": "standard_normal", "uniform": "random"}[method]
            draws.append(np.stack([getattr(row, kind)(tuple(shape), dtype=np.float32) for row in rows]))
        return draws

    def raw(self, n: int, values: Mapping[str, Any]) -> dict[str, Array]:
        """Return the arrays of conditions of n samples from the caller's values. Raises ExportError for a wrong value."""
        kinds = self.config["conditions"]
        for name in values:
            if name not in kinds:
                known = ", ".join(kinds) or "none"
                raise ExportError(f"this model was not exported with the condition {name!r}; its conditions: {known}")
        return {
            name: self._read(name, kinds[name], value, n) if _is_text(kinds[name], value) else _raw(name, kinds[name], value, n)
            for name, value in values.items()
        }

    def _read(self, name: str, kind: Mapping[str, Any], value: Any, n: int) -> Array:
        """Return the values of n texts, or of one for all, `(n, ...)`."""
        texts = [value] * n if isinstance(value, str) else list(value)
        if name not in self.readers:
            self.readers[name] = Reader(self.folder, self.config["format"], kind, self.threads)
        return self.readers[name](texts)

    def inputs(self, n: int, raw: Mapping[str, Array]) -> list[Array]:
        """Return the inputs of a graph for the conditions of n samples.

        They are two for each kind: its values `(n, ...)`, and whether they are given, bool `(n,)`.
        """
        inputs = []
        for name, kind in self.config["conditions"].items():
            shape = (n, *kind["shape"])
            if name in raw and raw[name].shape != shape:
                raise ExportError(f"the condition {name} of {n} samples has the shape {shape}, and {raw[name].shape} is given")
            value = raw[name].astype(kind["dtype"]) if name in raw else np.zeros(shape, dtype=kind["dtype"])
            inputs += [value, np.full(n, name in raw)]
        return inputs


class Reader:
    """A reader of texts: texts -> the values of their condition `(n, length, ...)`, as the model was trained with them.

    The tokenizer is that of the package tokenizers. Its numbers are the values, or an encoder computes vectors from them.

    Args:
        folder: the folder of the export.
        format: the format of the encoder.
        kind: the description of the condition.
        threads: as of `Exported`.

    Raises:
        ExportError: if a file is damaged, or a package is missing.
    """

    def __init__(self, folder: Path, format: str, kind: Mapping[str, Any], threads: int | None):
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ExportError("texts need the package tokenizers: pip install tokenizers") from None
        self.kind, self.length = kind, kind["shape"][0]
        for file, checksum in kind["files"].items():
            if digest(folder / file) != checksum:
                raise ExportError(f"{folder / file} is damaged: export the model again")
        self.tokenizer = Tokenizer.from_file(str(folder / kind["tokenizer"]))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.encoder = None if kind["encoder"] is None else RUNTIMES[format](folder / kind["encoder"], "fp32", threads)

    def __call__(self, texts: Sequence[str]) -> Array:
        """Return the values of texts. Raises ExportError for one that is too long or has an unknown word."""
        numbers = np.zeros((len(texts), self.length), dtype=np.int64)
        for i, text in enumerate(texts):
            row = self.numbers(text)
            numbers[i, : len(row)] = row
        if self.encoder is None:
            return numbers
        out: Array = np.zeros((len(texts), *self.kind["shape"]), dtype=np.float16)
        told = [i for i, text in enumerate(texts) if text]  # the empty text is the null, all 0
        for part in (told[i : i + BATCH] for i in range(0, len(told), BATCH)):
            out[part] = self.encoder([numbers[part]])
        return out

    def numbers(self, text: str) -> list[int]:
        """Return the numbers of the tokens of a text."""
        words = self.kind["words"]
        for word in [] if words is None else self._words(text):
            if word not in words:
                raise ExportError(f"no text of the training data has the word {word!r}: its words are in {CONFIG}")
        row = [*self.kind["first"], *self.tokenizer.encode(text).ids]
        if text and len(row) > self.length:
            raise ExportError(f"the text {text!r} has {len(row)} tokens, and the longest caption had {self.length}: shorten it")
        return row[: self.length]

    def _words(self, text: str) -> list[str]:
        split = self.tokenizer.pre_tokenizer.pre_tokenize_str(self.tokenizer.normalizer.normalize_str(text))
        return [word for word, _ in split]


def read_config(folder: Path) -> dict[str, Any]:
    """Read the description of an export. Raises ExportError if it is missing, damaged or of another version."""
    file = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        checksum = config.pop("checksum")
    except FileNotFoundError:
        raise ExportError(f"{file} is missing: give a folder that `ancestral export` wrote") from None
    except (ValueError, KeyError, AttributeError, OSError, RecursionError):
        raise ExportError(f"{file} is damaged: export the model again") from None
    if checksum != digest_of(config):
        raise ExportError(f"{file} was changed: export the model again")
    if config["export"] != FORMAT:
        raise ExportError(
            f"{file} has version {config['export']}, and this program reads {FORMAT}: use the runner.py beside it"
        )
    return config


def digest_of(config: Mapping[str, Any]) -> str:
    """Return the BLAKE2b hash of a description."""
    return blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16).hexdigest()


def digest(file: Path) -> str:
    """Return the BLAKE2b hash of a file. Raises ExportError if there is none."""
    try:
        return blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        raise ExportError(f"{file} cannot be read: export the model again") from None


def _generator(seed: int, draw: int) -> np.random.Generator:
    if not 0 <= seed <= MASK:
        raise ExportError(f"a sample's seed must be a whole number from 0 to 2^64 - 1; got {seed}")
    return np.random.Generator(np.random.Philox(key=np.array([seed, draw], dtype=np.uint64)))


def _column(values: Sequence[float], x: Array) -> Array:
    """Return numbers for each channel, so that they broadcast against x `(n, c, *space)`."""
    return np.array(values, dtype=np.float32).reshape(-1, *[1] * (x.ndim - 2))


def _is_text(kind: Mapping[str, Any], value: Any) -> bool:
    """Return whether a value is a text or several, and not the array that a graph takes."""
    if kind["kind"] != "text":
        return False
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(text, str) for text in value))


def _raw(name: str, kind: Mapping[str, Any], value: Any, n: int) -> Array:
    """Return the values of one kind of condition `(n, ...)`."""
    if kind["kind"] == "class":
        single = isinstance(value, str) or np.ndim(value) == 0
        labels = [_label(v, kind["names"]) for v in ([value] * n if single else value)]
        return np.array(labels, dtype=kind["dtype"])
    try:
        raw = np.asarray(value, dtype=kind["dtype"])
    except (ValueError, TypeError):
        raise ExportError(f"the condition {name} is an array of {kind['dtype']}, found {value!r}") from None
    return np.broadcast_to(raw, (n, *kind["shape"])).copy() if raw.shape in ((), tuple(kind["shape"])) else raw


def _label(value: Any, names: Sequence[str]) -> int:
    if str(value) in names:
        return names.index(str(value))
    if str(value).isdigit() and int(value) < len(names) and not any(name.removeprefix("-").isdigit() for name in names):
        return int(value)
    raise ExportError(f"unknown class {str(value)!r}: choose {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}")


def _onnx(file: Path, precision: str, threads: int | None) -> Graph:
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("this export needs the package onnxruntime: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])


def _openvino(file: Path, precision: str, threads: int | None) -> Graph:
    try:
        import openvino
    except ImportError:
        raise ExportError("this export needs the package openvino: pip install openvino") from None
    how: dict[str, Any] = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    how |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(str(file), "CPU", how)
    return lambda inputs: np.array(model(list(inputs))[0])


def _torch(file: Path, precision: str, threads: int | None) -> Graph:
    try:
        import torch
    except ImportError:
        raise ExportError("this export needs the package torch: pip install torch") from None
    module = torch.export.load(file).module()

    def run(inputs: Sequence[Array]) -> Array:
        with torch.no_grad():
            return np.asarray(module(*map(torch.from_numpy, inputs)).numpy())

    return run


RUNTIMES = {"onnx": _onnx, "openvino": _openvino, "pt2": _torch}


def picture(x: Array, bounds: tuple[float, float]) -> Array:
    """Return images `(n, c, h, w)` side by side as one image `(height, width, 1 or 3)`, uint8."""
    n, c, h, w = x.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    y = np.zeros((rows * columns, 3 if c >= 3 else 1, h, w), dtype=np.uint8)
    y[:n] = np.rint(255 * np.clip((x[:, : y.shape[1]] - bounds[0]) / (bounds[1] - bounds[0]), 0, 1)).astype(np.uint8)
    return y.reshape(rows, columns, -1, h, w).transpose(0, 3, 1, 4, 2).reshape(rows * h, columns * w, -1)


def png(pixels: Array) -> bytes:
    """Return an image `(h, w, 1 or 3)`, uint8, as a PNG."""
    h, w, c = pixels.shape
    lines = np.concatenate([np.zeros((h, 1), dtype=np.uint8), pixels.reshape(h, w * c)], 1)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", w, h, 8, 0 if c == 1 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw samples as a command."""
    parser = argparse.ArgumentParser(description="Draw samples from the exported model in this folder.")
    parser.add_argument(
        "folder", nargs="?", default=Path(__file__).parent, help="folder of the export (default: that of this file)"
    )
    parser.add_argument("-n", type=int, default=16, help="number of samples")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument(
        "--condition", action="append", default=[], metavar="NAME=VALUE", help="e.g. class=3, number=0.5 or text=..."
    )
    parser.add_argument("--guidance", type=float, help="strength of the condition, for an exported network")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="a .png of images, or a .npy array")
    asked = parser.parse_args(arguments)
    try:
        given = [text.partition("=") for text in asked.condition]
        model = Exported(asked.folder)
        kinds = {name: kind["kind"] for name, kind in model.config["conditions"].items()}
        conditions = {name: value if kinds.get(name) in ("class", "text") else json.loads(value) for name, _, value in given}
        x = model.sample(asked.n, seed=asked.seed, guidance=asked.guidance, **conditions)
        if asked.out.suffix == ".npy":
            np.save(asked.out, x)
        elif x.ndim == 4 and asked.out.suffix == ".png":
            bounds = model.config["bounds"] or (float(x.min()), float(x.max()))
            asked.out.write_bytes(png(picture(x, bounds)))
        else:
            raise ExportError(f"cannot write {asked.out}: --out takes .npy, and .png for images")
    except (ExportError, OSError, ValueError, RecursionError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{len(x)} samples: {asked.out}")


if __name__ == "__main__":
    main()
