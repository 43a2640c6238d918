"""Muon does what torch's does, for all matrices of one shape at once."""

import pytest
import torch

from evitif_lab.training.muon import Muon, orthogonalised

SHAPES = ((24, 8), (24, 8), (8, 8), (8, 40))


def test_its_steps_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    began = [parameter.detach().clone() for parameter in ours]
    pair = Muon(ours, 0.05, weight_decay=0.1), torch.optim.Muon(theirs, 0.05, weight_decay=0.1)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimiser in pair:
            optimiser.step()
    for one, other, first in zip(ours, theirs, began, strict=True):
        assert (one - other).norm() < 0.02 * (one - first).norm()        # torch orthogonalises in bfloat16, which has three digits


def test_it_goes_on_from_its_saved_state():
    whole, parts = (torch.nn.Parameter(torch.zeros(4, 6)) for _ in range(2))
    optimiser, state = Muon([whole], 0.1), None
    for factor in (1.0, 2.0):
        whole.grad = parts.grad = torch.eye(4, 6) * factor + 0.1
        optimiser.step()
        again = Muon([parts], 0.1)
        if state is not None:
            again.load_state_dict(state)
        again.step()
        state = again.state_dict()
    assert torch.equal(whole, parts) and state['state'][0]['momentum_buffer'].any()


@pytest.mark.parametrize('shape', [(3, 5, 9), (3, 9, 5), (1, 6, 6)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalised(matrices)
    values = torch.linalg.svdvals(found)
    assert found.shape == shape and float(values.min()) > 0.5 and float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ found @ right.mT
    assert torch.allclose(inner, torch.diag_embed(inner.diagonal(dim1=1, dim2=2)), atol=1e-4)


def test_nothing_but_matrices():
    with pytest.raises(ValueError, match=r'a parameter of shape \[7\]: expected matrices'):
        Muon([torch.nn.Parameter(torch.zeros(7))], 0.1)
