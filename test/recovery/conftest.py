"""A small model folder, and recoveries of random weights in it."""

import pytest
import torch

from evitif.model.build import save_model
from evitif.model.folder import artifact_path
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import Sequence, save_recovery
from evitif.settings import SplitSettings
from evitif_lab.baselines import LEARNED, sized

DESCRIPTION = {'architecture': 'vit_tiny_patch16_224', 'class_names': ['a', 'b', 'c'],
               'model_kwargs': {'embed_dim': 24, 'depth': 3, 'num_heads': 3, 'img_size': 48},
               'pretrained_cfg': {'input_size': [3, 48, 48], 'mean': [0.5] * 3, 'std': [0.5] * 3,
                                  'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}}


@pytest.fixture
def folder(tmp_path):
    """The model folder."""
    from evitif.model.timm_import import timm
    torch.manual_seed(0)
    module = timm.create_model(DESCRIPTION['architecture'], num_classes=3, **DESCRIPTION['model_kwargs'])
    save_model(tmp_path / 'models' / 'small', module, DESCRIPTION)
    return tmp_path / 'models' / 'small'


@pytest.fixture
def train(folder):
    """Puts a recovery of this kind for a cut into the model folder and returns its description's path."""
    def write(kind, cut=1, **options):
        stream = CutModel.load(SplitSettings(model=str(folder), cut=cut))
        parameters = stream.parameters
        sequence = Sequence(parameters.grid, parameters.prefix_tokens, parameters.channels)
        network = LEARNED[kind](sequence, **options) if options else sized(LEARNED[kind], sequence, 1e5)
        network.attach(stream.split)
        for parameter in network.parameters():
            parameter.data.add_(0.3 * torch.randn(parameter.shape))
        path = artifact_path(folder, cut, kind)
        save_recovery(path, network, {'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': cut,
                                      'loss_range': [0.05, 0.95]})
        return path
    return write
