"""Trainings see pictures as the robot does, at any size and fit, and as before where the size is a square."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from evitif.model.preprocess import Preprocessor, seen_as
from evitif.pipeline.cut_model import CutModel
from evitif.settings import SplitSettings
from evitif_cli.main import main
from evitif_lab.trials.camera_motion import camera_path, film
from evitif_lab.trials.images import Seen, load_views, square

CONFIG = {'input_size': (3, 24, 32), 'mean': (0.5,) * 3, 'std': (0.5,) * 3, 'interpolation': 'bicubic', 'crop_pct': 0.9,
          'crop_mode': 'center'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Pictures of 40x60 pixels in three classes."""
    folder, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 2)):
        for name in 'abc':
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                grey = random.integers(0, 256, (5, 8, 3), np.uint8)
                Image.fromarray(grey).resize((60, 40), Image.Resampling.BICUBIC).save(folder / split / name / f'{index}.png')
    return folder


def test_a_training_sees_the_pixels_that_the_robot_sees(folder):
    picture = np.asarray(Image.open(folder / 'train' / 'a' / '0.png'))
    for fit in ('pad', 'squash'):
        config = seen_as(CONFIG, None, fit)
        seen = Preprocessor(config).pixels(picture)
        assert seen.shape == (24, 32, 3) and np.array_equal(Seen(config)(picture), seen)
        assert torch.equal(load_views([str(folder)], config)[0].permute(1, 2, 0), torch.from_numpy(seen))
    for fit in ('crop', 'pad', 'squash'):
        views = load_views([str(folder)], seen_as(CONFIG, None, fit), views=[2], limits=[3])
        assert views.shape == (6, 3, 24, 32)


def test_a_square_is_read_as_it_always_was(folder):
    picture = np.asarray(Image.open(folder / 'train' / 'a' / '0.png'))
    assert np.array_equal(Seen(24)(picture), square(picture, 24))
    assert np.array_equal(Seen(seen_as(CONFIG, (24, 24)))(picture), square(picture, 24))


def test_a_camera_turns_in_pixels_whatever_the_proportions():
    """A disc stays one while the camera moves over it."""
    y, x = np.mgrid[:48, :96]
    disc = torch.from_numpy(255 * (np.hypot(x - 47.5, y - 23.5) < 15).astype(np.uint8)).expand(1, 3, -1, -1)
    for frames in (camera_path(disc, 3, torch.Generator().manual_seed(1), torch.full((1,), 2.0))[0].float(),
                   film(disc, (32, 64), (0.0, 1.0), torch.Generator().manual_seed(1))[0]):
        for frame in frames:
            rows, columns = np.nonzero((frame[0] > 128).numpy())
            assert abs(np.ptp(rows) - np.ptp(columns)) <= 2


def test_train_and_evaluate_a_model_of_another_shape(folder, tmp_path, capsys):
    """`evitif train model`, `train code`, `train recovery` and `evaluate recovery`, at 24x32 and then at 16x32 pixels."""
    model, kwargs = tmp_path / 'm', ['patch_size=8', 'embed_dim=24', 'num_heads=2', 'depth=2']
    assert main(['train', 'model', '--data', str(folder), '--output', str(model), '--epochs', '1', '--image-size', '24x32',
                 '--fit', 'squash', '--model-kwargs', *kwargs]) == 0
    about = json.loads((model / 'model.json').read_text())
    assert about['model_kwargs']['img_size'] == [24, 32] and about['pretrained_cfg']['crop_mode'] == 'squash'
    own = CutModel.load(SplitSettings(model=str(model))).parameters
    assert own.image_size == (24, 32) and own.fit == 'squash' and own.grid == (3, 4)
    code = ['train', 'code', '--model', str(model), '--data', str(folder), '--images', '18', '--gradient-images', '6']
    assert main(code) == 0
    assert main([*code, '--image-size', '16x32', '--fit', 'pad']) == 0
    names = {path.name for path in model.glob('*.json')}
    assert {'klt-cut1.json', 'entropy-cut1.json', 'klt-cut1-16x32-pad.json', 'entropy-cut1-16x32-pad.json'} <= names
    for size, fit in ((None, 'auto'), ('16x32', 'pad'), ('32x32', 'auto')):
        stream = CutModel.load(SplitSettings(model=str(model), image_size=size, fit=fit))
        named = 'entropy-cut1-16x32-pad.json' if fit == 'pad' else 'entropy-cut1.json'
        assert stream.entropy.code.digest == json.loads((model / named).read_text())['digest']
        assert stream.parameters.entropy_code == stream.entropy.code.agreement
    assert main(['train', 'recovery', '--model', str(model), '--data', str(folder), '--steps', '2', '--batch-size', '4', '--budget', '0.9',
                 '--image-size', '16x32', '--memory-steps', '1', '--videos', '3']) == 0
    assert (model / 'paldn-cut1-16x32.json').is_file()
    assert main(['evaluate', 'recovery', '--model', str(model), '--data', str(folder), '--image-size', '16x32', '--loss', '0', '0.5']) == 0
    assert 'paldn' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*code, '--image-size', '16x'])
    assert "'16x' is not a side such as 224" in capsys.readouterr().err
