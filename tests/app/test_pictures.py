"""What is drawn of samples of each kind: names, ranges and labels, by the axes of the drawing and by its pixels."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app import plots
from ancestral.app.data import DataError, load
from ancestral.app.data.arrays import from_columns
from ancestral.app.pictures import film, grid, is_picture, save_animation, strip, tiles, to_uint8

RANDOM = np.random.RandomState(0)


@pytest.fixture
def figure(monkeypatch):
    """The figures that are drawn; they are not rendered."""
    found = []
    monkeypatch.setattr(plots, "render", lambda figure: found.append(figure) or Image.new("RGB", (1, 1)))
    return found


AXES = {"images": "n c h w", "signals": "n c l", "vectors": "n d"}


def named(x, names, kind):
    return from_columns({"x": x, "channel_names": names}, axes=AXES[kind])


def draw(data, n, **how):
    return grid(data.x("train")[:n], data.spec, **how)


def test_each_channel_of_an_array_has_a_panel_with_its_name_and_its_own_scale(figure):
    scales = np.array([1, 10, 1e5, 0.01, 300], np.float32)
    x = RANDOM.rand(60, 5, 8, 8).astype(np.float32) * scales[:, None, None]
    data = named(x, ["a", "b", "c_$d$", "e", "f"], "images")
    assert not is_picture(data.spec)
    draw(data, 6, columns=3)
    panels, bars = figure[0].axes[::2], figure[0].axes[1::2]
    assert [axes.get_title() for axes in panels] == ["a", "b", r"c_\$d\$", "e", "f"]
    for axes, (low, high) in zip(panels, data.spec.limits, strict=True):
        assert axes.images[0].get_clim() == (low, high)
    assert len(bars) == 5


def test_signals_are_never_cut_off_and_unlike_channels_have_axes_of_their_own(figure):
    x = (RANDOM.randn(60, 2, 32) * [[1], [1000]]).astype(np.float32)
    data = named(x, ["speed", "load"], "signals")
    far = data.x("train")[:4].clone()
    far[2, 0, 5] = 50.0  # far beyond the data
    grid(far, data.spec)
    axes = figure[0].axes
    assert len(axes) == 8
    assert [axes[0].get_ylabel(), axes[1].get_ylabel()] == ["speed", "load"]
    assert all(one.get_ylim()[1] > 50 for one in axes[::2])
    assert all(one.get_ylim()[0] < data.spec.limits[1][0] for one in axes[1::2])
    draw(named(x[:, :1].repeat(3, 1), ["x", "y", "z"], "signals"), 4)
    assert len(figure[1].axes) == 4  # channels of like ranges share their axes
    assert [text.get_text() for text in figure[1].legends[0].get_texts()] == ["x", "y", "z"]


@pytest.mark.parametrize("columns", [1, 2, 5, 30])
def test_a_table_has_named_histograms_and_pairs(columns, figure):
    x = RANDOM.randn(200, columns) * 10.0 ** np.arange(columns).clip(0, 6)
    x[:, 0] = 7.0
    data = named(x, [f"name {i}" for i in range(columns)], "vectors")
    draw(data, 150)
    words = {text for axes in figure[0].axes for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())}
    assert {f"name {i}" for i in range(columns)} <= words
    pairs = [axes for axes in figure[0].axes if axes.collections and axes.collections[0].get_offsets().shape == (150, 2)]
    shown = min(columns, 4) if columns > 5 else columns
    assert len(pairs) == shown * (shown - 1) // 2


def test_whole_numbers_have_bars_of_equal_width_and_a_constant_one_bar():
    edges, whole = plots._edges(np.array([0.0, 1.0, 1.0]), 0.0, 1.0)
    assert (edges, whole) == ([-0.5, 0.5, 1.5], True)
    edges, whole = plots._edges(np.arange(18.0, 91.0), 18.0, 90.0)
    assert not whole
    assert np.diff(edges) == pytest.approx(3)
    assert edges[-1] > 90
    edges, whole = plots._edges(np.array([7.0, 7.0]), *plots._open((7.0, 7.0)))
    assert (edges, whole) == ([6.5, 7.5], True)


def test_points_in_the_plane_keep_their_shape_and_groups_have_a_legend(figure):
    data = load("moons")
    draw(data, 40, rows=("data", "reconstruction"))
    assert figure[0].axes[0].get_aspect() == 1.0
    assert [text.get_text() for text in figure[0].legends[0].get_texts()] == ["data", "reconstruction"]


def test_a_path_has_one_scale_and_labels_at_its_ends(figure):
    data = named(RANDOM.randn(60, 1, 16).astype(np.float32), ["u"], "signals")
    frames = [data.x("train")[:2] * share for share in (3.0, 2.0, 1.0)]
    strip(frames, data.spec)
    first = figure[0].axes
    assert [axes.get_title() for axes in first[:3]] == ["noise", "", "samples"]
    film(frames, data.spec)
    assert len({axes.get_ylim() for one in figure[1:] for axes in one.axes}) == 1
    moons = load("moons")
    strip([moons.x("train")[:20]] * 3, moons.spec)
    assert [one.axes[0].get_title() for one in figure[-3:]] == ["noise", " ", "samples"]


def test_transparent_pictures_lie_on_squares_and_missing_values_are_grey():
    x = np.zeros((4, 4, 16, 16), np.uint8)
    x[:2, 3], x[2:, 0] = 255, 9
    data = load(x)
    picture = np.asarray(grid(torch.zeros(1, 4, 16, 16), data.spec))
    assert picture.shape[-1] == 3
    assert set(np.unique(picture[2:-2, 2:-2])) == {204, 255}
    grey = load((RANDOM.rand(9, 1, 8, 8) * 255).astype(np.uint8))
    assert (to_uint8(torch.full((1, 1, 8, 8), torch.nan), grey.spec) == 128).all()


def test_labels_of_several_lines_are_whole():
    """The first and the last line of a label do not reach the edges of its place."""
    sheet = np.asarray(tiles(np.zeros((1, 48, 48, 1), np.uint8), across=["a small disc on the left"]).convert("L"))
    labels = sheet[:-50]
    assert len(labels) == 36
    assert all((labels[top : top + 12] < 128).any() for top in (0, 12, 24))
    assert (labels[0] == 255).all()


def test_labels_stand_beside_the_tiles_and_do_not_change_them():
    data = load((RANDOM.rand(9, 8, 8) * 255).astype(np.uint8))
    bare, labelled = draw(data, 4, columns=2), draw(data, 4, columns=2, rows=("one", "two"), across=("a", "b"))
    assert labelled.height == bare.height + 12
    assert labelled.width > bare.width
    inside = labelled.crop((labelled.width - bare.width, 12, labelled.width, labelled.height)).convert("L")
    assert inside.tobytes() == bare.tobytes()


def test_an_animation_stops_at_its_end_for_a_second_and_a_half(tmp_path):
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
    save_animation(frames, tmp_path / "x.gif")
    durations = []
    with Image.open(tmp_path / "x.gif") as film:
        for i in range(film.n_frames):
            film.seek(i)
            durations.append(film.info["duration"])
    assert durations == [80, 80, 1500]


def test_names_reach_the_description_and_their_number_is_checked():
    x = RANDOM.randn(30, 3)
    data = named(x, ["a", "b", "c"], "vectors")
    assert data.spec.channels == ("a", "b", "c")
    assert np.array(data.spec.limits) == pytest.approx(np.stack([data.x("train").min(0)[0], data.x("train").max(0)[0]], 1))
    assert data.spec.of_latents((2,)).channels == data.spec.of_latents((2,)).limits == ()
    with pytest.raises(DataError, match="2 names are given for 3 channels of the columns: give one for each"):
        named(x, ["a", "b"], "vectors")


def test_every_kind_of_picture_is_in_the_gallery():
    """Each function of a report, and each picture of `sample` and `draw`, is named on the page."""
    root = Path(__file__).parents[2]
    sys.path.insert(0, str(root / "docs" / "_ext"))
    try:
        import gallery
    finally:
        sys.path.pop(0)
    from ancestral.app.cli.sample import FILES
    from ancestral.app.report import figures

    page = (root / "docs" / "gallery.md").read_text() + " ".join(entry.command for entry in gallery.ENTRIES)
    for wish in FILES.keys() - {"sample"}:
        assert f"--{wish}" in page, wish
    for what in ("score", "forward", "backward", "between"):
        assert f"draw {what}" in page, what
    drawn = {entry.name.removesuffix(".png").replace("-", "_") for entry in gallery.ENTRIES if entry.group == "report"}
    assert {"ranking", "losses", "quality_against_time", "quality_against_cost", "neighbours", "distances"} <= drawn
    assert all(hasattr(figures, name) for name in drawn - {"table"})


def test_samples_of_python_are_drawn_with_the_data_or_their_description():
    data = load("digits")
    x = data.x("test")[:6]
    drawn = an.picture(x, data, columns=3)
    assert drawn.size == grid(x, data.spec, 3).size
    assert np.array_equal(an.picture(x, data.spec, columns=3), drawn)
