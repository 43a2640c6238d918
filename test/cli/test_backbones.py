"""From a backbone without a classifier to a model: the refusal names a command, and that command works."""

import shlex

import numpy as np
import torch
from PIL import Image

from evitif.model.timm_import import timm
from evitif.pipeline.cut_model import CutModel
from evitif.settings import bridge_settings
from evitif_cli import main


def test_the_sentence_on_a_backbone_leads_to_a_model(tmp_path, capsys):
    for split in ('train', 'val'):
        for name in ('bright', 'dark'):
            (tmp_path / 'data' / split / name).mkdir(parents=True)
            for index in range(4):
                Image.fromarray(np.full((32, 32, 3), 200 * (name == 'bright') + index, np.uint8)).save(
                    tmp_path / 'data' / split / name / f'{index}.png')
    weights, data = tmp_path / 'the backbone.pth', ['--data', str(tmp_path / 'data')]
    backbone = timm.create_model('test_vit', num_classes=0).state_dict()
    torch.save({'teacher': {f'backbone.{name}': tensor for name, tensor in backbone.items()}}, weights)
    for what in ('recovery', 'code', 'partition'):
        devices = ['--devices', '2'] if what == 'partition' else []
        model = ['--model', 'test_vit', '--checkpoint', str(weights)]
        assert main(['train', what, *model, *data, *devices, '--output', str(tmp_path / 'r')]) == 1
        error = capsys.readouterr().err.strip()
        assert 'head.weight' in error and len(error.splitlines()) == 1
        command = shlex.split(error.split('`')[1])
        assert command[0] == 'evitif' and str(weights) in command
    filled = [{'FOLDER': str(tmp_path / 'm')}.get(word, word) for word in command[1:]]
    filled[filled.index('--data') + 1] = str(tmp_path / 'data')
    shape = ['--image-size', '64', '--epochs', '1', '--batch-size', '4', '--warmup-epochs', '0']
    assert main([*(word for word in filled if word != '--reset-head'), *shape]) == 1
    assert '--reset-head' in capsys.readouterr().err
    assert main([*filled, *shape]) == 0
    said = capsys.readouterr().out
    assert f'{len(backbone)} of {len(backbone) + 2} tensors start from {weights}' in said and 'begin anew: head.weight, head.bias' in said
    assert CutModel.load(bridge_settings(model=str(tmp_path / 'm'))).labels == ('bright', 'dark')


def test_reset_head_alone_is_refused(tmp_path, capsys):
    (tmp_path / 'train' / 'a').mkdir(parents=True)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / 'train' / 'a' / '0.png')
    (tmp_path / 'val').symlink_to(tmp_path / 'train')
    assert main(['train', 'model', '--data', str(tmp_path), '--output', str(tmp_path / 'm'), '--reset-head']) == 1
    assert '--reset-head is given without --initial-weights' in capsys.readouterr().err
