"""Every encoding to RGB and back, and the sentences of what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from evitif.pictures import ros_images
from evitif.pictures.ros_images import ImageConversionError, compressed_image_to_rgb, fill_image, image_to_rgb


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def image(encoding, pixels, *, padding=0, is_bigendian=0):
    """A message whose rows are the bytes of `pixels` [H, W, ...], each followed by `padding` bytes of rubbish."""
    height, width = pixels.shape[:2]
    rows = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 0xAB, np.uint8)])
    return SimpleNamespace(encoding=encoding, height=height, width=width, step=rows.shape[1],
                           is_bigendian=is_bigendian, data=rows.tobytes())


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding, order', [
    ('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('8UC3', [2, 1, 0]),
    ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0]), ('8UC4', [2, 1, 0, 0]),
])
def test_colour_8_bit(rgb, encoding, order, padding):
    np.testing.assert_array_equal(image_to_rgb(image(encoding, rgb[:, :, order], padding=padding)), rgb)


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_mono8_is_repeated_to_three_channels(rgb, encoding, padding):
    grey = rgb[:, :, 0]
    expected = np.repeat(grey[..., None], 3, 2)
    np.testing.assert_array_equal(image_to_rgb(image(encoding, grey, padding=padding)), expected)


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('order, is_bigendian', [('<u2', 0), ('>u2', 1)])
def test_mono16_is_scaled_in_either_byte_order(order, is_bigendian, padding):
    grey = np.array([[0, 255, 256, 4660], [65535, 65280, 32768, 513]]).astype(order)
    expected = np.repeat((grey.astype(int) >> 8).astype(np.uint8)[..., None], 3, 2)
    message = image('mono16', grey, padding=padding, is_bigendian=is_bigendian)
    np.testing.assert_array_equal(image_to_rgb(message), expected)


@pytest.mark.parametrize('encoding, order', [('rgb16', [0, 1, 2]), ('bgr16', [2, 1, 0])])
def test_colour_16_bit(rgb, encoding, order):
    wide = (rgb[:, :, order].astype('>u2') << 8) | 7
    np.testing.assert_array_equal(image_to_rgb(image(encoding, wide.astype('>u2'), is_bigendian=1)), rgb)


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize('encoding, luma', [('yuv422', 1), ('uyvy', 1), ('yuv422_yuy2', 0), ('yuyv', 0)])
def test_yuv422(encoding, luma, padding):
    """A plain red in BT.601 limited range (Y 81, U 90, V 240), packed by hand."""
    packed = np.zeros((2, 4, 2), np.uint8)
    packed[:, :, luma] = 81
    packed[:, 0::2, 1 - luma], packed[:, 1::2, 1 - luma] = 90, 240
    converted = image_to_rgb(image(encoding, packed, padding=padding))
    assert converted.shape == (2, 4, 3)
    assert (np.abs(converted.astype(int) - (255, 0, 0)) <= 2).all()


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer(pattern, bits, padding):
    """A plain colour seen through the pattern comes back as that colour."""
    colour = {'r': 200, 'g': 100, 'b': 30}
    cell = np.array([colour[name] for name in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(cell, (4, 4))
    if bits == 16:
        mosaic = mosaic.astype('<u2') << 8
    converted = image_to_rgb(image(f'bayer_{pattern}{bits}', mosaic, padding=padding * bits // 8))
    np.testing.assert_array_equal(converted, np.broadcast_to((200, 100, 30), (8, 8, 3)))


def test_rgb8_without_padding_is_not_copied(rgb):
    message = image('rgb8', rgb)
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, np.uint8))


def test_last_row_may_lack_its_padding(rgb):
    message = image('rgb8', rgb, padding=5)
    message.data = message.data[:-5]
    np.testing.assert_array_equal(image_to_rgb(message), rgb)


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1', 'nv12', '', 'RGB8'])
def test_unknown_encoding_is_refused_by_name(rgb, encoding):
    with pytest.raises(ImageConversionError) as refusal:
        image_to_rgb(image(encoding, rgb))
    assert repr(encoding) in str(refusal.value)
    for supported in ('rgb8', 'mono16', 'yuv422', 'bayer_rggb8'):
        assert supported in str(refusal.value)


@pytest.mark.parametrize('change, expected', [
    ({'data': b'123'}, 'at least 144 bytes of data'),
    ({'step': 23}, 'a step of at least 24 bytes'),
    ({'height': 0}, 'a size between'),
    ({'width': 0}, 'a size between'),
    ({'width': 1 << 31, 'height': 1 << 31}, 'a size between'),
    ({'height': 1 << 20}, 'bytes of data'),
])
def test_sizes_that_do_not_fit_are_named(rgb, change, expected):
    message = image('rgb8', rgb)
    vars(message).update(change)
    with pytest.raises(ImageConversionError) as refusal:
        image_to_rgb(message)
    text = str(refusal.value)
    assert expected in text
    for field in ('encoding rgb8', f'step {message.step}', f'width {message.width}', f'height {message.height}',
                  f'{len(message.data)} bytes'):
        assert field in text


def test_odd_width_of_yuv422_is_refused():
    with pytest.raises(ImageConversionError, match='even width'):
        image_to_rgb(image('yuv422', np.zeros((2, 3, 2), np.uint8)))


def test_fill_image_round_trip(rgb):
    message = fill_image(SimpleNamespace(), rgb)
    assert (message.encoding, message.step, len(message.data)) == ('rgb8', 24, 144)
    np.testing.assert_array_equal(image_to_rgb(message), rgb)
    np.testing.assert_array_equal(image_to_rgb(fill_image(SimpleNamespace(), rgb[:, ::2])), rgb[:, ::2])


def test_fill_image_refuses_another_layout(rgb):
    with pytest.raises(ImageConversionError, match='float64'):
        fill_image(SimpleNamespace(), rgb / 255)


def test_compressed_round_trip(rgb):
    message = ros_images.fill_compressed_image(SimpleNamespace(), rgb, 'png')
    np.testing.assert_array_equal(compressed_image_to_rgb(message), rgb)
    smooth = cv2.resize(rgb, (64, 48), interpolation=cv2.INTER_CUBIC)
    message = ros_images.fill_compressed_image(SimpleNamespace(), smooth, 'jpeg')
    assert np.abs(compressed_image_to_rgb(message).astype(int) - smooth).mean() < 12


@pytest.mark.parametrize('data', [b'', b'\xff\xd8\xff rubbish', b'\x89PNG'])
def test_compressed_rubbish_is_named(data):
    with pytest.raises(ImageConversionError, match=rf"'jpeg'.*{len(data)} bytes"):
        compressed_image_to_rgb(SimpleNamespace(format='jpeg', data=data))


def test_compressed_depth_is_refused():
    with pytest.raises(ImageConversionError, match='compressedDepth'):
        compressed_image_to_rgb(SimpleNamespace(format='16UC1; compressedDepth png', data=b'x'))
