"""Masks and depth images come back to the robot, laid over the image that they are of."""

import numpy as np
import pytest
from running_system import System, wait

from evitif.heads import Reading, read_head, save_head
from evitif.heads.depth import DepthHead
from evitif.heads.maps import DepthMap, Mask
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model
from evitif.pipeline.arriving_maps import ArrivingMaps, SeenFrame
from evitif.pipeline.split_bridge import SplitBridge
from evitif.protocol.wire.map_part import MapPart
from evitif.settings import bridge_settings

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': '64', 'num_classes': 9, 'cut': 1, 'quantisation': 'int8'}
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope='module')
def heads(tmp_path_factory):
    """A segmenter and a depth head, their folders joined by a comma."""
    folder = tmp_path_factory.mktemp('artifacts')
    module = build_model(ModelSpec(MODEL['model'], random_seed=1, num_classes=9, image_size=64)).module
    reading = Reading((6, 12), False, (64, 64), (4, 4), 1, 192)
    save_head(folder / 'segmentation', SegmentHead(reading, ('floor', 'wall', 'door'), width=16, fine=8).eval(), module, {'model': 'vit'})
    save_head(folder / 'depth', DepthHead(reading, width=16, fine=8).eval(), module, {'model': 'vit'})
    return f'{folder / "segmentation"},{folder / "depth"}'


def test_a_robot_gets_its_mask_and_its_depth_and_what_nobody_reads_is_not_sent(heads):
    config = {**MODEL, 'unsealed': True, 'heads': heads}
    with System({**config, 'answer_deadline': 5.0}, bridge=config) as system:
        arrived = system.maps
        system.connected()
        system.edge.submit(IMAGE, 1, 'camera', 'context')
        wait(lambda: len(arrived) == 2 and system.off_board)
        mask, depth = sorted(arrived, key=lambda answer: answer.head.name)[::-1]
        off_board = system.off_board[0][1].heads
        assert (mask.head.name, depth.head.name) == ('segmentation', 'depth') and mask.head.labels == ('floor', 'wall', 'door')
        assert (mask.result.values == off_board['segmentation'].values).all() and (depth.result.values == off_board['depth'].values).all()
        assert (mask.frame.capture_stamp_ns, mask.frame.source_frame, mask.frame.context) == (1, 'camera', 'context')
        values, confidence = mask.at_image()
        assert values.shape == confidence.shape == (90, 120) and values.max() == 255 and not confidence[values == 255].any()
        seen = values != 255            # the model sees nine tenths of a square out of the middle
        assert seen[10:80, 50:70].all() and not seen[:, :10].any()
        assert np.isnan(depth.metres()[:, :10]).all() and (depth.metres()[10:80, 50:70] > 0).all()
        system.edge.read_heads(['depth'])
        for stamp in range(2, 200):
            system.edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: arrived[-1].frame.capture_stamp_ns == stamp and arrived[-1].head.name == 'depth')
            if not any(answer.head.name == 'segmentation' and answer.frame.capture_stamp_ns == stamp for answer in arrived):
                break
        else:
            raise AssertionError('the mask still comes')


def test_only_a_bridge_that_says_something_of_each_place_has_a_memory_that_follows_the_picture(heads):
    for named, follows in (('', False), (heads, True)):
        bridge = SplitBridge(bridge_settings(**MODEL, heads=named))
        assert bridge._memories is not None and bridge._memories.of(1).follows == follows


def seen(frame_id):
    return SeenFrame(frame_id, 10 * frame_id, 'camera', IMAGE, None, (0, 0, 120, 90))


def test_what_did_not_arrive_is_unknown_once_a_newer_map_comes(heads):
    maps = ArrivingMaps([read_head(folder) for folder in heads.split(',')])
    maps.sent(seen(1))
    maps.sent(seen(2))
    confidence = np.tile(np.array([[250], [10]], np.uint8), (1, 8))
    mask = Mask(np.random.default_rng(0).integers(0, 3, (8, 32)).astype(np.uint8), confidence)
    room = max(len(Mask(mask.values[:4], confidence[:1]).parts(999)[0]), len(Mask(mask.values[4:], confidence[1:]).parts(999)[0]))
    first, _ = mask.parts(room)
    assert maps.take(MapPart(1, 10, 0, 0, 2, first)) == []
    (whole,) = DepthMap(mask.values, confidence).parts(999)
    (depth,) = maps.take(MapPart(1, 10, 1, 0, 1, whole))        # another head's: the mask still waits
    assert depth.head.name == 'depth'
    part, _ = maps.take(MapPart(2, 20, 0, 0, 1, mask.parts(999)[0]))
    assert part.frame.frame_id == 1 and (part.result.values[:4] == mask.values[:4]).all()
    assert (part.result.values[4:] == 255).all() and not part.result.confidence[1].any()


@pytest.mark.parametrize('part', [MapPart(1, 10, 2, 0, 1, b'x'), MapPart(1, 10, 0, 0, 1, b'xxxxxxxxxxxxxxxx')])
def test_a_part_that_no_head_says_is_refused(heads, part):
    maps = ArrivingMaps([read_head(folder) for folder in heads.split(',')])
    maps.sent(seen(1))
    with pytest.raises(ValueError):
        maps.take(part)


