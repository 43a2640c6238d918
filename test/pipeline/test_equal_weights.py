"""Models of the same weights that answer differently: edge, bridge and artifacts tell them apart, and say by what."""

import json
import shutil

import pytest
import torch

from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.errors import ArtifactError
from evitif.partition.artifact import load_device
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.split_bridge import choose_recovery
from evitif.recovery import Paldn, Sequence, save_recovery
from evitif.selection import PatchCode
from evitif.settings import bridge_settings, edge_settings

KWARGS = {'embed_dim': 24, 'depth': 2, 'num_heads': 2, 'patch_size': 8, 'img_size': 32}
DATA = {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}


def write(folder, kwargs=(), data=()):
    """A model folder, always of the same weights."""
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=3, model_kwargs=KWARGS)).module
    save_model(folder, module, {'name': 'same', 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {**KWARGS, **dict(kwargs)},
                                'pretrained_cfg': {**DATA, **dict(data)}, 'class_names': ['a', 'b', 'c']})
    return str(folder)


@pytest.mark.parametrize('kwargs, data, part', [
    ({'num_heads': 3}, {}, 'architecture'), ({'act_layer': 'quick_gelu'}, {}, 'architecture'),
    ({}, {'mean': [0.4] * 3}, 'preprocessing'), ({}, {'std': [0.4] * 3}, 'preprocessing'),
    ({}, {'crop_pct': 0.9}, 'preprocessing'), ({}, {'interpolation': 'bilinear'}, 'preprocessing'),
    ({}, {'crop_mode': 'squash'}, 'preprocessing')])
def test_the_handshake_and_a_recovery_refuse_the_other_model(tmp_path, kwargs, data, part):
    edge = CutModel.load(edge_settings(model=write(tmp_path / 'edge'), unsealed=True, cut=1))
    config = bridge_settings(model=write(tmp_path / 'bridge', kwargs, data), unsealed=True, cut=1)
    bridge = CutModel.load(config)
    weights = bridge.split.module.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in edge.split.module.state_dict().items())
    difference, *others = edge.parameters.differences(bridge.parameters)
    assert others == (['fit: the edge has crop, the bridge has squash'] if 'crop_mode' in data else [])
    assert difference.startswith('fingerprint: the edge has ') and f'(other {part}; the same weights, ' in difference
    network = Paldn(Sequence(edge.split.grid, edge.split.prefix_tokens, edge.split.channels), width=16, depth=1, heads=1)
    save_recovery(tmp_path / 'bridge' / 'paldn-cut1.json', network, {
        'model': 'same', 'fingerprint': edge.parameters.fingerprint, 'cut': 1, 'loss_range': [0.1, 0.9]})
    with pytest.raises(ArtifactError, match=f'other {part}; the same weights'):
        choose_recovery(config, bridge)


def test_a_partition_s_device_that_looks_otherwise_is_refused(partition, tmp_path):
    folder = tmp_path / 'p'
    shutil.copytree(partition, folder)
    load_device(folder, 0)
    content = json.loads((folder / 'partition.json').read_text())
    content['data_config']['std'] = [0.4] * 3
    (folder / 'partition.json').write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match='not the sub-model that partition.json describes.*other preprocessing; the same weights'):
        load_device(folder, 0)
    content['data_config']['std'], content['model_kwargs']['act_layer'] = [0.5] * 3, 'quick_gelu'
    (folder / 'partition.json').write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match='other architecture; the same weights'):
        load_device(folder, 0)


def test_a_patch_code_that_looks_otherwise_is_refused(pair, tmp_path):
    folder = tmp_path / 'large'
    shutil.copytree(pair[1], folder)
    path = folder / 'pixels-cut0.json'
    PatchCode.load(path)
    content = json.loads(path.read_text())
    content['data_config']['crop_pct'] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match='its data_config is not the preprocessing of the model'):
        PatchCode.load(path)
