"""Every kind of image has a defined grey picture; blank ones are seen as such, photos are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from cosmop_common.errors import RefusedImageError
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_dedup.flat import FLAT_BELOW
from cosmop_dedup.grey import reduce_image
from cosmop_dedup.hashing import hash_image
from cosmop_dedup.worker import hashed_fact
from PIL import Image

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(size: tuple[int, int] = (320, 240), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bits(a: bytes, b: bytes) -> int:
    return (hash_image(a).phash ^ hash_image(b).phash).bit_count()


PLAIN = encoded(scene())


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation, kind):
    upright = scene((320, 200))
    stored = upright.transpose(TURNS[orientation]) if TURNS[orientation] is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    rotated = encoded(stored, kind, exif=exif, **lossless)
    plain = encoded(upright, kind, **lossless)
    reduced = reduce_image(rotated)
    assert (reduced.width, reduced.height) == (320, 200)
    assert bits(rotated, plain) <= (2 if kind == "JPEG" else 0)


def test_a_large_jpeg_keeps_its_own_size_while_decoded_small():
    reduced = reduce_image(encoded(scene((1600, 1200)), "JPEG"))
    assert (reduced.width, reduced.height) == (1600, 1200)
    assert reduced.grey.shape == (32, 32)
    assert reduced.grey.dtype == np.uint8


@pytest.mark.parametrize("size", [(320, 240), (1600, 1200), (100, 900)])
def test_a_progressive_jpeg_hashes_as_a_sequential_one(size):
    image = scene(size)
    assert bits(encoded(image, "JPEG", quality=90), encoded(image, "JPEG", quality=90, progressive=True)) == 0


@pytest.mark.parametrize("size", [(320, 240), (1600, 1200)])
def test_small_decoding_is_near_full_decoding(size):
    jpeg = encoded(scene(size), "JPEG", quality=90)
    assert bits(jpeg, encoded(Image.open(io.BytesIO(jpeg)))) <= 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "CMYK", "YCbCr"])
def test_modes_that_hold_the_same_picture_hash_alike(mode):
    kind = "TIFF" if mode in {"CMYK", "YCbCr"} else "PNG"
    assert bits(encoded(scene().convert(mode), kind), PLAIN) <= 1


def test_cmyk_jpegs_hash_as_their_colours():
    assert bits(encoded(scene().convert("CMYK"), "JPEG", quality=95), encoded(scene(), "JPEG", quality=95)) <= 2


def test_sixteen_bits_hash_as_their_upper_eight():
    grey = scene().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        data = encoded(deep, kind)
        assert Image.open(io.BytesIO(data)).mode.startswith("I;16")
        assert bits(data, encoded(grey)) == 0


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_range_are_stretched(dtype):
    grey = np.asarray(scene().convert("L"))
    assert bits(encoded(Image.fromarray((grey.astype(dtype) - 100) * 7), "TIFF"), PLAIN) <= 2


def test_not_a_number_does_not_spread():
    values = np.asarray(scene().convert("L")).astype(np.float32)
    values[0, 0] = np.nan
    assert bits(encoded(Image.fromarray(values), "TIFF"), PLAIN) <= 2
    assert hash_image(encoded(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF")).flat


def test_palette_and_one_bit_stand_for_their_colours():
    palette = scene().quantize(256)
    assert bits(encoded(palette), encoded(palette.convert("RGB"))) == 0
    assert bits(encoded(palette, "GIF"), encoded(palette.convert("RGB"))) == 0
    line = scene().convert("1")
    assert bits(encoded(line), encoded(line.convert("RGB"))) == 0


def test_transparency_is_laid_on_white():
    image = scene().convert("RGBA")
    alpha = np.asarray(image).copy()
    alpha[:, :160, 3] = 0
    on_white = np.asarray(scene()).copy()
    on_white[:, :160] = 255
    assert bits(encoded(Image.fromarray(alpha)), encoded(Image.fromarray(on_white))) == 0
    palette = scene().quantize(16)
    clear = encoded(palette, transparency=3)
    assert bits(clear, encoded(palette)) > 0


def test_an_animation_is_its_first_picture():
    frames = [scene(seed=s).quantize(64) for s in range(3)]
    assert bits(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), encoded(frames[0], "GIF")) == 0


def test_damaged_exif_does_not_cost_the_image():
    assert hash_image(encoded(scene(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")).phash == hash_image(encoded(scene(), "JPEG")).phash


@pytest.mark.parametrize("size", [(64, 64), (90, 300), (640, 480)])
@pytest.mark.parametrize("level", [0, 128, 250, 255])
@pytest.mark.parametrize("noise", [0, 3, 15])
def test_blank_pages_are_flat(size, level, noise):
    rng = np.random.default_rng(level + noise)
    pixels = np.clip(level + rng.normal(0, noise, (*size[::-1], 3)), 0, 255).astype(np.uint8)
    for quality in (20, 75, 95):
        assert hash_image(encoded(Image.fromarray(pixels), "JPEG", quality=quality)).flat
    assert hash_image(encoded(Image.fromarray(pixels))).flat


@pytest.mark.parametrize("span", [1, 8, 60, 255])
@pytest.mark.parametrize("axis", [0, 1])
def test_plain_gradients_are_flat(span, axis):
    ramp = np.linspace(0, span, 200).astype(np.uint8)
    pixels = np.tile(ramp, (200, 1))
    assert hash_image(encoded(Image.fromarray(pixels if axis else pixels.T))).flat


def test_a_pale_picture_is_not_flat():
    pale = Image.fromarray((np.asarray(scene()) // 8 + 220).astype(np.uint8))
    assert not hash_image(encoded(pale)).flat


@pytest.mark.photos
def test_no_real_photo_is_flat(photos):
    files = sorted(p for p in photos.rglob("*") if p.suffix in {".jpg", ".png"})
    assert len(files) > 1000
    assert min(hash_image(f.read_bytes()).contrast for f in files) > 2 * FLAT_BELOW


def test_a_flat_image_says_so_in_its_fact():
    fact = hashed_fact(encoded(Image.new("RGB", (200, 100), (90, 10, 10))))
    assert fact.refusal.reason == facts_pb2.REFUSAL_REASON_FLAT
    assert "contrast" in fact.refusal.detail
    assert (fact.width, fact.height, fact.algorithm) == (200, 100, "phash-ac-mean/1")


def test_a_damaged_image_says_so_in_its_fact():
    fact = hashed_fact(encoded(scene(), "JPEG")[:2000])
    assert fact.refusal.reason == facts_pb2.REFUSAL_REASON_CORRUPT
    assert fact.size == 2000


def test_too_many_pixels_are_refused_before_decoding():
    with pytest.raises(RefusedImageError, match="at most 1,000"):
        reduce_image(PLAIN, max_pixels=1000)
