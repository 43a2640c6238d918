"""Masks over a bad link: edge, bridge and codecs as they are, on the same frames and losses, judged by the maps that stand on the robot."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from heads_backbone import save_tiny_backbone

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))      # it is run from the repository and not installed
pytest.importorskip('torch')

from benchmarks.part import PartError
from benchmarks.streams import maps
from benchmarks.streams.clips import NO_ANSWER, standing
from benchmarks.streams.map_clips import MapSplit, PlaceClip
from benchmarks.streams.traces import Link
from evitif.heads import Reading, save_head
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model

FRAMES = 8


@pytest.fixture
def given(tmp_path):
    """A backbone and a segmenter of random weights, and frames of a ball that moves: the options of the part."""
    save_tiny_backbone(tmp_path / 'backbone', 'backbone')
    head = SegmentHead(Reading((2, 4), False, (32, 32), (8, 8), 1, 24), ('ground', 'ball'), width=16, fine=4).eval()
    save_head(tmp_path / 'masks', head, build_model(ModelSpec(str(tmp_path / 'backbone'))).module, {'model': 'backbone', 'cut': 2})
    for name in ('images', 'labels'):
        (tmp_path / 'data' / 'val' / name).mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    for number in range(FRAMES):
        mask = ((y - 16)**2 + (x - 4 - 2 * number)**2 < 40).astype(np.uint8)
        image = np.where(mask[..., None] == 1, 220, 60).astype(np.uint8).repeat(3, 2)
        cv2.imwrite(str(tmp_path / 'data' / 'val' / 'images' / f'{number:03d}.png'), image)
        cv2.imwrite(str(tmp_path / 'data' / 'val' / 'labels' / f'{number:03d}.png'), mask)
    return {'head': str(tmp_path / 'masks'), 'model': str(tmp_path / 'backbone'), 'checkpoint': None, 'data': str(tmp_path / 'data'),
            'void': None, 'fit': 'auto', 'rate_hz': 15.0, 'frames': None}


def test_what_is_lost_and_what_the_bytes_are_stands_on_the_page(given, tmp_path):
    result = maps.run(True, tmp_path / 'out', seeds=1, minutes=None, **given)
    assert result['frames'] == FRAMES and result['measured']['runs'] == result['measured']['of']
    cells = result['figures']['cells']
    assert {cell['link'] for cell in cells} == {'60 %'} and all(cell['bytes'] > 0 for cell in cells)
    exact = result['figures']['exact']['miou']
    assert all(cell['cost'] == pytest.approx(100 * (exact - cell['value']), abs=0.02) for cell in cells)
    said = maps.section(result, tmp_path)
    assert '| ball |' in said and 'points of mIoU lost' in said.lower().replace('miou', 'mIoU')
    assert not list((tmp_path / 'out').glob('*.partial'))


def test_without_loss_the_robot_has_the_masks_of_the_model_that_sees_the_tokens(given):
    clip = PlaceClip(maps.source_of(*(given[name] for name in ('head', 'model', 'checkpoint', 'data', 'void', 'fit', 'rate_hz')), FRAMES))
    result = MapSplit({}, {})(clip, Link('', 0.0).trace(0, FRAMES, 15.0))
    assert (result.answers != NO_ANSWER).all()
    alike = [np.mean(clip.maps[said] == clip.maps[whole]) for said, whole in zip(result.answers, clip.answers, strict=True)]
    assert min(alike) > 0.9
    lossy = MapSplit({}, {})(clip, Link('', 0.6).trace(0, FRAMES, 15.0))
    assert (standing(lossy.answers)[1:] != NO_ANSWER).all()


def test_nothing_is_known_before_the_first_mask(given):
    clip = PlaceClip(maps.source_of(*(given[name] for name in ('head', 'model', 'checkpoint', 'data', 'void', 'fit', 'rate_hz')), 2))
    assert clip.figures(np.array([NO_ANSWER, NO_ANSWER])).value == 0 < clip.figures(clip.answers).value


def test_a_head_that_is_not_there_is_named(given, tmp_path):
    with pytest.raises(PartError, match=r'nowhere.*docs/heads\.md'):
        maps.run(True, tmp_path / 'out', seeds=1, minutes=None, **{**given, 'head': str(tmp_path / 'nowhere')})
