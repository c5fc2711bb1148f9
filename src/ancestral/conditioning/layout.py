"""Conditions on a layout, which is a set of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.conditioning.classes import index_of
from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Transformer, fourier
from ancestral.conditioning.render import Rendering
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.transfer import onto

SPATIAL = 13  # channels for a box's class, in addition to the three of `paint`


@configurable
class LayoutCondition(Condition):
    """A condition on a set of boxes with classes, which gives tokens, a vector and channels.

    There is a token for each box and one for the whole layout. The order of boxes has no meaning. A box's token is an MLP of
    the embedding of its class and of the Fourier features of its edges. Attention between tokens relates boxes to each other.
    Boxes are also painted as channels, so that even a small network has their contents at each position.

    Raw tensors are `(n, most, 5)` with rows (class, left, top, width, height), where the last four are shares of the canvas and
    class -1 means no box.

    Args:
        names: of the classes.
        most: the largest number of boxes of a sample.
        canvas: the height and width, in pixels, to which boxes refer.
        space: height and width of the channels.
        width: of the tokens and the vector.
    """

    source = "boxes"

    def __init__(self, names: Sequence[str], most: int, canvas: Sequence[int], space: Sequence[int], width: int):
        super().__init__()
        self.names, self.most = tuple(names), most
        self.canvas, self.space = tuple(canvas), tuple(space)
        self.table = nn.Embedding(len(names), width)
        self.box = nn.Sequential(nn.Linear(width + 4 * 13, width), nn.SiLU(), nn.Linear(width, width))
        self.whole = nn.Parameter(torch.randn(2, width))  # the token of the whole layout, and that of no layout
        self.encoder = Transformer(width)
        self.pool = nn.Linear(width, width)
        self.colours = nn.Embedding(len(names), SPATIAL)
        self.null = nn.Parameter(torch.zeros(SPATIAL + 3, 1, 1))
        self.widths = ContextShape(vector=width, tokens=width, channels=SPATIAL + 3)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.names, self.most)

    @property
    def numbers(self) -> int:
        """The length of a row of the raw tensor."""
        return 5

    def column(self, values: Sequence[Tensor]) -> Tensor:
        return torch.stack([self._padded(rows[: self.most]) for rows in values])

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor from one layout, or n layouts.

        A layout is a list of boxes [class, left, top, width, height] in pixels, or in the format of Hugging Face {"bbox":
        [[left, top, width, height], ...], "categories": [class, ...]}. A class is a name or a number.
        """
        if isinstance(value, Tensor):
            return value
        several = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and not _is_box(value[0])
        return one_or_each(value, n, not several, "layouts", self._read)

    def mirror(self, raw: Tensor) -> Tensor:
        mirrored, (label, left, _, width, *_) = raw.clone(), raw.unbind(-1)
        mirrored[..., 1] = torch.where(label < 0, left, 1 - left - width)
        return mirrored

    def render(self, raw: Tensor) -> Rendering:
        rows = [row for row in raw if row[0] >= 0]
        return Rendering(boxes=tuple((*self.name(row), *row[1:5].tolist()) for row in rows))

    def name(self, row: Tensor) -> tuple[int, str]:
        """Return the number of a box's class, for its colour, and the name of its content."""
        return int(row[0]), self.names[int(row[0])]

    def number(self, label: Any) -> list[float]:
        """Return the numbers for a class, by name or number, in a raw box. Raises UsageError for an unknown class."""
        return [index_of(label, self.names, "class")]

    def embed(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the contents of boxes `(n, k, ...)`: `(n, k, width)` for tokens, `(n, k, SPATIAL)` for painted channels."""
        label = raw[..., 0].long().clamp(min=0)
        return self.table(label), self.colours(label)

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        device = self.whole.device
        none = torch.full((n, self.most, self.numbers), -1.0, device=device)
        drop = torch.zeros(n, dtype=torch.bool, device=device) if drop is None else onto(drop, device)
        if raw is None:
            raw, drop = none, torch.ones_like(drop)
        raw = where(drop, none, onto(raw, device))
        real = raw[..., 0] >= 0
        edges = torch.cat([raw[..., 1:3], raw[..., 1:3] + raw[..., 3:5]], -1)
        held, colours = self.embed(raw)
        boxes = self.box(torch.cat([held, fourier(edges)], -1))
        tokens = torch.cat([self.whole[drop.long()][:, None], boxes], 1)
        mask = torch.cat([torch.ones_like(real[:, :1]), real], 1)
        tokens = self.encoder(tokens, mask)
        channels = where(drop, self.null, self.paint(colours, edges, real))
        return Context(vector=self.pool(tokens[:, 0]), tokens=tokens, mask=mask, channels=channels)

    def paint(self, colours: Tensor, edges: Tensor, real: Tensor) -> Tensor:
        """Paint boxes `(n, k)` with edges (left, top, right, bottom) in shares as channels `(n, SPATIAL + 3, *space)`.

        Each pixel has a sum over boxes. A term is the share of the pixel that the box covers, times the box's colour, 1, and
        the position of the pixel in the box, from -1 to 1 across and down.
        """
        h, w = self.space
        left, top, right, bottom = edges.unbind(-1)
        across, x = _cover(left, right, w)
        down, y = _cover(top, bottom, h)
        down = down * real[..., None]
        whole = torch.stack([torch.ones_like(across), x], 2) * across[..., None, :]  # (n, k, 2, w)
        coverage = torch.einsum("nkh,nkcw->nchw", down, whole)
        vertical = torch.einsum("nkh,nkw->nhw", down * y, across)[:, None]
        coloured = torch.einsum("nkc,nkh,nkw->nchw", colours, down, across)
        return torch.cat([coloured, coverage, vertical], 1)

    def _read(self, layout: Any) -> Tensor:
        if isinstance(layout, Mapping):
            try:
                layout = [[c, *box] for box, c in zip(layout["bbox"], layout["categories"], strict=True)]
            except (KeyError, TypeError, ValueError):
                raise UsageError('a layout is written {"bbox": [[x, y, w, h], ...], "categories": [class, ...]}') from None
        if not isinstance(layout, Sequence) or isinstance(layout, str):
            raise UsageError(f"a layout is a list of boxes [class, left, top, width, height], found {layout!r}")
        height, width = self.canvas
        rows = []
        for box in layout:
            if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 5:
                raise UsageError(f"a box is written [class, left, top, width, height], found {box!r}")
            (label, *more), place = self.number(box[0]), box[1:]
            if not all(isinstance(v, int | float) for v in place):
                raise UsageError(f"left, top, width and height of a box are numbers of pixels, found {place!r}")
            x, y, w, h = place
            if w <= 0 or h <= 0 or x < 0 or y < 0 or x + w > width or y + h > height:
                raise UsageError(
                    f"the box {list(place)} (left, top, width, height) does not lie within {width}x{height} pixels"
                )
            rows.append([label, x, y, w, h, *more])
        if len(rows) > self.most:
            raise UsageError(f"a layout of {len(rows)} boxes, and no training sample had more than {self.most}: give fewer")
        return self._padded(torch.tensor(rows, dtype=torch.float32).view(-1, self.numbers))

    def _padded(self, rows: Tensor) -> Tensor:
        height, width = self.canvas
        shares = rows.float()
        shares[:, 1:5] /= torch.tensor([width, height, width, height])
        return torch.cat([shares, torch.full((self.most - len(rows), self.numbers), -1.0)])


def _cover(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return, for intervals `(n, k)` in shares, their coverage of `size` cells and the cells' positions in them.

    Both are `(n, k, size)`. Coverage is the share of each cell that is covered. Positions are from -1 to 1.
    """
    cell = torch.arange(size, device=low.device)
    a, b = size * low[..., None], size * high[..., None]
    covered = (torch.minimum(b, cell + 1.0) - torch.maximum(a, cell.float())).clamp(0, 1)
    place = (2 * (cell + 0.5 - a) / (b - a).clamp(min=1e-6) - 1).clamp(-1, 1)
    return covered, place


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and isinstance(value[0], str | int)
