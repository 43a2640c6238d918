"""CompressedImage as image_transport writes it: what is no picture, and that a raw topic, a compressed one and a file give the same."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from evitif.datasets import ImageFolder
from evitif.pictures import SignificantBits
from evitif.pictures.ros_images import ImageConversionError, compressed_image_to_rgb, image_to_rgb


@pytest.fixture(scope='module')
def picture() -> np.ndarray:
    """uint8 [48, 64, 3] RGB; red, green and blue differ everywhere, and some of it is white."""
    y, x = np.mgrid[0:48, 0:64]
    image = np.stack((4 * x, 5 * y, 255 - 2 * x - 2 * y), 2).clip(0, 255).astype(np.uint8)
    image[:4, :4] = 255
    return image


def compressed(format, array, codec='.png', **options):
    return SimpleNamespace(format=format, data=cv2.imencode(codec, array, *options.values())[1].tobytes())


def raw(encoding, array, is_bigendian=0):
    return SimpleNamespace(encoding=encoding, height=array.shape[0], width=array.shape[1], step=array[0].nbytes, is_bigendian=is_bigendian,
                           data=np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize('format', [
    'jpeg', 'jpg', 'JPEG', '', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8', 'bgra8; jpeg compressed bgr8',
    'rgb8; jpeg compressed ', 'rgb8; jpeg compressed rgb8', 'rgb8;jpeg compressed bgr8', '8UC3; jpeg compressed ',
    'uyvy; jpeg compressed bgr8', 'nv12; jpeg compressed bgr8', 'bayer_rggb8; jpeg compressed bgr8', 'rgb16; jpeg compressed bgr8'])
def test_colours_are_those_of_the_jpeg(picture, format):
    found = compressed_image_to_rgb(compressed(format, picture[:, :, ::-1], '.jpg'))
    assert np.abs(found.astype(int) - picture).mean() < 6 and np.abs(found[:, :, ::-1].astype(int) - picture).mean() > 30


@pytest.mark.parametrize('format', ['png', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8', 'rgb8; png compressed '])
def test_colours_are_those_of_the_png(picture, format):
    np.testing.assert_array_equal(compressed_image_to_rgb(compressed(format, picture[:, :, ::-1])), picture)


@pytest.mark.parametrize('format', [
    '16UC1; jpeg compressed ', '16UC1; png compressed ', '32FC1; png compressed', '32FC1; jpeg compressed ', '16SC1; png compressed ',
    '64FC1; png compressed ', '32SC1; png compressed ', '16uc1; png compressed ', '8SC1; jpeg compressed ', '16UC1',
    '32FC1; tiff compressed ', '16UC1; compressedDepth png', '32FC1; compressedDepth rvl', '16UC1; compressedDepth',
    '32FC2; png compressed '])
def test_depth_and_other_data_are_refused_by_name(picture, format):
    with pytest.raises(ImageConversionError, match='depth') as refusal:
        compressed_image_to_rgb(compressed(format, picture[:, :, 0]))
    assert repr(format) in str(refusal.value)


@pytest.mark.parametrize('format', [
    'yuv422_yuy2; jpeg compressed mono8', 'uyvy; jpeg compressed ', 'yuv422; png compressed mono8', 'nv21; jpeg compressed mono8',
    'bayer_rggb8; jpeg compressed mono8', 'rgb8; jpeg compressed mono8'])
def test_colours_that_were_lost_before_are_refused(picture, format):
    with pytest.raises(ImageConversionError, match='lost its colours.*rgb8'):
        compressed_image_to_rgb(compressed(format, picture[:, :, 0]))


def test_16_bits_that_were_cut_off_are_refused_and_those_that_were_scaled_are_not(picture):
    with pytest.raises(ImageConversionError, match='cut off'):
        compressed_image_to_rgb(compressed('mono16; jpeg compressed ', picture[:, :, 0], '.jpg'))
    assert compressed_image_to_rgb(compressed('mono16; jpeg compressed mono8', picture[:, :, 0], '.jpg')).shape == picture.shape


def test_12_bits_that_somebody_scaled_as_16_are_said_to_be_black(picture):
    significant = SignificantBits()
    for _ in range(10):
        compressed_image_to_rgb(compressed('mono16; jpeg compressed mono8', picture[:, :, 0] >> 4, '.jpg'), significant)
    assert 'nearly black' in significant.darkness


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_a_mosaic_in_png_is_what_the_raw_one_is_and_in_jpeg_is_refused(picture, pattern, bits):
    mosaic = picture[:, :, 0].astype(np.uint16) << 8 if bits == 16 else picture[:, :, 0]
    encoding = f'bayer_{pattern}{bits}'
    message = compressed(f'{encoding}; png compressed ', mosaic)
    np.testing.assert_array_equal(compressed_image_to_rgb(message), image_to_rgb(raw(encoding, mosaic)))
    with pytest.raises(ImageConversionError, match='mosaic'):
        compressed_image_to_rgb(compressed(f'{encoding}; jpeg compressed ', picture[:, :, 0], '.jpg'))


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bgr16', 'rgba16', 'bgra16', 'bayer_rggb16'])
def test_a_sensor_of_fewer_bits_gives_the_picture_of_8(picture, encoding, bits):
    eight = {'mono16': picture[:, :, 0], 'rgb16': picture, 'bgr16': picture[:, :, ::-1], 'rgba16': np.dstack((picture, picture[:, :, 0])),
             'bgra16': np.dstack((picture[:, :, ::-1], picture[:, :, 0])), 'bayer_rggb16': picture[:, :, 0]}[encoding]
    expected = image_to_rgb(raw({'mono16': 'mono8', 'bayer_rggb16': 'bayer_rggb8'}.get(encoding, encoding.replace('16', '8')), eight))
    for order, is_bigendian in (('<u2', 0), ('>u2', 1)):
        wide = (eight.astype(np.uint16) << (bits - 8)).astype(order)
        for significant in (None, SignificantBits(bits), SignificantBits()):
            np.testing.assert_array_equal(image_to_rgb(raw(encoding, wide, is_bigendian), significant), expected)


@pytest.mark.parametrize('bits', [8, 12, 16])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_raw_topic_a_compressed_one_and_a_file_give_the_same_pixels(picture, tmp_path, bits, channels):
    wide = picture.astype(np.uint16) << (bits - 8)
    wide = wide[:, :, 0] if channels == 1 else wide
    stored = wide if channels == 1 else wide[:, :, ::-1]
    encoding = 'mono16' if channels == 1 else 'rgb16'
    cv2.imwrite(str(tmp_path / 'picture.png'), stored)
    topic = image_to_rgb(raw(encoding, wide))
    message = compressed(f'{encoding}; png compressed {"bgr16" if channels == 3 else ""}', stored)
    np.testing.assert_array_equal(compressed_image_to_rgb(message), topic)
    np.testing.assert_array_equal(ImageFolder(tmp_path)[0].image, topic)


def test_a_jpeg_on_a_topic_and_in_a_file_give_the_same_pixels(picture, tmp_path):
    message = compressed('jpeg', picture[:, :, ::-1], '.jpg')
    (tmp_path / 'picture.jpg').write_bytes(message.data)
    np.testing.assert_array_equal(ImageFolder(tmp_path)[0].image, compressed_image_to_rgb(message))


@pytest.mark.parametrize('damage', [lambda data: data[:-len(data) // 3], lambda data: data[:len(data) // 2] + b'\xff\xd9',
                                    lambda data: data[:len(data) // 3] + data[len(data) // 3 + 1400:]])
@pytest.mark.parametrize('codec', ['.jpg', '.png', '.webp'])
def test_damage_is_refused_with_format_and_size(picture, codec, damage, capfd):
    noise = np.random.default_rng(0).integers(0, 40, (480, 640, 3), np.uint8)
    large = cv2.resize(picture, (640, 480), interpolation=cv2.INTER_CUBIC) // 2 + noise
    message = compressed('jpeg', large, codec)
    message.data = damage(message.data)
    with pytest.raises(ImageConversionError, match=rf"'jpeg' \({len(message.data)} bytes\) cannot be decoded: "):
        compressed_image_to_rgb(message)
    assert capfd.readouterr().err == ''


def test_a_mosaic_in_a_colour_picture_of_16_bits_becomes_8_bits():
    pixels = np.arange(60, dtype='>u2').reshape(4, 5, 3) * 1000
    content = b'P6\n5 4\n65535\n' + pixels.tobytes()
    rgb = compressed_image_to_rgb(SimpleNamespace(format='bayer_rggb16; png compressed ', data=content))
    assert rgb.dtype == np.uint8 and rgb.shape == (4, 5, 3)
