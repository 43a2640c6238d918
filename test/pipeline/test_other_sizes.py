"""A model with its codes and its PALDN, fitted at 28x28 pixels, runs at other sizes and fits."""

import numpy as np
import pytest
import torch
from running_system import System, wait

from evitif.model.entropy_code import State
from evitif.model.regrid import by_distance, covariance_resampled, distances_resampled, places_resampled
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.shape_check import ShapeCheck
from evitif.pipeline.split_bridge import choose_recovery
from evitif.pipeline.split_edge import SplitEdge
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.recovery.artifact import ArtifactError
from evitif.recovery.linear import LearnedRecovery, LinearCompletion
from evitif.recovery.methods import Sequence
from evitif.settings import SplitSettings, bridge_settings, edge_settings
from evitif.vocabulary import Fit, RecoveryName

FOLDER, SIZE = 'artifacts/fashion_mnist', '28x56'


@pytest.fixture(scope='module')
def wide():
    return CutModel.load(SplitSettings(model=FOLDER, image_size=SIZE, fit='pad'))


@pytest.fixture(scope='module')
def own():
    return CutModel.load(SplitSettings(model=FOLDER))


def tokens_of(model):
    y, x = np.mgrid[:40, :80]
    grey = 200 * (abs(x - 40) < 22) * (abs(y - 20) < 14) + 40 * (x % 16 < 8) * (abs(y - 20) < 14)
    pixels = np.repeat(grey.astype(np.uint8)[:, :, None], 3, 2)
    return model.head(model.preprocessor(pixels))[0].numpy()


def test_codes_serve_another_grid(wide, own):
    assert wide.parameters.grid == (7, 14) and wide.parameters.fit == Fit.PAD and own.parameters.fit == Fit.CROP
    assert wide.parameters.entropy_code == own.parameters.entropy_code != ''      # both sides have the same, whatever their last bits
    assert wide.entropy.code.kernel.shape == (13, 27)
    tokens, code = tokens_of(wide), wide.entropy.code
    plan = code.plan(code.quantise(tokens), 4)
    places = np.arange(len(tokens))
    arrived = code.reconstruct(code.unpack(code.pack(plan, places), places, 4))
    spread = np.square(tokens - code.mean).mean()
    assert np.square(arrived - tokens).mean() < 0.2 * spread


def test_rows_serve_another_grid():
    wide = CutModel.load(SplitSettings(model=FOLDER, image_size=SIZE, quantisation='klt2'))
    tokens = tokens_of(wide)
    rows = wide.quantiser.quantise(tokens)
    assert rows.shape[0] == wide.parameters.tokens == 99
    arrived = wide.quantiser.dequantise(rows)
    assert np.square(arrived - tokens).mean() < 0.5 * tokens.var()


def test_a_paldn_is_taken_to_another_grid(wide, own):
    tokens = torch.from_numpy(tokens_of(wide))[None]
    received = torch.rand(1, tokens.shape[1], generator=torch.Generator().manual_seed(1)) > 0.5
    received[:, 0] = True
    recovery, sentence = choose_recovery(bridge_settings(model=FOLDER, unsealed=True), wide)
    assert recovery.name == RecoveryName.PALDN and 'taken from 7x7 to 7x14 patches' in sentence
    assert 'taken' not in choose_recovery(bridge_settings(model=FOLDER, unsealed=True), own)[1]
    found = recovery.recover(tokens, received, torch.tensor([0.5]))
    assert torch.equal(found.tokens[received], tokens[received])

    def error(values):
        return float((values[~received] - tokens[~received]).square().mean())
    mean = recovery.mean[None].expand_as(tokens)
    assert error(found.tokens) < 0.9 * error(mean)


def test_what_depends_on_its_grid_is_refused_with_a_sentence():
    sequence = Sequence((4, 4), 1, 8)
    with pytest.raises(ValueError, match='was made for 4x4 patches and cannot be taken to 2x8'):
        type('Fixed', (LearnedRecovery,), {'name': 'fixed'})(sequence).regridded((2, 8))
    with pytest.raises(ValueError, match='is taken to at most 2048 tokens, not to 2501'):
        LinearCompletion(sequence).regridded((50, 50))


def test_another_models_code_is_still_refused(tmp_path):
    from evitif.model.code_artifact import load_code
    from evitif.model.errors import ModelError
    other = CutModel.load(SplitSettings(model='vit_tiny_patch16_224', random_seed=1, image_size='32x48', quantisation='int8'))
    with pytest.raises(ArtifactError, match='was made for the model'):
        load_code(f'{FOLDER}/klt-cut3.json', other.identity)
    with pytest.raises(ModelError, match='image_size is 30x56, and fashion_mnist has patches of 4x4 pixels'):
        CutModel.load(SplitSettings(model=FOLDER, image_size='30x56'))


def test_what_places_have_in_common_goes_by_their_distance():
    old, new = (3, 4), (2, 6)
    rows, columns = np.divmod(np.arange(12), 4)
    squared = np.subtract.outer(rows, rows)**2 + np.subtract.outer(columns, columns)**2
    covariance = np.eye(13, dtype=np.float32)
    covariance[1:, 1:] = 2 * np.exp(-squared)
    found = covariance_resampled(covariance, old, new)
    assert found.shape == (13, 13) and np.linalg.eigvalsh(found.astype(np.float64)).min() > -1e-5
    rows, columns = np.divmod(np.arange(12), 6)
    near = (np.abs(np.subtract.outer(rows, rows)) < 3) & (np.abs(np.subtract.outer(columns, columns)) < 4)
    expected = 2 * np.exp(-(np.subtract.outer(rows, rows)**2.0 + np.subtract.outer(columns, columns)**2))
    assert np.abs(found[1:, 1:] - expected)[near].max() < 0.02
    np.testing.assert_allclose(covariance_resampled(covariance, old, old), covariance, atol=1e-4)
    kernel = np.arange(35).reshape(5, 7)
    np.testing.assert_array_equal(distances_resampled(kernel, old), kernel)
    assert distances_resampled(kernel, (1, 6)).tolist() == [[14, 14, 14, 15, 16, 17, 18, 19, 20, 20, 20]]
    assert by_distance((1, 3))[1].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    values = np.random.default_rng(0).normal(size=(13, 5)).astype(np.float32)
    assert np.array_equal(places_resampled(values, old, old), values)
    assert np.array_equal(places_resampled(values, old, new)[0], values[0])


def test_edge_and_bridge_run_at_another_size_and_refuse_others():
    about = {'unsealed': True, 'model': FOLDER, 'threads': 1, 'fit': 'pad'}
    with System({**about, 'image_size': SIZE, 'robot_name': 'one'}, {**about, 'image_size': (56, 28), 'robot_name': 'two'},
                bridge={**about, 'image_size': SIZE}) as system:
        wait(lambda: [edge.statistics().state for edge in system.edges] == ['connected', 'refused'])
        assert 'image_size: the edge has 56x28, the bridge has 28x56' in system.edges[1].statistics().reason
        system.edge.submit(np.random.default_rng(1).integers(0, 256, (40, 80, 3), np.uint8), 1)
        wait(lambda: system.robot)
        prediction = system.robot[0]
        assert prediction.grid == (7, 14) and len(prediction.received) == 99 and prediction.crop == (0, 0, 80, 40)


def test_borders_take_no_bytes_after_the_first_frame():
    """Padded 16:9 pictures: what moves in the picture does not change the borders' tokens."""
    edge = SplitEdge(edge_settings(model=FOLDER, image_size='28x28', fit='pad', unsealed=True))
    random, uplink = np.random.default_rng(1), UplinkState(session_id=5)
    border = np.flatnonzero(edge.model.preprocessor.view(36, 64).pictured((7, 7)).ravel() == 0) + 1
    seen = [edge.observe(random.integers(0, 256, (36, 64, 3), np.uint8), uplink).content[0].numpy() for _ in range(2)]
    assert len(border) == 14
    for tokens in seen:
        assert np.array_equal(tokens[border], edge.model.blank_tokens.numpy()[border])
    code = edge.model.entropy.code
    first = code.plan(code.quantise(seen[0]), 16)
    second = code.plan(code.quantise(seen[1]), 16, State(first.levels, np.ones(50, bool)))
    assert (second.modes[border] == code.unmoved).all() and (second.modes != code.unmoved).any()


def test_images_that_lie_across_the_models_input_are_told_once():
    check = ShapeCheck((640, 480))
    assert 'images are 480x640 pixels (height and width), the model sees 640x480' in (remark := check.remark(480, 640))
    assert 'set it to 480x640' in remark and check.remark(480, 640) == ''
    assert not any(ShapeCheck(size).remark(480, 640) for size in ((224, 224), (352, 480)))
    with System({'unsealed': True, 'model': FOLDER, 'image_size': '56x28', 'threads': 1}, bridge={
            'unsealed': True, 'model': FOLDER, 'image_size': '56x28', 'threads': 1}) as system:
        system.edge.submit(np.zeros((40, 80, 3), np.uint8), 1)
        assert [text for _, text in system.log if 'wrong way round' in text]
