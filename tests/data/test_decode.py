"""Decoding: colours as open_clip has them, the kept form against a plain resize, damage of every kind."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gaprun.data.decode import decode_rgb, stage
from gaprun.data.errors import DamagedSample


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_what_plain_convert_gives(make_picture, mode):
    data = make_picture(7, mode=mode, kind="TIFF")
    image = decode_rgb(data)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_transparent_palette_keeps_its_colours_without_a_warning(make_picture, recwarn):
    image = Image.open(io.BytesIO(make_picture(7))).convert("P")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes(range(256)))
    decoded = decode_rgb(buffer.getvalue())
    assert len(recwarn) == 0
    assert np.array_equal(np.asarray(decoded), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    assert np.asarray(decode_rgb(buffer.getvalue()))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_small_picture_is_staged_as_pillow_resizes_it_to_within_one_level(make_picture, kind):
    data = make_picture(1, 50, 31, kind=kind)
    wanted = Image.open(io.BytesIO(data)).resize((24, 18), Image.Resampling.LANCZOS)
    result = stage(data, 24, 18)
    assert result.shape == (18, 24, 3) and result.dtype == np.uint8 and result.flags.writeable
    difference = np.abs(result.astype(int) - np.asarray(wanted.convert("RGB")).astype(int))
    assert difference.max() <= 1 and difference.mean() < 0.05
    assert np.array_equal(
        stage(make_picture(2, 24, 24), 24, 24), np.asarray(decode_rgb(make_picture(2, 24, 24)))
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_of_any_colours_has_pillows_pixels(make_picture, mode):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(make_picture(5, 48, 48))).convert(mode).save(buffer, "JPEG")
    assert np.array_equal(stage(buffer.getvalue(), 48, 48), np.asarray(decode_rgb(buffer.getvalue())))


def test_a_large_jpeg_is_staged_by_its_reduced_decoding_to_within_rounding(make_picture):
    data = make_picture(3, 704, 512, kind="JPEG")
    wanted = np.asarray(decode_rgb(data).resize((32, 24), Image.Resampling.LANCZOS)).astype(int)
    difference = np.abs(stage(data, 32, 24).astype(int) - wanted)
    assert difference.mean() < 1 and difference.max() <= 12


@pytest.mark.parametrize("error", [NotImplementedError, ValueError])
def test_an_older_torch_without_the_filter_has_pillows(make_picture, monkeypatch, error):
    def unsupported(*args, **kwargs):
        raise error

    data = make_picture(1, 50, 31)
    expected = stage(data, 24, 18).astype(int)
    monkeypatch.setattr("torch.nn.functional.interpolate", unsupported)
    assert np.abs(stage(data, 24, 18).astype(int) - expected).max() <= 1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_damage_and_nothing_else(data):
    with pytest.raises(DamagedSample):
        decode_rgb(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_damage(make_picture, kind):
    data = make_picture(4, 300, 300, kind=kind)
    for cut in (1, len(data) // 3, len(data) - 40):
        for read in (decode_rgb, lambda part: stage(part, 16, 16)):
            with pytest.raises(DamagedSample):
                read(data[:cut])
