"""Image files of every mode become the right 8-bit pixels at the right size."""

import errno
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.app.data import load
from ancestral.app.data.decode import decode
from ancestral.app.data.images import ImageError, extent, inspect, inspect_pages, read, read_values
from ancestral.errors import UsageError


def save(path, image, **how):
    image.save(path, **how)
    return path


def pixels(source, size=(4, 4), grey=True):
    return read(source, size, grey)[0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp", "jpg", "jpeg"])
def test_every_format_is_read(tmp_path, suffix):
    how = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix[0] == "j" else {}
    noise = np.random.RandomState(0).randint(256, size=(4, 6), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise), **how)
    np.testing.assert_allclose(pixels(path, (4, 6)), noise[None], atol=3 if suffix[0] == "j" else 0)


def test_rgb_comes_channels_first(tmp_path):
    noise = np.random.RandomState(0).randint(256, size=(4, 6, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(noise))
    assert (inspect(path).height, inspect(path).width, inspect(path).grey) == (4, 6, False)
    np.testing.assert_array_equal(pixels(path, (4, 6), grey=False), noise.transpose(2, 0, 1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)  # 0 .. 65535
    for suffix in ("png", "tiff"):
        path = save(tmp_path / f"a.{suffix}", Image.fromarray(deep))
        assert inspect(path).grey
        np.testing.assert_array_equal(pixels(path), (deep / 257).round()[None])
    big_endian = save(tmp_path / "b.tiff", Image.fromarray(deep.astype(">u2")))
    np.testing.assert_array_equal(pixels(big_endian), (deep / 257).round()[None])


def test_one_bit_is_black_and_white(tmp_path):
    bits = np.eye(4, dtype=bool)
    path = save(tmp_path / "a.png", Image.fromarray(bits))
    assert inspect(path).grey
    np.testing.assert_array_equal(pixels(path), bits[None] * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_becomes_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 2, 4))
    image.putpixel((3, 3), (0, 0, 0, 128))
    if mode == "P":
        image.putpixel((3, 3), (0, 0, 0, 255))
        image = image.convert("P")
        image.info["transparency"] = image.getpixel((0, 0))
        image.putpixel((2, 0), 0 if image.getpixel((0, 0)) else 1)
    path = save(tmp_path / ("a.tiff" if mode == "PA" else "a.png"), image.convert("RGBA" if mode == "PA" else mode))
    found, transparent = read(path, (4, 4), grey=False)
    assert transparent
    assert (found[:, :, :2] == 255).all()
    assert (found[:, 1:3, 2:] == 0).all()
    if mode in ("RGBA", "LA"):
        assert found[0, 3, 3] == 127


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    noise = np.random.RandomState(0).randint(256, size=(4, 4), dtype=np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(noise).convert("LA"))
    found, transparent = read(path, (4, 4), grey=True)
    assert not transparent
    np.testing.assert_array_equal(found[0], noise)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, suffix):
    image = Image.new("L", (6, 4))
    image.paste(255, (0, 0, 3, 4))  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: bright at the top
    path = save(tmp_path / f"a.{suffix}", image, exif=exif)
    assert (inspect(path).height, inspect(path).width) == (6, 4)
    found = pixels(path, (6, 4))[0].astype(int)
    assert found[:2].min() > 200
    assert found[4:].max() < 50


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("L", (4, 4), 250), Image.new("L", (4, 4), 0)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert inspect(path).animated
    assert pixels(path).min() > 240
    assert not inspect(save(tmp_path / "b.gif", frames[0])).animated


def test_cmyk_is_converted(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (4, 4), (255, 0, 0, 0)), quality=100)
    red, green, blue = pixels(path, grey=False).reshape(3, -1).mean(1)
    assert red < 20
    assert green > 230
    assert blue > 230


def test_the_shorter_side_fits_and_the_rest_is_cropped_evenly(tmp_path):
    image = Image.new("L", (12, 4), 0)
    image.paste(255, (4, 0, 8, 4))  # the middle third
    found = pixels(save(tmp_path / "a.png", image), (4, 4))
    assert (found == 255).all()
    assert pixels(save(tmp_path / "b.png", image.rotate(90, expand=True)), (8, 8)).shape == (1, 8, 8)


def test_scaling_down_is_antialiased(tmp_path):
    """Stripes of one pixel become even grey; without a filter they would stay black or white."""
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    found = pixels(save(tmp_path / "a.png", Image.fromarray(stripes)), (8, 8)).astype(int)
    assert abs(found - 127.5).max() < 10


def test_the_content_of_a_file_is_as_good_as_its_path(tmp_path):
    path = save(tmp_path / "a.png", Image.new("L", (4, 4), 9))
    assert (pixels(path.read_bytes()) == 9).all()


def test_files_that_are_broken_say_why(tmp_path):
    noise = Image.fromarray(np.random.RandomState(0).randint(256, size=(64, 64, 3), dtype=np.uint8))
    whole = io.BytesIO()
    noise.save(whole, "png")
    cases = {
        "text": (b"hello", "not an image"),
        "empty": (b"", "not an image"),
        "cut": (whole.getvalue()[:-3000], "broken"),
    }
    for content, reason in cases.values():
        with pytest.raises(ImageError, match=f"^{reason}$") as caught:
            read(content, (4, 4), False)
        assert not caught.value.passing
    floats = save(tmp_path / "f.tiff", Image.fromarray(np.zeros((4, 4), dtype=np.float32)))
    integers = save(tmp_path / "i.tiff", Image.fromarray(np.zeros((4, 4), dtype=np.int32)))
    for path in (floats, integers):
        with pytest.raises(ImageError, match=r"^32-bit pixels have no standard scale beside pictures of 8 or 16 bits$"):
            read(path, (4, 4), True)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.new("L", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"^more than 100 pixels: ANCESTRAL_MEGAPIXELS sets the limit$"):
        inspect(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # less than twice too large is a warning to Pillow
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"^more than 500 pixels: ANCESTRAL_MEGAPIXELS sets the limit$"):
            inspect(path)
    monkeypatch.setenv("ANCESTRAL_MEGAPIXELS", "0.001")
    assert inspect(path).height == 30
    monkeypatch.setenv("ANCESTRAL_MEGAPIXELS", "many")
    with pytest.raises(UsageError, match=r"^ANCESTRAL_MEGAPIXELS must be a number of millions, e\.g\. 200, found 'many'$"):
        inspect(path)


def test_a_reason_that_may_pass_is_marked(tmp_path, monkeypatch):
    for function in (inspect, lambda path: read(path, (4, 4), True)):
        with pytest.raises(ImageError, match=r"^No such file or directory$") as caught:
            function(tmp_path / "missing.png")
        assert caught.value.passing

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(ImageError, match=r"^Permission denied$"):
        inspect(tmp_path / "a.png")


def test_no_memory_is_not_a_broken_file(monkeypatch, tmp_path):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
    for function in (inspect, lambda path: read(path, (4, 4), True)):
        with pytest.raises(MemoryError):
            function(tmp_path / "a.png")


def folder_of(path, pictures, suffix="tif"):
    path.mkdir()
    for i, values in enumerate(pictures):
        Image.fromarray(values).save(path / f"{i:03}.{suffix}")
    return path


def blobs(top, n=12, dtype=np.uint16):
    y, x = np.mgrid[:32, :32]
    heights = (np.exp(-((x - 10 - i) ** 2 + (y - 16) ** 2) / 90) for i in range(n))
    return [(((h - 0.1) / 0.9).clip(0) * top).astype(dtype) for h in heights]


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_16_bit_pictures_of_12_bits_keep_all_values(tmp_path, suffix):
    pictures = blobs(4095)
    data = load(folder_of(tmp_path / "set", pictures, suffix))
    x = torch.cat([data.x("train"), data.x("test")])
    assert (data.spec.kind, data.spec.range) == ("real", (0.0, 4095.0))
    assert set(x.flatten().tolist()) == {float(v) for p in pictures for v in np.unique(p)}
    assert "16-bit pictures with values from 0 to 4,095: kept as real numbers" in data.notes
    assert data.notes == load(tmp_path / "set").notes  # from the cache


def test_counts_of_small_range_keep_their_levels(tmp_path):
    data = load(folder_of(tmp_path / "set", blobs(120)))
    assert (data.spec.kind, data.spec.levels) == ("uint8", 121)
    assert data.x("train").max() == 1
    assert "16-bit pictures with values from 0 to 120: kept as 121 levels" in data.notes
    assert load(tmp_path / "set", size=16).spec.shape == (1, 16, 16)


def test_16_bit_pictures_of_full_range_are_as_they_were(tmp_path):
    pictures = blobs(65535)
    data = load(folder_of(tmp_path / "set", pictures))
    assert data.spec.levels == 256
    found = torch.cat([data.train.array, data.test.array]).sum((1, 2, 3)).sort().values
    assert found.tolist() == sorted(int(np.rint(p / 257).sum()) for p in pictures)
    assert "16-bit pictures with values from 0 to 65,535: reduced to 256 levels" in data.notes


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_tiffs_of_32_bits_keep_their_values(tmp_path, dtype):
    root = folder_of(tmp_path / "set", [p - 1000 for p in blobs(9000, dtype=dtype)])
    data = load(root)
    assert data.spec.range == (-1000.0, 8000.0)
    assert data.spec.shape == (1, 32, 32)
    Image.fromarray(np.full((32, 32), np.nan, np.float32)).save(root / "nan.tif")
    assert "left out 1 file: nan.tif (values that are not finite)" in load(root).notes
    smaller = load(root, size=8)
    assert smaller.spec.range[0] >= -1000  # the filter does not overshoot
    assert smaller.spec.range[1] <= 8000


def sheets(path, pictures, **how):
    pages = [Image.fromarray(picture) for picture in pictures]
    pages[0].save(path, save_all=True, append_images=pages[1:], **how)


def sums(data):
    return sorted(torch.cat([data.x("train"), data.x("test")]).double().sum((1, 2, 3)).tolist())


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (4095, np.uint16), (0.5, np.float32)])
def test_each_page_of_a_tiff_is_an_image(tmp_path, top, dtype):
    """In a folder, with the class of its file, and in one file, as well as in files of one page."""
    pictures = blobs(top, dtype=dtype)
    single = load(folder_of(tmp_path / "single", pictures))
    for name, some in (("a", pictures[:9]), ("b", pictures[9:])):
        (tmp_path / "set" / name).mkdir(parents=True)
        sheets(tmp_path / "set" / name / "x.tif", some)
    data = load(tmp_path / "set")
    assert sums(data) == pytest.approx(sums(single))
    assert torch.cat([data.train.labels, data.test.labels]).bincount().tolist() == [9, 3]
    assert "12 pages of TIFFs with several pages: each page is an image" in data.notes
    sheets(tmp_path / "all.tif", pictures)
    stack = load(tmp_path / "all.tif")
    assert (stack.spec.name, sums(stack)) == ("all", pytest.approx(sums(single)))


def test_more_pages_than_are_read_at_once_keep_their_order(tmp_path):
    sheets(tmp_path / "all.tif", [np.full((2, 2), i, np.uint8) for i in range(150)])
    data = load(tmp_path / "all.tif")
    assert sorted(torch.cat([data.train.array, data.test.array])[:, 0, 0, 0].tolist()) == list(range(150))
    decoded = decode("x", ["all.tif"], [tmp_path / "all.tif"], None)
    assert decoded.pixels[:, 0, 0, 0].tolist() == list(range(150))
    assert decoded.kept.tolist() == [0] * 150


def test_smaller_copies_and_broken_pages_are_left_out(tmp_path):
    pages = [Image.fromarray(p) for p in blobs(255, n=3, dtype=np.uint8)]
    smaller = pages[0].resize((8, 8))
    smaller.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "all.tif", save_all=True, append_images=[smaller, *pages[1:]])
    assert len(inspect_pages(tmp_path / "all.tif")) == 3
    assert load(tmp_path / "all.tif").spec.shape == (1, 32, 32)


def test_what_pillow_cannot_read_in_full_is_said(tmp_path):
    """16-bit grey with an alpha channel, of which Pillow gives 8 bits, and TIFFs of other kinds."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(deep_png(np.full((4, 4, 2), 300 * i + 500)))
    (tmp_path / "x.tif").write_bytes(b"II*\0" + bytes(40))
    notes = load(tmp_path).notes
    assert "left out 1 file: x.tif (a TIFF of a kind that Pillow does not read: save it as .npy)" in notes
    assert any(
        "3 images with 16-bit values of a kind that Pillow reads in 8 bits: reduced to 256 levels" in note for note in notes
    )


def deep_png(pixels):
    """A PNG of 16 bits a channel, whose rows are differences to the row above. Pillow cannot write it in colour."""
    values = pixels.astype(">u2").view(np.uint8).reshape(len(pixels), -1)
    rows = b"".join(b"\2" + row.tobytes() for row in np.diff(values, axis=0, prepend=np.zeros_like(values[:1])))
    kind = {2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep_tiff(pages, order, packed, orientation=1):
    """A TIFF of pages of 16-bit colours `(H, W, 3)`, in either order of bytes, with or without compression."""
    content = {"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4)
    pointer = 4
    for pixels in pages:
        strip = pixels.astype(order + "u2").tobytes()
        strip = zlib.compress(strip) if packed else strip
        at, bits = len(content), len(content) + len(strip)
        content += strip + struct.pack(order + "3H", 16, 16, 16)
        height, width, _ = pixels.shape
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 4, 1, 8 if packed else 1), (262, 4, 1, 2)]
        tags += [(273, 4, 1, at), (274, 4, 1, orientation), (277, 4, 1, 3), (278, 4, 1, height), (279, 4, 1, len(strip))]
        content = content[:pointer] + struct.pack(order + "I", len(content)) + content[pointer + 4 :]
        content += struct.pack(order + "H", len(tags)) + b"".join(struct.pack(order + "HHII", *tag) for tag in tags)
        pointer = len(content)
        content += bytes(4)
    return content


def colours(top, n=12):
    return [np.stack([p, p[::-1], p.T], axis=-1) for p in blobs(top, n)]


WAYS = {
    "png": lambda pictures: [deep_png(p) for p in pictures],
    "opaque.png": lambda pictures: [deep_png(np.dstack([p, np.full(p.shape[:2], 65535)])) for p in pictures],
    "<.tif": lambda pictures: [deep_tiff([p], "<", False) for p in pictures],
    ">.tif": lambda pictures: [deep_tiff([p], ">", False) for p in pictures],
    "<packed.tif": lambda pictures: [deep_tiff([p], "<", True) for p in pictures],
    ">packed.tif": lambda pictures: [deep_tiff([p], ">", True) for p in pictures],
    "pages.tif": lambda pictures: [deep_tiff(pictures, ">", True)],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("top", [4095, 120])
def test_16_bit_colours_of_small_range_keep_their_values(tmp_path, way, top):
    """All of them, in their channels: real numbers from 12-bit data, and counts."""
    for i, content in enumerate(WAYS[way](colours(top))):
        (tmp_path / f"{i:02}.{way}").write_bytes(content)
    data = load(tmp_path)
    assert data.spec.shape == (3, 32, 32)
    values = torch.cat([data.x("train"), data.x("test")]) * (1 if data.spec.levels is None else data.spec.levels - 1)
    found = {tuple(map(tuple, x.reshape(3, -1).round().int().tolist())) for x in values}
    assert found == {tuple(map(tuple, p.transpose(2, 0, 1).reshape(3, -1).tolist())) for p in colours(top)}
    kept = "121 levels" if top == 120 else "real numbers"
    assert f"16-bit pictures with values from 0 to {top:,}: kept as {kept}" in data.notes
    assert load(tmp_path, size=16).spec.shape == (3, 16, 16)


def test_16_bit_colours_of_full_range_or_with_transparency_have_256_levels(tmp_path):
    full, clear = tmp_path / "full", tmp_path / "clear"
    hole = np.pad(np.zeros((8, 8)), ((0, 24), (24, 0)), constant_values=65535)
    for folder in (full, clear):
        folder.mkdir()
    for i, (wide, dark) in enumerate(zip(colours(65535), colours(900), strict=True)):
        (full / f"{i}.png").write_bytes(deep_png(wide))
        (clear / f"{i}.png").write_bytes(deep_png(np.dstack([dark, hole])))
    for folder in (full, clear):
        assert load(folder).spec.levels == 256
        assert any(note.endswith(": reduced to 256 levels") for note in load(folder).notes)
    pixels, _ = read(deep_png(np.dstack([colours(900)[0], np.full((32, 32), 65535)])), (32, 32), False)
    assert pixels.max() == 900 >> 8


def test_transparent_16_bit_colours_are_composited_on_white():
    content = deep_png(np.dstack([np.full((2, 2, 3), 1000), np.full((2, 2), 13107)]))  # a fifth opaque
    assert extent(content) == (52628.0, 52628.0, True)  # 1000 / 5 + 65535 * 4 / 5


def test_16_bit_colours_are_turned_upright():
    pixels = colours(4095)[0][:20]
    found = read_values(deep_tiff([pixels], "<", True, orientation=6), (32, 20), False)
    assert np.array_equal(found, np.rot90(pixels, -1).transpose(2, 0, 1))


def test_a_grey_picture_among_deep_colours_has_equal_channels(tmp_path):
    for i, p in enumerate(colours(4095)):
        (tmp_path / f"{i}.png").write_bytes(deep_png(p))
    Image.fromarray(np.full((32, 32), 777, np.uint16)).save(tmp_path / "grey.png")
    data = load(tmp_path)
    found = torch.cat([data.x("train"), data.x("test")])
    assert (found == 777).all((1, 2, 3)).sum() == 1


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"^not a regular file$"):
        inspect(tmp_path / "x.png")
