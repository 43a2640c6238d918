"""What is read from bytes, how it is turned and scaled, and what is refused."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from damaged import cut, cut_and_closed, encoded, one_bit_wrong, photograph, png_chunk, without_middle
from PIL import Image, features

from evitif.pictures import PictureError, SignificantBits, read_samples, to_rgb

JPEGS = {'baseline': {}, 'progressive': {'progressive': True}, 'restarts': {'restart_marker_blocks': 7}, 'full colour': {'subsampling': 0},
         'grey': {'mode': 'L'}, 'CMYK': {'mode': 'CMYK'}}


def rgb(data) -> np.ndarray:
    return to_rgb(read_samples(data), SignificantBits())


@pytest.mark.parametrize('name', JPEGS)
def test_a_whole_jpeg_is_read_as_pillow_reads_it(name):
    data = encoded('JPEG', quality=90, **JPEGS[name])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB')).astype(int)
    assert np.abs(rgb(data) - expected).max() <= (0 if name != 'CMYK' else 2)
    np.testing.assert_array_equal(rgb(data + b'what a camera appends'), rgb(data))


@pytest.mark.parametrize('damage', [without_middle, cut, cut_and_closed, lambda data: data[:-2]],
                         ids=['bytes missing', 'cut', 'cut and closed', 'not closed'])
@pytest.mark.parametrize('name', JPEGS)
def test_a_damaged_jpeg_is_refused(name, damage, capfd):
    with pytest.raises(PictureError, match='JPEG is damaged'):
        read_samples(damage(encoded('JPEG', quality=90, **JPEGS[name])))
    assert capfd.readouterr() == ('', '')           # not a line for each frame


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused():
    data = encoded('JPEG', quality=90, progressive=True)
    scans = [at for at in range(len(data) - 1) if data[at:at + 2] == b'\xff\xda']
    tables = [at for at in range(len(data) - 1) if data[at:at + 2] == b'\xff\xc4']
    end = max(at for at in tables if at < scans[-1])
    with pytest.raises(PictureError, match='ends before its last scan'):
        read_samples(data[:end] + b'\xff\xd9')


@pytest.mark.parametrize('kind, damage', [
    ('PNG', one_bit_wrong), ('PNG', without_middle), ('PNG', cut), ('PNG', lambda data: data[:-12]), ('WEBP', without_middle),
    ('WEBP', cut), ('TIFF', cut), ('BMP', cut), ('PPM', cut), ('GIF', cut), ('GIF', without_middle)])
def test_other_damaged_kinds_are_refused(kind, damage, capfd):
    with pytest.raises(PictureError):
        read_samples(damage(encoded(kind)))
    assert capfd.readouterr() == ('', '')


def test_png_damage_is_found_wherever_it_is():
    data = encoded('PNG', photograph(60, 80))
    random = np.random.default_rng(1)
    for at in random.integers(8, len(data), 60):
        wrong = bytearray(data)
        wrong[at] ^= 1 << random.integers(8)
        with pytest.raises(PictureError):
            read_samples(bytes(wrong))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind, options', [
    ('JPEG', {'quality': 100, 'subsampling': 0}), ('PNG', {}), ('WEBP', {'lossless': True}), ('TIFF', {})])
def test_exif_orientation(kind, options, orientation):
    upright = photograph(48, 80)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = rgb(encoded(kind, np.ascontiguousarray(stored), exif=exif, **options))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 2


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_png_of_16_bits_is_turned_as_well(orientation):
    upright = (photograph(48, 80)[:, :, 0].astype(np.uint16) << 8) + 5
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, 'PNG', exif=exif)
    np.testing.assert_array_equal(read_samples(file.getvalue()), upright)


def test_an_orientation_that_is_none_leaves_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert rgb(encoded('PNG', photograph(48, 80), exif=exif)).shape == (48, 80, 3)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK'])
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', 'GIF', 'BMP', 'PPM'])
def test_every_mode_of_8_bits(kind, mode):
    try:
        data = encoded(kind, photograph(48, 80), mode)
    except (OSError, ValueError):
        pytest.skip(f'Pillow writes no {mode} as {kind}')
    np.testing.assert_array_equal(rgb(data), np.asarray(Image.open(io.BytesIO(data)).convert('RGB')))


def test_a_palette_with_transparency_loses_the_transparency_alone():
    image = Image.fromarray(photograph(48, 80)).quantize(16)
    file = io.BytesIO()
    image.save(file, 'PNG', transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(rgb(file.getvalue()), np.asarray(image.convert('RGB')))


@pytest.mark.parametrize('kind', ['.png', '.tiff', '.ppm'])
@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('bits', [8, 10, 12, 16])
def test_16_bit_files_are_scaled_by_their_significant_bits(kind, channels, bits):
    picture = photograph(48, 80)
    picture[0, 0] = 255                                             # a bright point, as nearly every picture has
    wide = (picture.astype(np.uint16) << (bits - 8)) + (1 if bits > 8 else 0)
    stored = {1: wide[:, :, 0], 3: wide[:, :, ::-1], 4: np.dstack((wide[:, :, ::-1], wide[:, :, 0]))}[channels]
    if kind == '.ppm' and channels == 4:
        pytest.skip('PPM has no alpha')
    there, data = cv2.imencode('.pgm' if (kind, channels) == ('.ppm', 1) else kind, stored)
    assert there
    expected = np.repeat(picture[:, :, :1], 3, 2) if channels == 1 else picture
    np.testing.assert_array_equal(rgb(data.tobytes()), expected)


@pytest.mark.parametrize('mode, dtype', [('I;16', '<u2'), ('I;16B', '>u2'), ('I', '<i4')])
def test_grey_tiffs_of_pillow(mode, dtype):
    grey = photograph(48, 80)[:, :, 0]
    grey[0, 0] = 255
    wide = grey.astype(int) * 257
    file = io.BytesIO()
    Image.frombytes(mode, (80, 48), wide.astype(dtype).tobytes()).save(file, 'TIFF')
    np.testing.assert_array_equal(rgb(file.getvalue())[:, :, 1], grey)


def test_a_range_that_a_pgm_declares_is_its_own():
    data = b'P5 # a comment\n4 1\n# another\n4000\n' + np.array([0, 1000, 2000, 4000], '>u2').tobytes()
    np.testing.assert_array_equal(rgb(data)[0, :, 0], [0, 63, 127, 255])


def float_tiff(values) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(values, np.float32)).save(file, 'TIFF')
    return file.getvalue()


def test_floats_from_0_to_1_are_a_picture_and_others_are_none():
    grey = photograph(48, 80)[:, :, 0]
    np.testing.assert_array_equal(rgb(float_tiff(grey / 255))[:, :, 2], grey)
    for values in ([[0.0, 255.0]], [[-0.1, 0.5]], [[0.0, float('nan')]]):
        with pytest.raises(PictureError, match=r'expected 0 \(black\) to 1 \(white\)'):
            read_samples(float_tiff(values))


def test_negative_samples_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.array([[-5, 9]], np.int32)).save(file, 'TIFF')
    with pytest.raises(PictureError, match='begin at -5'):
        read_samples(file.getvalue())


HEADER = b'\x89PNG\r\n\x1a\n'


@pytest.mark.parametrize('data', [
    b'', b'P6\n24 2', b'P5\n', b'P5 2 2 65535 ', b'not a picture', b'\xff\xd8\xff rubbish', b'GIF89a', b'II*\0', b'BM', b'RIFF\4\0\0\0WEBP',
    HEADER, HEADER + png_chunk(b'IHDR', bytes(12)), HEADER + png_chunk(b'IHDR', struct.pack('>IIBBBBB', 1 << 20, 1 << 20, 8, 2, 0, 0, 0)),
    HEADER + png_chunk(b'IHDR', struct.pack('>IIBBBBB', 0, 0, 8, 2, 0, 0, 0)) + png_chunk(b'IEND', b''),
    b'P6 99999 99999 255\n', b'<html>', b'version https://git-lfs.github.com/spec/v1\n', b'%PDF-1.4', b'\0' * 4096])
def test_whatever_is_no_picture_is_a_picture_error(data):
    with pytest.raises(PictureError) as refusal:
        read_samples(data)
    assert '\n' not in str(refusal.value) and 'BytesIO' not in str(refusal.value) and str(refusal.value)


def test_a_large_text_in_a_png_does_not_matter():
    data = encoded('PNG', photograph(8, 8))
    text = png_chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(3 << 20)))
    np.testing.assert_array_equal(rgb(data[:33] + text + data[33:]), photograph(8, 8))


def test_any_buffer_is_read():
    import array
    data = encoded('JPEG')
    for buffer in (bytearray(data), memoryview(data), array.array('B', data), np.frombuffer(data, np.uint8)):
        np.testing.assert_array_equal(rgb(buffer), rgb(data))


def test_without_the_decoder_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'simplejpeg', None)
    with pytest.raises(PictureError, match='^JPEG images need simplejpeg.*pip install simplejpeg'):
        read_samples(encoded('JPEG'))


@pytest.mark.skipif('avif' not in features.modules or not features.check('avif'), reason='this Pillow has no AVIF')
def test_avif():
    assert np.abs(rgb(encoded('AVIF', quality=95)).astype(int) - photograph()).mean() < 6
