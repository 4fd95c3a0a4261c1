"""From bytes to pixels: colour, orientation, the three fits, and what becomes of bad input."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import timm.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import BadImage, OptionError
from pipeline.features.backbone import transform as images
from pipeline.features.backbone.transform import Transform, decode, to_pixels, view

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def transform(size=32, mode="squash", interpolation="bicubic", crop_pct=0.875):
    return Transform(size, mode, interpolation, (0.5, 0.4, 0.2), (0.2, 0.2, 0.2), crop_pct)


def encoded(picture: Image.Image, kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def scene(width=60, height=80) -> Image.Image:
    """Smooth, asymmetric in both directions, different in every channel."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [x * y, 0.5 + 0.5 * np.sin(5 * x + 2 * y), (1 - y) ** 2]
    return Image.fromarray((255 * np.stack(channels, axis=-1)).astype(np.uint8))


def noise(width=60, height=80) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


class TestFits:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("size", [(60, 80), (80, 60), (33, 200), (20, 20)])
    def test_crop_is_timms_evaluation_transform(self, size, interpolation):
        picture = scene(*size)
        make = timm.data.create_transform((3, 32, 32), interpolation=interpolation, crop_pct=0.875, normalize=False)
        expected = make(picture).permute(1, 2, 0).numpy().astype(int)
        got = to_pixels(encoded(picture), transform(mode="crop", interpolation=interpolation)).astype(int)
        assert np.abs(got - expected).max() <= 1

    def test_crop_of_noise_is_timms_within_rounding(self):
        make = timm.data.create_transform((3, 32, 32), interpolation="bicubic", crop_pct=0.875, normalize=False)
        expected = make(noise()).permute(1, 2, 0).numpy().astype(int)
        difference = np.abs(to_pixels(encoded(noise()), transform(mode="crop")).astype(int) - expected)
        assert difference.max() <= 6
        assert difference.mean() < 0.5

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    def test_squash_is_pillows_resize(self, interpolation):
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        expected = np.asarray(scene().resize((32, 32), filters[interpolation])).astype(int)
        got = to_pixels(encoded(scene()), transform(interpolation=interpolation)).astype(int)
        assert np.abs(got - expected).max() <= 1

    def test_pad_keeps_the_aspect_ratio_and_fills_with_the_mean_colour(self):
        pixels = to_pixels(encoded(Image.new("RGB", (10, 20), BLUE)), transform(size=8, mode="pad"))
        assert pixels[:, 2:6].tolist() == [[list(BLUE)] * 4] * 8
        assert pixels[:, [0, 1, 6, 7]].tolist() == [[[128, 102, 51]] * 4] * 8

    def test_a_photo_of_the_right_size_is_not_touched(self):
        assert np.array_equal(to_pixels(encoded(noise(32, 32)), transform()), np.asarray(noise(32, 32)))

    @pytest.mark.parametrize("mode", images.RESIZE_MODES)
    @pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (10, 20_000), (3, 1)])
    def test_any_shape_of_photo_becomes_pixels(self, mode, size):
        pixels = to_pixels(encoded(Image.new("RGB", size, GREEN)), transform(mode=mode))
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
        assert pixels[16, 16].tolist() == list(GREEN) or mode == "pad"

    def test_unknown_choices_are_named(self):
        with pytest.raises(OptionError, match="resize mode is 'stretch'; it can be crop, squash, pad"):
            transform(mode="stretch")
        with pytest.raises(OptionError, match="interpolation is 'random'; it can be bilinear, bicubic"):
            transform(interpolation="random")
        with pytest.raises(OptionError, match="size is 0; it must be at least 1 pixel"):
            transform(size=0)


class TestColour:
    def test_transparency_is_laid_on_white(self):
        picture = Image.new("RGBA", (4, 1))
        for x, colour in enumerate([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128), (0, 0, 0, 51)]):
            picture.putpixel((x, 0), colour)
        assert decode(encoded(picture)).tolist() == [[list(RED), list(WHITE), [127] * 3, [204] * 3]]

    def test_grey_with_alpha_and_palette_with_alpha(self):
        assert decode(encoded(Image.new("LA", (1, 1), (0, 0)))).tolist() == [[list(WHITE)]]
        palette = Image.new("P", (2, 1))
        palette.putpalette([*RED, *BLUE])
        palette.putpixel((1, 0), 1)
        assert decode(encoded(palette)).tolist() == [[list(RED), list(BLUE)]]
        assert decode(encoded(palette, transparency=1)).tolist() == [[list(RED), list(WHITE)]]

    def test_grey_is_repeated_and_one_bit_is_black_and_white(self):
        assert decode(encoded(Image.new("L", (1, 1), 77))).tolist() == [[[77, 77, 77]]]
        assert decode(encoded(Image.new("1", (1, 1), 1))).tolist() == [[list(WHITE)]]

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bits_are_scaled_to_eight(self, kind):
        grey = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
        assert decode(encoded(grey, kind))[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_cmyk_jpeg_has_the_colours_it_was_made_with(self):
        cmyk = encoded(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95)
        assert np.abs(decode(cmyk)[8, 8].astype(int) - (200, 30, 60)).max() <= 4

    def test_an_animation_gives_its_first_frame(self):
        frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
        for kind in ("GIF", "WEBP", "PNG"):
            options = {"lossless": True} if kind == "WEBP" else {}
            data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
            assert decode(data)[0, 0].tolist() == list(RED), kind


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_the_photo_is_turned_upright(self, orientation, kind):
        stored = scene()
        exif = Image.Exif()
        exif[0x0112] = orientation
        # The definition of the tag: where the first row and the first column of the stored picture belong.
        turned = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1),
            6: lambda a: a.swapaxes(0, 1)[:, ::-1],
            7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
            8: lambda a: a.swapaxes(0, 1)[::-1],
        }[orientation]
        data = encoded(stored, kind, exif=exif)
        plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode(data), turned(plain))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_tiff_that_lies_turned_is_refused(self, orientation):
        """Pillow turns it on loading; it used to be turned a second time."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(scene(), "TIFF", exif=exif)
        if orientation == 1:
            assert np.array_equal(decode(data), np.asarray(scene()))
            return
        with pytest.raises(BadImage, match=f"orientation {orientation}.*save it upright"):
            decode(data)

    def test_a_broken_exif_block_counts_as_none(self):
        data = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff broken")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert decode(data).shape == (80, 60, 3)


class TestJpegDecoders:
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 95}])
    @pytest.mark.parametrize("size", [(60, 80), (17, 31)])
    def test_the_strict_decoder_gives_pillows_pixels(self, mode, options, size):
        data = encoded(scene(*size).convert(mode), "JPEG", **{"quality": 80, **options})
        assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    def test_a_large_photo_is_converted_in_strips_without_a_seam(self):
        cmyk = encoded(scene(1100, 1003).convert("CMYK"), "JPEG")
        transparent = scene(1100, 1003).convert("RGBA")
        transparent.putalpha(scene(1100, 1003).convert("L"))
        on_white = Image.new("RGB", transparent.size, WHITE)
        on_white.paste(transparent, mask=transparent.getchannel("A"))
        assert np.array_equal(decode(cmyk), np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB")))
        assert np.array_equal(decode(encoded(transparent)), np.asarray(on_white))

    def test_harmless_junk_behind_the_picture_is_accepted(self):
        data = encoded(scene(), "JPEG")
        assert np.array_equal(decode(data + b"junk"), decode(data))


class TestLargeJpegs:
    @pytest.mark.parametrize(
        ("size", "shape"),
        [
            ((127, 300), (300, 127)),
            ((128, 300), (150, 64)),
            ((255, 301), (151, 128)),
            ((256, 301), (76, 64)),
            ((513, 512), (64, 65)),
            ((5000, 1030), (129, 625)),
        ],
    )
    def test_come_as_small_as_the_shorter_side_allows(self, size, shape):
        data = encoded(scene(*size), "JPEG")
        pixels = decode(data, enough=64)
        assert pixels.shape[:2] == shape
        with Image.open(io.BytesIO(data)) as pillows:
            by = round(size[0] / shape[1])
            pillows.draft(None, (size[0] // by, size[1] // by))
            assert np.array_equal(pixels, np.asarray(pillows))
        assert decode(encoded(scene(*size), "PNG"), enough=64).shape[:2] == size[::-1]

    @pytest.mark.parametrize("mode", images.RESIZE_MODES)
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_show_what_the_whole_photo_shows(self, mode, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(scene(960, 1280), "JPEG", quality=95, exif=exif)
        whole = images._RESIZES[mode](decode(data), transform(mode=mode)).astype(int)
        assert np.abs(to_pixels(data, transform(mode=mode)) - whole).max() <= 4

    @pytest.mark.parametrize(("mode", "least"), [("squash", 128), ("pad", 128), ("crop", 144)])
    def test_smaller_photos_are_decoded_whole(self, mode, least):
        for side, same in ((least - 1, True), (least, False)):
            data = encoded(noise(side, side + 20), "JPEG", quality=95)
            whole = images._RESIZES[mode](decode(data), transform(mode=mode))
            assert np.array_equal(to_pixels(data, transform(mode=mode)), whole) is same

    def test_a_torn_one_is_refused(self):
        with pytest.raises(BadImage, match="truncated"):
            to_pixels(encoded(noise(400, 400), "JPEG")[:-4000], transform())


class TestBadInput:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty file"),
            (b"<html>not found</html>", "not an image in a known format"),
            (b"\xff\xd8\xff\xe0", "not an image in a known format"),
            (encoded(noise(), "JPEG")[:-400], "truncated"),
            (encoded(noise(), "PNG")[:-4000], "truncated"),
            (encoded(Image.new("F", (3, 3)), "TIFF"), "floating-point pixels have no fixed range"),
        ],
    )
    def test_is_refused_with_the_reason(self, data, reason):
        with pytest.raises(BadImage, match=reason):
            decode(data)

    def test_too_many_pixels_are_refused_before_they_are_decoded(self):
        data = encoded(Image.new("RGB", (101, 10)))
        assert decode(data, max_pixels=1010).shape == (10, 101, 3)
        with pytest.raises(BadImage, match="too many pixels: 101 x 10 is more than the limit of 1009"):
            decode(data, max_pixels=1009)

    def test_a_decompression_bomb_is_refused(self):
        # A valid 2 x 2 PNG whose header says 60,000 x 60,000.
        import zlib

        data = bytearray(encoded(Image.new("RGB", (2, 2))))
        data[16:24] = (60_000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        with pytest.raises(BadImage, match="too many pixels"):
            decode(bytes(data), max_pixels=10**12)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        source=st.sampled_from(
            [encoded(scene(), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")]
        ),
        edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
        keep=st.floats(0.05, 1),
    )
    def test_damage_gives_pixels_or_a_reason_and_nothing_else(self, source, edits, keep):
        data = bytearray(source[: max(1, int(keep * len(source)))])
        for place, value in edits:
            data[int(place * (len(data) - 1))] = value
        try:
            pixels = decode(bytes(data), max_pixels=100_000)
        except BadImage as error:
            assert str(error)
        else:
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3


def test_views_are_mirror_images():
    batch = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert view(batch, "identity").tolist() == batch.tolist()
    assert view(batch, "hflip").tolist() == [[[[3, 4, 5], [0, 1, 2]], [[9, 10, 11], [6, 7, 8]]]]
    assert view(batch, "vflip").tolist() == [[[[6, 7, 8], [9, 10, 11]], [[0, 1, 2], [3, 4, 5]]]]
    with pytest.raises(OptionError, match="there is no view 'rot90'; the views are identity, hflip, vflip"):
        view(batch, "rot90")
