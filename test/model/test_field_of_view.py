"""Each pixel of the model's input, and each patch, is found in the picture that it was made from, whatever the fit."""

import numpy as np
import pytest

from evitif.model.field_of_view import FieldOfView, fit_of
from evitif.model.preprocess import AUTO, Preprocessor, seen_as
from evitif.vocabulary import Fit

CONFIG = {'input_size': (3, 64, 64), 'interpolation': 'bicubic', 'mean': (0.5,) * 3, 'std': (0.5,) * 3, 'crop_pct': 0.9,
          'crop_mode': 'center'}
PICTURES = [(96, 128), (128, 96), (72, 128), (64, 64), (33, 190)]
SIZES = [(64, 64), (48, 96), (96, 48)]


def gradient(height, width):
    """A picture whose colours say where they are: red from left to right, green from top to bottom."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = (np.arange(width) + 0.5) / width * 255
    image[..., 1] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    image[..., 2] = 255
    return image


@pytest.mark.parametrize('picture', PICTURES)
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('fit', Fit.values())
def test_a_pixel_of_the_input_has_the_colours_of_its_place_in_the_picture(picture, size, fit):
    preprocessor = Preprocessor(seen_as(CONFIG, size, fit))
    view, pixels = preprocessor.view(*picture), preprocessor.pixels(gradient(*picture)).astype(float)
    y, x = np.mgrid[:size[0], :size[1]] + 0.5
    source = view.to_source(np.stack((x, y), 2))
    inside = (source > (2, 2)).all(2) & (source < np.subtract(picture[::-1], 2)).all(2)
    assert inside.any()
    expected = source / picture[::-1] * 255
    tolerance = 2 + 255 / np.min(picture)
    assert np.abs(pixels[..., :2] - expected)[inside].max() < tolerance
    if fit != Fit.PAD:
        assert (source > 0).all() and (source < picture[::-1]).all()      # nothing but the picture
    if fit != Fit.CROP:
        assert view.seen().all()
    np.testing.assert_allclose(view.to_input(source), np.stack((x, y), 2))
    border = pixels[..., 2] < 200
    assert border.any() == (view.pictured(size) < 0.5).any()


@pytest.mark.parametrize('picture', PICTURES)
@pytest.mark.parametrize('fit', Fit.values())
def test_patches_come_back_to_the_picture(picture, fit):
    """What is said of the patches of a picture in two colours is, in the picture's own pixels, where those colours are."""
    view = FieldOfView.of(seen_as(CONFIG, (64, 96), fit), *picture)
    truth = np.zeros(picture, np.uint8)
    truth[:, picture[1] // 2:] = 1
    seen = view.from_source(truth, fill=255)
    assert seen.shape == (64, 96) and set(np.unique(seen)) <= {0, 1, 255}
    back = view.onto_source(seen, fill=7)
    assert back.shape == picture
    assert (back == 7).mean() == pytest.approx((~view.seen()).mean())
    inner = view.seen()
    inner[:, picture[1] // 2 - 2:picture[1] // 2 + 2] = False
    assert (back == truth)[inner & (back != 255)].all() and (back != 255)[inner].mean() > 0.95
    smooth = view.onto_source(np.where(seen == 255, 0, seen).astype(np.float32)[..., None], smooth=True)
    assert smooth.shape == (*picture, 1) and smooth.dtype == np.float32
    assert np.abs(smooth[..., 0] - truth)[inner & (back != 255)].mean() < 0.05


def test_borders_are_told_from_the_picture():
    view = FieldOfView.of(seen_as(CONFIG, (64, 64), Fit.PAD), 36, 64)      # a picture of 16:9: 14 rows of border above and below
    assert view.box == (0, -14, 64, 64)
    np.testing.assert_allclose(view.pictured((8, 8))[:, 0], [0, 0.25, 1, 1, 1, 1, 0.25, 0])
    assert view.onto_source(np.arange(64).reshape(8, 8)).shape == (36, 64)


def test_the_models_own_fit_stays_unless_another_is_asked_for():
    assert seen_as(CONFIG) == CONFIG
    assert [fit_of(seen_as(CONFIG, None, fit)) for fit in (AUTO, *Fit.values())] == [Fit.CROP, *Fit.values()]
    own = {**CONFIG, 'crop_mode': 'squash', 'crop_pct': 0.95}
    assert fit_of(own) == Fit.SQUASH and seen_as(own) == own
    assert seen_as(own, None, Fit.SQUASH)['crop_pct'] == 1.0        # the whole picture
    assert seen_as(CONFIG, (96, 48))['input_size'] == (3, 96, 48)


def test_a_map_of_another_size_and_a_picture_too_narrow_are_refused():
    view = FieldOfView.of(CONFIG, 40, 60)
    with pytest.raises(ValueError, match='a map of 60x40 for a picture of 40x60'):
        view.from_source(np.zeros((60, 40)))
    with pytest.raises(ValueError, match='a picture of 1x900 pixels is too narrow'):
        Preprocessor(seen_as(CONFIG, None, Fit.PAD))(np.zeros((1, 900, 3), np.uint8))
