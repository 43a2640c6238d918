"""Masks and depth: what may lie in a folder, and that a head learns from it."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from evitif.datasets import DatasetError
from evitif.heads import load_head
from evitif.heads.depth import DepthHead
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.fingerprint import trunk_fingerprint
from evitif.model.split import SplitModel
from evitif.pipeline.split_bridge import SplitBridge
from evitif.settings import bridge_settings
from evitif.vocabulary import Task
from evitif_cli import main
from evitif_lab.data.places import UNLABELLED, open_places
from evitif_lab.training.place_head import PlaceTraining, lovasz, train_place_head
from evitif_lab.trials.place_figures import DepthFigures, MaskFigures, describe

LABELS = ('ground', 'ball')


def scene(seed: int, size: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright ball over darker ground: image, mask, depth in millimetres (the ball is near)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    mask = ((y - random.integers(8, 24))**2 + (x - random.integers(8, 24))**2 < random.integers(30, 90)).astype(np.uint8)
    image = np.where(mask[..., None] == 1, (230, 60, 60), (40, 90, 60)) + random.integers(-20, 20, (size, size, 3))
    return image.clip(0, 255).astype(np.uint8), mask, np.where(mask == 1, 1000, 4000).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    """40 scenes with masks and depth, divided for masks, and labels.txt."""
    for split, seeds in (('train', range(32)), ('val', range(32, 40))):
        for name in ('images', 'labels', 'depth'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
        for seed in seeds:
            for name, values in zip(('images', 'labels', 'depth'), scene(seed), strict=True):
                cv2.imwrite(str(tmp_path / 'data' / split / name / f'{seed:03d}.png'), values)
    (tmp_path / 'data' / 'labels.txt').write_text('\n'.join(LABELS))
    return tmp_path / 'data'


@pytest.fixture
def backbone(tmp_path):
    """A model folder of random weights: 4 x 4 patches, 4 blocks."""
    kwargs = {'img_size': 32, 'patch_size': 8, 'embed_dim': 24, 'depth': 4, 'num_heads': 3}
    built = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=2, model_kwargs=kwargs))
    save_model(tmp_path / 'backbone', built.module, {
        'name': 'backbone', 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': kwargs, 'class_names': ['a', 'b'], 'default_cut': 2,
        'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0,
                           'crop_mode': 'center'}})
    return str(tmp_path / 'backbone')


def training(folder, backbone, output, **changes) -> dict:
    return train_place_head(PlaceTraining(**{'model': backbone, 'data': str(folder), 'output': str(output), 'epochs': 6, 'width': 24,
                                             **changes}))


def loaded(name, backbone):
    module = build_model(ModelSpec(backbone)).module
    return load_head(str(name), 'backbone', SplitModel(module, 2), lambda block, norm: trunk_fingerprint(module, block, norm))


def test_a_segmenter_learns_and_is_loaded(folder, backbone, tmp_path):
    description = training(folder, backbone, tmp_path / 'mask')
    figures = description['figures']
    assert figures['miou'] > 0.7 and set(figures['iou']) == set(LABELS) and figures['judged_by'] == 'val' and figures['images'] == 8
    head = loaded(tmp_path / 'mask', backbone)
    assert isinstance(head, SegmentHead) and head.labels == LABELS and head.reading.blocks == (2, 3, 4)
    assert training(folder, backbone, tmp_path / 'mask') == description        # it is there already
    with pytest.raises(ValueError, match=re.escape('seed 0 and 1') + '|seed'):
        training(folder, backbone, tmp_path / 'mask', seed=1)
    assert '| ball |' in describe(figures)


def test_fine_tuned_blocks_make_a_model_of_its_own(folder, backbone, tmp_path):
    description = training(folder, backbone, tmp_path / 'tuned', unfreeze=True, epochs=2)
    assert 'a model of its own' in description['own_model']
    with pytest.raises(ValueError, match='was trained on the backbone'):
        loaded(tmp_path / 'tuned', backbone)
    assert isinstance(loaded(tmp_path / 'tuned', str(tmp_path / 'tuned')), SegmentHead)
    before, after = (build_model(ModelSpec(name)).module.state_dict() for name in (backbone, str(tmp_path / 'tuned')))
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-3)}
    assert changed and all(name.startswith(('blocks.2', 'blocks.3')) for name in changed)


def test_depth_is_learnt_from_the_first_three_quarters_of_a_folder(folder, backbone, tmp_path):
    description = training(folder / 'train', backbone, tmp_path / 'depth', task='depth')
    assert description['figures']['delta1'] > 0.7 and description['figures']['trained_with'] == 24
    assert isinstance(loaded(tmp_path / 'depth', backbone), DepthHead)


def test_an_interrupted_training_goes_on(folder, backbone, tmp_path, monkeypatch):
    from evitif_lab.training import checkpoint as checkpoints
    whole = training(folder, backbone, tmp_path / 'whole', epochs=3)
    saved, state = checkpoints.Checkpoint.save, []

    def save_then_stop(self, value):
        saved(self, value)
        state.append(1)
        if len(state) == 1:
            raise KeyboardInterrupt
    monkeypatch.setattr(checkpoints.Checkpoint, 'save', save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        training(folder, backbone, tmp_path / 'parts', epochs=3)
    monkeypatch.undo()
    assert training(folder, backbone, tmp_path / 'parts', epochs=3)['figures']['iou'] == whole['figures']['iou']


def draw(data, mask):
    cv2.imwrite(str(data / 'val' / 'labels' / '033.png'), mask)


@pytest.mark.parametrize(('change', 'sentence'), [
    (lambda data: draw(data, np.full((32, 32), 7, np.uint8)), '033.png has the class 7, and there are 2'),
    (lambda data: draw(data, np.zeros((16, 32), np.uint8)), 'has 16x32 pixels, its image 033.png has 32x32'),
    (lambda data: (data / 'train' / 'labels' / '003.png').unlink(), 'images: 003 without a mask'),
    (lambda data: (data / 'train' / 'images' / '003.png').unlink(), 'labels: 003 without an image'),
    (lambda data: draw(data, np.zeros((32, 32, 3), np.uint8)), 'expected a mask of one channel, the id of the class of each'),
    (lambda data: (data / 'val' / 'labels' / '033.png').rename(data / 'val' / 'labels' / '033.jpg').write_bytes(
        cv2.imencode('.jpg', np.zeros((32, 32), np.uint8))[1].tobytes()), '033.jpg is a JPEG, which changes the values of pixels'),
    (lambda data: (data / 'val' / 'images' / '033.bmp').write_bytes(b''), 'images has 033.bmp and 033.png: expected one of each name')])
def test_what_cannot_be_trained_with_is_named(folder, change, sentence):
    change(folder)
    with pytest.raises(DatasetError, match=re.escape(sentence)):
        for split in ('train', 'test'):
            places = open_places(str(folder), split, Task.SEGMENT)
            [places[index] for index in range(len(places))]


def test_masks_that_judge_are_looked_at_before_anything_is_trained(folder, backbone, tmp_path, monkeypatch):
    draw(folder, np.full((32, 32), 7, np.uint8))
    monkeypatch.setattr('evitif_lab.training.place_head.train_loop', lambda *_: pytest.fail('it was trained'))
    with pytest.raises(DatasetError, match='033.png has the class 7'):
        training(folder, backbone, tmp_path / 'mask')


def test_masks_of_a_palette_and_of_one_bit_and_pictures_in_sub_folders_are_taken(folder):
    for kind in ('images', 'labels'):
        for name in ('street', 'yard'):         # the same names in both
            (folder / 'train' / kind / name).mkdir()
    masks = ('street', Image.fromarray(np.eye(32, dtype=np.uint8), 'P')), ('yard', Image.fromarray(np.eye(32) > 0))
    for number, (name, mask) in enumerate(masks):
        if mask.mode == 'P':
            mask.putpalette([0, 0, 0, 255, 0, 0])
        mask.save(folder / 'train' / 'labels' / name / '1.png')
        (folder / 'train' / 'images' / '000.png').with_name(f'{number:03d}.png').rename(folder / 'train' / 'images' / name / '1.png')
        (folder / 'train' / 'labels' / f'{number:03d}.png').unlink()
    places = open_places(str(folder), 'train', Task.SEGMENT)
    assert len(places) == 32 and [path.parent.name for path, _ in places.pairs[-2:]] == ['street', 'yard']
    for index in (-2, -1):
        np.testing.assert_array_equal(places[index].truth, np.eye(32, dtype=np.uint8))


@pytest.mark.parametrize('task', ['segment', 'depth'])
def test_codes_and_recovery_are_fitted_to_what_a_head_says_of_places(folder, backbone, tmp_path, task):
    head, images = str(tmp_path / task), str(folder / 'train' / 'images')
    training(folder, backbone, head, task=task, epochs=1)
    common = ['--model', backbone, '--data', images, '--head', head]
    few = ['--steps', '2', '--batch-size', '4', '--budget', '1', '--memory-steps', '2', '--videos', '8']
    assert main(['train', 'recovery', *common, *few]) == 0
    assert main(['train', 'code', *common, '--images', '16', '--gradient-images', '8']) == 0
    bridge = SplitBridge(bridge_settings(model=backbone, heads=head, code_folder=head, recovery_artifact=f'{head}/paldn-cut2.json'))
    assert bridge.parameters.entropy_code and bridge.recovery.name == 'paldn'
    table = json.loads((tmp_path / task / 'klt-cut2.json').read_text())['figures']['accuracy_cost']
    assert table['recovery'] == 'paldn' and table['lost'][-1][1] > 0


def test_void_and_255_are_no_class(folder):
    mask = np.zeros((32, 32), np.uint8)
    mask[:4], mask[4:8] = 9, 255
    cv2.imwrite(str(folder / 'train' / 'labels' / '000.png'), mask)
    truth = open_places(str(folder), 'train', Task.SEGMENT, void=9)[0].truth
    assert (truth[:8] == UNLABELLED).all() and (truth[8:] == 0).all()


def test_without_names_classes_have_numbers(folder):
    (folder / 'labels.txt').unlink()
    assert open_places(str(folder), 'test', Task.SEGMENT).class_names == ('class 0', 'class 1')


@pytest.mark.parametrize(('source', 'task', 'sentence'), [
    ('fashion-mnist', Task.SEGMENT, 'fashion-mnist has no masks'), ('moving-fashion', Task.DEPTH, 'moving-fashion has no depth images'),
    ('nowhere', Task.SEGMENT, "'nowhere' does not exist")])
def test_a_source_without_places_is_named(source, task, sentence):
    with pytest.raises(DatasetError, match=re.escape(sentence)):
        open_places(source, 'train', task)


def test_the_figures_are_those_of_the_field():
    figures = MaskFigures(('a', 'b', 'c'))
    figures.add_classes(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]]))
    assert figures.by_class == {'a': 0.5, 'b': pytest.approx(1 / 3), 'c': 0.0} or figures.by_class['c'] is not None
    figures = MaskFigures(('a', 'b'))
    figures.add(torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]]]]), [np.array([[0, 1]], np.uint8)])
    assert figures.value == 1.0
    depth = DepthFigures()
    depth.add(torch.full((1, 2, 2), 2.0), [np.array([[2.0, 2.4], [3.0, np.nan]], np.float32)])
    found = depth.figures()
    assert found['delta1'] == pytest.approx(2 / 3, abs=1e-4) and found['relative_error'] == pytest.approx(1 / 6, abs=1e-4)


def test_the_lovasz_loss_is_one_less_the_overlap_at_the_corners():
    """Of hard answers it is 1 - IoU, averaged over the classes that occur (Berman et al., equation 9)."""
    ids, said = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    loss = lovasz(torch.nn.functional.one_hot(said, 3).T.float(), ids)
    assert float(loss) == pytest.approx(1 - (2 / 3 + 1 / 2) / 2)


def test_the_description_is_json(folder, backbone, tmp_path):
    training(folder, backbone, tmp_path / 'mask', epochs=1)
    description = json.loads((tmp_path / 'mask' / 'head.json').read_text())
    assert description['task'] == 'segment' and description['cut'] == 2 and description['seed'] == 0
