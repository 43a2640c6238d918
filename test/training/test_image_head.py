"""Own classes on a frozen backbone: a linear probe, class means and vectors, from folders of images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from evitif.heads import Asked, Features, load_heads
from evitif.heads.artifact import read_head
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.split_bridge import SplitBridge
from evitif.settings import SplitSettings, bridge_settings
from evitif_cli.main import main
from evitif_lab.evaluation.recovery import RecoveryEvaluation, evaluate_recovery
from evitif_lab.training.image_head import Backbone, ImageHeadTraining, chosen_images, train_image_head

SMALL = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': 32}
COLOURS = {'red': (200, 40, 40), 'green': (40, 200, 40), 'blue': (40, 40, 200)}


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The folder of a backbone of random weights."""
    folder = tmp_path_factory.mktemp('models') / 'small'
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=2, model_kwargs=SMALL)).module
    save_model(folder, module, {'architecture': 'vit_tiny_patch16_224', 'class_names': ['a', 'b'], 'model_kwargs': SMALL,
                                'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3,
                                                   'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}})
    return str(folder)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Pictures of three colours, 20 of each to train and 6 to judge."""
    folder, random = tmp_path_factory.mktemp('pictures'), np.random.default_rng(0)
    for part, count in (('train', 20), ('val', 6)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                picture = np.clip(np.array(colour) + random.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / part / name / f'{number}.png')
    return str(folder)


@pytest.mark.parametrize('task', ['classify', 'prototypes', 'embed'])
def test_one_command_makes_a_head_that_runs(model, pictures, tmp_path, task, capsys):
    command = ['train', 'head', '--task', task, '--backbone', model, '--data', pictures, '--output', str(tmp_path / 'colours')]
    assert main(command) == 0
    about = json.loads((tmp_path / 'colours' / 'head.json').read_text())
    figures = about['figures']
    assert figures['nearest_is_alike' if task == 'embed' else 'test_top1'] >= 0.9 and figures['judged_by'] == 'val'
    assert figures['trained_with'] == (30 if task == 'prototypes' else 60)
    assert 'seconds' in figures and about['made_by']['command'].startswith('evitif train head')
    built = build_model(ModelSpec(model))
    (head,) = load_heads(str(tmp_path / 'colours'), built.name, SplitModel(built.module, 1), built.module)
    assert head.labels == (() if task == 'embed' else ('blue', 'green', 'red'))
    if task != 'embed':
        image = Backbone(built, None, 'cpu', 'fp32').preprocessor(np.full((40, 50, 3), COLOURS['green'], np.uint8))
        split = SplitModel(built.module, 1)
        with torch.inference_mode():
            (said,) = head.results(Features.of(split, split.head(image), head.reading.blocks), [Asked()])
        assert head.labels[said.class_ids[0]] == 'green' and said.scores[0] > 0.5
    capsys.readouterr()
    assert main(command) == 0 and 'is there already, made by the same configuration' in capsys.readouterr().out
    assert main([*command, '--seed', '1']) == 1
    assert 'of another training (seed: 0 there, 1 now)' in capsys.readouterr().err


def test_an_interrupted_training_goes_on_with_the_features_that_it_has(model, pictures, tmp_path, monkeypatch):
    configuration = ImageHeadTraining(model=model, data=pictures, output=str(tmp_path / 'colours'))
    monkeypatch.setattr('evitif_lab.training.image_head.BATCH', 4)
    real, ran = Backbone.pooled, []

    def stopped(self, images):
        ran.append(len(images))
        if len(ran) == 18:
            raise KeyboardInterrupt
        return real(self, images)
    monkeypatch.setattr(Backbone, 'pooled', stopped)
    with pytest.raises(KeyboardInterrupt):
        train_image_head(configuration)
    description = train_image_head(configuration)
    assert sum(ran) == 18 * 4 + (78 - 64) and not (tmp_path / 'colours' / 'checkpoint.pt').exists()
    other = train_image_head(ImageHeadTraining(model=model, data=pictures, output=str(tmp_path / 'again')))
    assert other['digest'] == description['digest']


def test_no_image_that_judges_trains_and_every_class_has_its_share(model, pictures, tmp_path):
    from evitif.datasets import open_images
    train = open_images(pictures, 'train', ranked=True)
    for images, expected in ((9, 3), (0, 20)):
        chosen = chosen_images(train, ImageHeadTraining(model=model, data=pictures, output='x', images=images))
        assert np.bincount([train.items[index][1] for index in chosen]).tolist() == [expected] * 3
    assert all('/train/' in str(path) for path, *_ in train.items)


@pytest.mark.parametrize(('arguments', 'match'), [
    (['--output', 'my-head'], "the head 'my-head' cannot name topics"),
    (['--block', '3'], '--block is 3: expected 1 to 2, the blocks of small'),
    (['--data', 'nowhere'], "image folder 'nowhere' does not exist"),
])
def test_what_cannot_be_is_one_sentence(model, pictures, tmp_path, monkeypatch, arguments, match, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['train', 'head', '--backbone', model, '--data', pictures, '--output', 'colours', *arguments]) == 1
    assert match in capsys.readouterr().err
    assert not (tmp_path / 'colours' / 'head.json').exists()


def test_a_head_is_no_other_backbone_s(model, pictures, tmp_path):
    train_image_head(ImageHeadTraining(model=model, data=pictures, output=str(tmp_path / 'colours'), task='prototypes', per_class=3))
    about = read_head(str(tmp_path / 'colours'))
    assert (about.model, about.labels) == ('small', ('blue', 'green', 'red'))
    other = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=2, num_classes=2, model_kwargs=SMALL)).module
    with pytest.raises(ValueError, match='trained on the backbone small .*, this model is other .*other weights'):
        load_heads(str(tmp_path / 'colours'), 'other', SplitModel(other, 1), other)


def test_recovery_is_judged_by_a_head_s_own_classes(model, pictures, tmp_path):
    train_image_head(ImageHeadTraining(model=model, data=pictures, output=str(tmp_path / 'colours')))
    found = evaluate_recovery(RecoveryEvaluation(model=model, data=pictures, head=str(tmp_path / 'colours'), loss=(0.0, 0.3), cut=1,
                                                 methods=['omission']))
    assert found['top1_lossless'] >= 0.9 and found['top1']['omission']['0.3']['mean'] >= 0.7


def test_a_recovery_is_trained_for_a_head_s_own_classes(model, pictures, tmp_path, capsys):
    train_image_head(ImageHeadTraining(model=model, data=pictures, output=str(tmp_path / 'colours')))
    command = ['train', 'recovery', '--model', model, '--data', pictures, '--cut', '1', '--steps', '2', '--batch-size', '8',
               '--budget', '1', '--head', str(tmp_path / 'colours')]
    assert main(command) == 0
    made_by = json.loads((tmp_path / 'colours' / 'paldn-cut1.json').read_text())['made_by']
    assert made_by['made_from']['head'] == read_head(str(tmp_path / 'colours')).identity[1]
    SplitBridge(bridge_settings(model=model, cut=1, heads=str(tmp_path / 'colours'), recovery='paldn',
                                recovery_artifact=str(tmp_path / 'colours' / 'paldn-cut1.json')))


def test_codes_are_fitted_to_a_head_s_own_classes_and_used_from_its_folder(model, pictures, tmp_path, capsys):
    head = str(tmp_path / 'colours')
    assert main(['train', 'head', '--backbone', model, '--data', pictures, '--output', head]) == 0
    assert 'the codes and the PALDN of small belong to it and its cut, and serve this head as they are' in capsys.readouterr().out
    with pytest.raises(ArtifactError, match='code_folder .* has no code for small at cut 1'):
        CutModel.load(SplitSettings(model=model, cut=1, code_folder=head))
    assert main(['train', 'code', '--model', model, '--data', pictures, '--cut', '1', '--images', '40', '--head', head]) == 0
    digests = {name: json.loads((tmp_path / 'colours' / f'{name}-cut1.json').read_text())['digest'] for name in ('klt', 'entropy')}
    found = CutModel.load(SplitSettings(model=model, cut=1, code_folder=head))
    assert {'klt': found.parameters.code, 'entropy': found.entropy.code.digest} == digests
    assert CutModel.load(SplitSettings(model=model, cut=1)).parameters.code == ''
