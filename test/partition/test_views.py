"""How each device looks at the image."""

import pytest
import torch

from evitif.partition.view import View
from evitif_lab.partition.views import device_views


def test_a_view_moves_and_mirrors_and_is_reflected_at_the_border():
    image = torch.arange(12.).view(1, 1, 3, 4)
    assert View()(image) is image
    assert torch.equal(View(down=1)(image)[0, 0], image[0, 0][[1, 0, 1]])
    assert torch.equal(View(right=-2)(image)[0, 0, 0], torch.tensor([2., 3., 2., 1.]))
    assert torch.equal(View(right=1, mirrored=True)(image)[0, 0, 0], torch.tensor([2., 1., 0., 1.]))
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode='reflect')
    for down, right in ((1, 2), (-2, 1), (0, -1)):
        assert torch.equal(View(down, right)(image), padded[:, :, 2 - down:5 - down, 2 - right:6 - right])
    with pytest.raises(ValueError, match='cannot be moved by 3 and 0 pixels'):
        View(down=3)(image)


def test_eighteen_devices_have_different_views_and_the_first_sees_the_image_as_it_is():
    views = device_views(18, 2)
    assert views[0] == View() and len(set(views)) == 18
    assert device_views(3, 0) == (View(),) * 3
