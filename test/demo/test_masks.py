"""The demo's masks: what is counted, and when a task is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed')

from sensor_msgs.msg import Image

from evitif.datasets import DatasetError, MovingFashion
from evitif.heads import Reading, save_head
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model
from evitif.settings import model_settings
from evitif_edge_node.image_sources import open_source
from scripts.demo.masks import mask_figures, mask_rows
from scripts.demo.options import SEGMENTER, parse_arguments


def mono(values):
    return Image(height=values.shape[0], width=values.shape[1], step=values.shape[1], data=values.tobytes())


@pytest.fixture
def head(tmp_path):
    """A segmenter of random weights for the model that ships."""
    module = build_model(ModelSpec('artifacts/moving_fashion')).module
    grid, size = module.patch_embed.grid_size, module.patch_embed.img_size
    reading = Reading((3, 6), False, tuple(size), tuple(grid), 1, module.embed_dim)
    save_head(tmp_path / 'segmentation', SegmentHead(reading, MovingFashion.mask_names, width=16, fine=8).eval(), module, {'model': 'm'})
    return str(tmp_path / 'segmentation')


def test_masks_that_came_are_judged_by_what_the_camera_saw(head, tmp_path):
    try:
        truths = MovingFashion('test')
    except DatasetError as reason:
        pytest.skip(str(reason))
    options = SimpleNamespace(images='moving-fashion', seed=3, reports=tmp_path)
    source = open_source('moving-fashion', loop=True, shuffle=True, seed=3)
    names = [source.next_image().name for _ in range(6)]
    masks = [truths.frame(*map(int, name.split('-')[-2:])).mask for name in names]
    monitor = SimpleNamespace(truth={10 * k: 0 for k in range(6)}, masks={10 * k: mono(mask) for k, mask in enumerate(masks)},
                              confidences={10 * k: mono(np.full_like(mask, 200)) for k, mask in enumerate(masks)})
    config = model_settings('split', model='artifacts/moving_fashion', heads=head)
    figures = mask_figures(options, monitor, config)
    assert figures['miou'] == 1.0 and figures['masks'] == 6 and 0 <= figures['miou_lossless'] < 0.9
    said = f'100.0 %, {100 * figures["miou_lossless"]:.1f} %'
    assert (tmp_path / 'masks.png').is_file() and mask_rows(figures)[1] == ('mIoU with loss, without', said)
    del monitor.masks[0]                    # one that did not come is wrong everywhere
    assert mask_figures(options, monitor, config)['miou'] < 1.0


def test_segmentation_takes_the_head_that_ships_and_no_other_images(capsys):
    assert parse_arguments(['--task', 'segmentation']).head == SEGMENTER
    assert parse_arguments(['--task', 'segmentation', '--head', 'mine']).head == 'mine'
    with pytest.raises(SystemExit):
        parse_arguments(['--task', 'segmentation', '--images', 'fashion-mnist'])
    assert 'needs the strategy split and moving-fashion' in capsys.readouterr().err
