"""What losses cost a head for masks: every way of recovery on the same losses, and a table and a plot."""

import cv2
import numpy as np
import pytest
from heads_backbone import save_tiny_backbone

from evitif.files import read_json
from evitif.heads import Reading, save_head
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model
from evitif_lab.evaluation.heads import HeadEvaluation, evaluate_heads
from evitif_lab.evaluation.heads_report import markdown, write_report


@pytest.fixture
def system(tmp_path):
    """A backbone and a segmenter of random weights, and a folder of a bright ball that moves slowly."""
    save_tiny_backbone(tmp_path / 'backbone', 'backbone')
    reading = Reading((2, 4), False, (32, 32), (8, 8), 1, 24)
    head = SegmentHead(reading, ('ground', 'ball'), width=16, fine=4).eval()
    save_head(tmp_path / 'masks', head, build_model(ModelSpec(str(tmp_path / 'backbone'))).module, {'model': 'backbone', 'cut': 2})
    for name in ('images', 'labels'):
        (tmp_path / 'data' / name).mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    for number in range(40):
        mask = ((y - 16)**2 + (x - 4 - number / 2)**2 < 40).astype(np.uint8)
        image = np.where(mask[..., None] == 1, 220, 60).astype(np.uint8).repeat(3, 2)
        cv2.imwrite(str(tmp_path / 'data' / 'images' / f'{number:03d}.png'), image)
        cv2.imwrite(str(tmp_path / 'data' / 'labels' / f'{number:03d}.png'), mask)
    return {'head': str(tmp_path / 'masks'), 'model': str(tmp_path / 'backbone'), 'data': str(tmp_path / 'data')}


def test_every_way_meets_the_same_losses_and_the_report_has_all(system, tmp_path):
    result = evaluate_heads(HeadEvaluation(**system, loss=[0.3, 0.8], seeds=2, json=str(tmp_path / 'result.json')), 'the command')
    assert result['judged'] == result['frames'] == 10 and set(result['lost']) == {'iid 0.3', 'iid 0.8', 'burst 0.3', 'burst 0.8'}
    for cells in result['lost'].values():
        assert cells.keys() == {'zero', 'mean', 'memory', 'linear'}
    said = markdown(result)
    assert '80 %, bursts of 8 packets' in said and 'completion in space and time' in said and '| ball |' in said
    assert read_json(tmp_path / 'result.json')['lost'] == result['lost'] and not list(tmp_path.glob('*.partial'))
    assert len(write_report(result, str(tmp_path / 'result.json'))) == 2 and (tmp_path / 'result.md').is_file()


def test_without_loss_nothing_is_lost(system):
    result = evaluate_heads(HeadEvaluation(**system, loss=[0.0], patterns=['iid'], methods=['memory']))
    assert result['lost']['iid 0']['memory']['lost_points'] == 0.0


def test_a_method_that_is_unknown_is_named(system):
    with pytest.raises(ValueError, match="method 'guess' is unknown"):
        evaluate_heads(HeadEvaluation(**system, methods=['guess']))
