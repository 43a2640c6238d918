"""Refining a transform code by gradient."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from evitif.cli import main
from evitif.model.build import ModelSpec, build_model
from evitif.model.split import SplitModel
from evitif.model.transform_code import TransformCode, code_row_bytes
from evitif.training.checkpoint import Checkpoint
from evitif.training.code_refinement import _Coding, refine_code
from evitif.training.transform_code import TOKEN_RATES, fisher_information, fit_code


@pytest.fixture(scope='module')
def fitted():
    """A tail, tokens, the tail's answers to them and a code that was fitted to them."""
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=3, model_kwargs={
        'embed_dim': 24, 'depth': 3, 'num_heads': 2, 'img_size': 48, 'num_classes': 5})).module.requires_grad_(False)
    split, generator = SplitModel(module, 1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.head.weight.copy_(torch.randn(module.head.weight.shape, generator=generator))    # an answer that depends on its input
        tokens = split.head(2 * torch.randn(300, 3, 48, 48, generator=generator))
        answers = split.tail(tokens)
    return split, tokens, answers, fit_code(tokens, split.prefix_tokens, fisher_information(split, tokens[:100], 0))


def arrived(code: TransformCode, tokens: torch.Tensor, rate: str) -> torch.Tensor:
    rows = code.encode(tokens.flatten(0, 1).numpy(), code_row_bytes(rate, code.channels))
    return torch.from_numpy(code.decode(rows)).view(tokens.shape)


@pytest.mark.parametrize('rate', TOKEN_RATES)
def test_what_is_trained_is_what_travels(fitted, rate):
    split, tokens, _, code = fitted
    with torch.no_grad():
        trained = _Coding(code, TOKEN_RATES, split.prefix_tokens)(tokens[:20], rate)
    close = (trained - arrived(code, tokens[:20], rate)).abs().amax(2) < 1e-4
    assert close.float().mean() > 0.98      # a coefficient on a boundary may fall to either side


def test_the_answer_changes_less_after_a_refinement(fitted, tmp_path):
    split, tokens, answers, code = fitted
    checkpoint = Checkpoint(tmp_path / 'code', {})
    refined, figures = refine_code(code, split, tokens, answers, TOKEN_RATES, 60, checkpoint=checkpoint)
    assert set(figures) == {*(f'refined_{rate}' for rate in TOKEN_RATES), 'refinement_seconds'}
    assert all((np.diff(values) >= 0).all() for values in refined.levels)
    assert [basis.order.tolist() for basis in refined.bases] == [basis.order.tolist() for basis in code.bases]
    divergence = {}
    for name, kind in (('fitted', code), ('refined', refined)):
        with torch.no_grad():
            divergence[name] = [float(functional.kl_div(split.tail(arrived(kind, tokens, rate)).log_softmax(1), answers.log_softmax(1),
                                                        log_target=True, reduction='batchmean')) for rate in ('klt1', 'klt0.5')]
    assert all(after < 0.9 * before for after, before in zip(divergence['refined'], divergence['fitted'], strict=True))


def test_too_few_images_end_in_one_sentence(small, tmp_path, capsys):
    assert main(['train', 'code', '--model', str(small / 'model'), '--data', str(small / 'images'), '--output', str(tmp_path),
                 '--images', '20', '--steps', '2']) == 1
    error = capsys.readouterr().err
    assert error.startswith('evitif: images is 20') and error.count('\n') == 1
