"""A small model with its recoveries and images of two classes, made in a second."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.code_artifact import KIND, half_precision, save_code
from evitif.model.folder import artifact_path
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import Sequence, save_recovery
from evitif.settings import SplitSettings
from evitif_lab.baselines import LEARNED
from evitif_lab.training.transform_code import fit_code
from evitif_lab.trials.closed_form import fit_closed_form

sys.path.insert(0, str(Path(__file__).parents[1]))      # heads_backbone

CUT = 1


def patchwork(ids: torch.Tensor, seed: int) -> torch.Tensor:
    """Images [B, 3, 32, 32] of 8-pixel patches whose mean alone tells the class, so that every lost patch costs."""
    levels = 0.5 * torch.randn(len(ids), 1, 4, 4, generator=torch.Generator().manual_seed(seed)) + 0.2 - 0.4 * ids[:, None, None, None]
    return levels.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1).clamp(-1, 1)


def make_images(folder):
    """Bright and dark, 30 of each."""
    ids = torch.arange(60) % 2
    for index, image in enumerate(patchwork(ids, 1)):
        path = folder / 'val' / ('bright', 'dark')[ids[index]] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((127.5 * (image + 1)).permute(1, 2, 0).numpy().astype(np.uint8)).save(path)
    return folder


def make_model(folder, data):
    """A model folder that `data` judges, with two recoveries and a transform code for cut 1."""
    arguments = {'patch_size': 8, 'embed_dim': 24, 'depth': 2, 'num_heads': 2, 'img_size': 32, 'class_token': False, 'global_pool': 'avg'}
    built = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=0, num_classes=2, model_kwargs=arguments))
    ids = torch.arange(128) % 2
    images = patchwork(ids, 0)
    optimiser = torch.optim.Adam(built.module.parameters(), 2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(built.module(images), ids)
        loss.backward()
        optimiser.step()
    assert loss < 0.6
    config = {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0,
              'crop_mode': 'center'}
    save_model(folder, built.module, {
        'name': folder.name, 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': arguments, 'pretrained_cfg': config,
        'class_names': ['bright', 'dark'], 'made_by': {'configuration': {'data': str(data)}}})
    stream = CutModel.load(SplitSettings(model=str(folder), cut=CUT))
    parameters = stream.parameters
    for name, options in (('paldn', {'width': 8, 'depth': 1, 'heads': 2}), ('linear', {})):
        network = LEARNED[name](Sequence(parameters.grid, parameters.prefix_tokens, parameters.channels), **options)
        network.attach(stream.split)
        with torch.no_grad():
            fit_closed_form(network, stream.split.head(images))
        save_recovery(artifact_path(folder, CUT, name), network, {
            'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': CUT, 'loss_range': [0.05, 0.95]})
    with torch.no_grad():
        tokens = stream.split.head(images)
    fisher = torch.eye(parameters.channels, dtype=torch.float64)[None]
    save_code(artifact_path(folder, CUT, KIND), half_precision(fit_code(tokens, 0, fisher)), {
        'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': CUT, 'default': 'klt2'})
    return folder


@pytest.fixture(scope='session')
def shipped(tmp_path_factory):
    """`artifacts` (a folder with one model folder), that `model`, and its `images`."""
    images = make_images(tmp_path_factory.mktemp('images'))
    artifacts = tmp_path_factory.mktemp('artifacts')
    return SimpleNamespace(images=str(images), artifacts=artifacts, model=str(make_model(artifacts / 'small', images)))
