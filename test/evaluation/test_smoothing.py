"""How much answers flicker: with and without a filter, of classes and of masks, and when a new class is first said."""

import numpy as np
import pytest
from heads_backbone import save_tiny_backbone
from PIL import Image

from evitif.files import read_json
from evitif.heads import Reading, save_head
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model
from evitif_cli.main import main
from evitif_lab.evaluation.smoothing import SmoothingEvaluation, evaluate_smoothing

FRAMES = 24


@pytest.fixture
def system(tmp_path):
    """A model of random weights, and a noisy film: folders of two classes, the second half of the frames of the other one."""
    save_tiny_backbone(tmp_path / 'model', 'small')
    head = SegmentHead(Reading((2, 4), False, (32, 32), (8, 8), 1, 24), ('ground', 'ball'), width=16, fine=4).eval()
    for bias in (head.decoder.out.bias, head.decoder.coarse.bias):       # so that no class wins everywhere
        bias.data.zero_()
    save_head(tmp_path / 'masks', head, build_model(ModelSpec(str(tmp_path / 'model'))).module, {'model': 'small'})
    random = np.random.default_rng(0)
    scene = random.normal(128, 60, (32, 32, 3))
    for number in range(FRAMES):
        folder = tmp_path / 'film' / ('a' if number < FRAMES // 2 else 'b')
        folder.mkdir(parents=True, exist_ok=True)
        picture = scene + random.normal(0, 25, scene.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f'{number:02d}.png')
    return {'model': str(tmp_path / 'model'), 'data': [str(tmp_path / 'film')]}


def test_a_filter_makes_answers_change_less_and_a_new_class_is_said_later_at_the_earliest(system, tmp_path):
    result = evaluate_smoothing(SmoothingEvaluation(**system, rate_hz=[10.0], smoothing=[0.5], json=str(tmp_path / 'found.json')), 'it')
    (video,) = result['videos']
    plain, filtered = video['by_constant']['0'], video['by_constant']['0.5']
    assert (video['frames'], video['changes_of_scene']) == (FRAMES, 0)
    assert filtered['changes'] <= plain['changes'] and 0 <= plain['right'] <= 1
    assert plain['delay_s'] is None or filtered['delay_s'] is None or filtered['delay_s'] >= plain['delay_s'] >= 0
    assert read_json(tmp_path / 'found.json')['videos'] == result['videos']


def test_masks_flicker_by_their_places_and_the_command_tells(system, tmp_path, capsys):
    film = system['data'][0]
    assert main(['evaluate', 'smoothing', '--model', system['model'], '--data', film, '--head', str(tmp_path / 'masks'), '--smoothing', '1',
                 '--json', str(tmp_path / 'found.json')]) == 0
    printed = capsys.readouterr().out
    cells = read_json(tmp_path / 'found.json')['videos'][0]['by_constant']
    assert cells['1']['changes'] < cells['0']['changes'] and 'right' not in cells['0'] and 'head masks' in printed
    assert (tmp_path / 'found.md').read_text().count('|') > 6


def test_rates_that_are_not_those_of_the_films_are_refused(system):
    with pytest.raises(ValueError, match='--rate-hz has 2 numbers and --data 1: expected one, or as many'):
        evaluate_smoothing(SmoothingEvaluation(**system, rate_hz=[10.0, 20.0]))
