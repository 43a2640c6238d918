"""Fitting a transform code by its command, alone and before a recovery."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evitif.model.entropy_artifact import load_entropy_code
from evitif.pipeline.coded_table import CodedTable
from evitif.pipeline.cut_model import CutModel
from evitif.selection import EntropyPatchCode, PatchCode
from evitif.settings import SplitSettings
from evitif_cli import main
from evitif_lab.training.step_measurement import expected_costs
from evitif_lab.training.transform_code import fisher_information


def fit(small, output, *more, what='code'):
    return main(['train', what, '--model', str(small / 'model'), '--data', str(small / 'images'), '--output', str(output), *more])


def test_a_code_is_fitted_for_each_cut_and_travels(small, capsys):
    output = small / 'model'
    assert fit(small, output, '--cut', '1', '2', '--images', '20', '--gradient-images', '10') == 0
    printed = capsys.readouterr().out
    assert 'klt1 for model at cut 2: 3 bytes a token' in printed
    for cut in (1, 2):
        description = json.loads((output / f'klt-cut{cut}.json').read_text())
        assert (description['kind'], description['cut'], description['images']) == ('klt', cut, 20)
        stream = CutModel.load(SplitSettings(model=str(output), cut=cut))
        assert stream.parameters.quantisation == description['default'] and stream.parameters.code == description['digest']
        tokens = stream.split.blank_tokens().numpy()
        rows = stream.quantiser.quantise(tokens)
        assert rows.shape == (17, stream.parameters.row_bytes)
        assert np.isfinite(stream.quantiser.dequantise(rows)).all()
        code, of_entropy = load_entropy_code(output / f'entropy-cut{cut}.json', description['fingerprint'])
        plan = code.plan(code.quantise(tokens), 12)
        assert np.array_equal(code.unpack(code.pack(plan, np.arange(17)), np.arange(17), 12), plan.levels)
        table = of_entropy['figures']['coding_cost']
        assert 'steps' not in of_entropy['figures'] and table['bytes']['8'] > table['bytes']['12'] > 0
        shares, costs = np.array(table['remembered']).T
        assert shares[0] == costs[0] == 0 and (np.diff(shares) >= 0).all() and (np.diff(costs) >= 0).all()
        assert code.sensitivity is not None and len(code.sensitivity.places) == 16
        assert f'step 8 for model at cut {cut}: {table["bytes"]["8"]:.0f} bytes for the patches of a frame' in printed


def test_codes_of_patches_are_fitted_as_rows_and_for_robots_without_a_model(small, tmp_path, capsys):
    assert fit(small, tmp_path, '--pixels', '--images', '20', '--gradient-images', '10') == 0
    code = EntropyPatchCode.load(tmp_path / 'pixels-entropy-cut0.json')
    rows = PatchCode.load(tmp_path / 'pixels-cut0.json')
    assert vars(code.pixels) == vars(rows.pixels) and code.pixels.patches == code.code.tokens == 16
    assert code.code.coefficients < code.code.mean.shape[1] == 3 * 8 * 8         # no more than the embedding sees
    parameters = code.stream_parameters()
    assert (parameters.prefix_tokens, parameters.entropy_code, parameters.light) == (0, code.code.agreement, '')
    table = CodedTable.of(code.description)
    assert table.bytes['8'] > table.bytes['12'] > 0 and 'step 8 for model at cut 0' in capsys.readouterr().out


def test_differences_between_frames_are_fitted_to_a_video_if_there_is_one(small, tmp_path, capsys):
    frames = str(small / 'images')
    options = ('--cut', '1', '--images', '20', '--gradient-images', '10')
    assert fit(small, tmp_path / 'simulated', *options) == 0
    assert fit(small, tmp_path / 'recorded', *options, '--video', frames) == 0
    codes = [load_entropy_code(tmp_path / name / 'entropy-cut1.json', None)[0] for name in ('simulated', 'recorded')]
    assert np.array_equal(codes[0].analysis, codes[1].analysis)
    assert not np.array_equal(codes[0].tables.factors, codes[1].tables.factors)
    short = tmp_path / 'short'
    short.mkdir()
    (short / 'frame.png').write_bytes(next(path for path in Path(frames).iterdir()).read_bytes())
    assert fit(small, tmp_path / 'other', *options, '--video', str(short)) == 1
    assert 'has 1 images: expected at least 4 frames' in capsys.readouterr().err


def test_a_recovery_fits_the_codes_that_are_not_there(small, tmp_path):
    steps = ('--cut', '1', '--steps', '1', '--batch-size', '4', '--budget', '0.5')
    assert fit(small, tmp_path, *steps, '--no-code', what='recovery') == 0
    assert not (tmp_path / 'klt-cut1.json').exists()
    assert fit(small, tmp_path, *steps, what='recovery') == 0
    written = (tmp_path / 'klt-cut1.json').stat().st_mtime_ns
    assert fit(small, tmp_path, *steps, what='recovery') == 0
    assert (tmp_path / 'klt-cut1.json').stat().st_mtime_ns == written


def test_what_the_rates_cost_is_measured_with_the_recovery_that_is_there_and_again_when_one_was_trained(small, tmp_path, capsys):
    steps = ('--cut', '1', '--steps', '1', '--batch-size', '4', '--budget', '0.5')
    assert fit(small, tmp_path, '--cut', '1') == 0
    described = json.loads((tmp_path / 'klt-cut1.json').read_text())
    before = described['figures']['accuracy_cost']
    assert before['recovery'] == 'omission' and before['images'] == 20
    assert fit(small, tmp_path, *steps, what='recovery') == 0
    assert 'expected loss of top-1 in points, with paldn for what is lost' in capsys.readouterr().out
    again = json.loads((tmp_path / 'klt-cut1.json').read_text())
    after = again['figures']['accuracy_cost']
    assert after['recovery'] == 'paldn' and after['recovery_digest'] and again['digest'] == described['digest']
    assert after['coding'] == before['coding']              # of the same images
    for table in (before, after):
        shares, costs = zip(*table['lost'], strict=True)
        assert shares[0] == 0 < shares[-1] and sorted(costs) == list(costs) and 0 <= costs[-1] <= 1
        assert table['coding']['int8'] <= table['coding']['klt0.5']
    capsys.readouterr()
    assert fit(small, tmp_path, '--cut', '1', '--table-only', '--images', '10') == 0
    assert 'klt-cut1.json: its table is replaced (images: ' in capsys.readouterr().out
    assert json.loads((tmp_path / 'klt-cut1.json').read_text())['figures']['accuracy_cost']['images'] == 10
    assert fit(small, tmp_path, '--table-only', '--pixels') == 1
    assert '--table-only is for the code of tokens' in capsys.readouterr().err


def test_what_a_step_costs_follows_from_how_far_the_answers_moved_and_not_from_the_few_that_turned_round():
    divergences = {8: 0.001, 10: 0.003, 12: 0.008, 14: 0.02, 16: 0.05, 18: 0.12, 20: 0.5}
    chance = {8: 0.0, 10: 0.0023, 12: 0.0004, 14: 0.0062, 16: 0.0114, 18: 0.0292, 20: 0.09}
    found = expected_costs(divergences, chance)
    assert all(abs(found[step] / (0.25 * divergence) - 1) < 0.1 for step, divergence in divergences.items() if step < 20)
    assert list(found) == sorted(found) and list(found.values()) == sorted(found.values())
    assert found[20] == 0.09 and found[12] < found[13] < found[14] and 9 not in found         # steps between are added where the cost rises


def test_the_information_is_that_of_the_answer(small):
    """Adding a vector to a token moves the answer by the information along it: KL = v F v / 2 for small v."""
    split = CutModel.load(SplitSettings(model=str(small / 'model'), cut=2, quantisation='fp16')).split
    split.module.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    tokens = split.blank_tokens() + torch.randn(400, split.tokens, split.channels, generator=generator)
    information = fisher_information(split, tokens, 0)
    step = 0.05 * torch.randn(split.channels, generator=generator)
    moved = tokens.clone()
    moved[:, 0] += step
    with torch.inference_mode():
        before, after = (split.tail(part).double().log_softmax(1) for part in (tokens, moved))
    divergence = float((before.exp() * (before - after)).sum(1).mean())
    predicted = float(step.double() @ information[0] @ step.double()) / 2
    assert divergence == pytest.approx(predicted, rel=0.25)


@pytest.mark.parametrize('arguments, expected', [(['--cut', '9'], 'cut'), (['--data', '/nowhere/at/all'], '/nowhere/at/all')])
def test_a_mistake_ends_in_one_sentence(small, tmp_path, arguments, expected, capsys):
    assert fit(small, tmp_path, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith('evitif: ') and expected in error
