"""The large model answers from the patches it gets, and each patch is a row that is decoded by itself."""

import numpy as np
import pytest
import torch
from small_pair import images

from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ModelError
from evitif.model.split import SplitModel
from evitif.recovery.methods import Mean
from evitif.selection import PatchCode, PatchModel
from evitif.selection.large import images_of, patches_of


@pytest.fixture(scope='module')
def large(pair):
    return PatchModel(SplitModel(build_model(ModelSpec(str(pair[1]))).module, 0))


def test_an_image_is_its_patches():
    picture = torch.arange(2 * 3 * 8 * 12.).view(2, 3, 8, 12)
    patches = patches_of(picture, (4, 6))
    assert patches.shape == (2, 4, 72)
    assert torch.equal(patches[0, 1].view(3, 4, 6), picture[0, :, :4, 6:])
    assert torch.equal(images_of(patches, (2, 2), (4, 6)), picture)


@torch.inference_mode()
def test_all_patches_are_the_whole_model(large):
    patches = large.head(images())
    torch.testing.assert_close(large.answer(patches, torch.ones(6, 16, dtype=torch.bool)), large.module(images()))


@torch.inference_mode()
def test_missing_patches_are_left_out_whatever_is_in_their_place(large):
    received = torch.rand(6, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    received[:, 3] = True
    received[1] = True
    patches = large.head(images())
    logits = large.answer(patches, received)
    noise = torch.where(received[:, :, None], patches, torch.full_like(patches, float('nan')))
    assert torch.equal(large.answer(noise, received), logits)
    module = large.module
    for index in range(6):      # by hand: embed, add positions, drop, go on
        tokens = module._pos_embed(module.patch_embed(images()[index:index + 1]))
        kept = torch.cat((tokens[:, :1], tokens[:, 1:][:, received[index]]), 1)
        torch.testing.assert_close(logits[index:index + 1], module.forward_head(module.norm(module.blocks(kept))))


@torch.inference_mode()
def test_a_recovery_fills_in(large):
    received = torch.ones(6, 16, dtype=torch.bool)
    received[:, 5] = False
    patches = large.head(images())
    filling = PatchModel(large.split, Mean(large.split.blank_tokens(), 1, (4, 4)))
    assert not torch.allclose(filling.answer(patches, received), large.answer(patches, received))
    torch.testing.assert_close(filling.answer(patches, received | True), large.answer(patches, received | True))


def test_what_cannot_be_is_refused(large):
    with pytest.raises(ValueError, match='image 1 of the batch has no patch'):
        large.answer(large.head(images(2)), torch.tensor([[True] * 16, [False] * 16]))
    with pytest.raises(ModelError, match='cut after block 1: expected cut 0'):
        PatchModel(SplitModel(large.module, 1))


def test_each_row_is_decoded_by_itself(pair, large):
    code = PatchCode.beside(str(pair[1]))
    parameters = code.stream_parameters('klt1')
    assert (parameters.tokens, parameters.prefix_tokens, parameters.row_bytes) == (16, 0, 24)
    picture = images(1, seed=9)
    errors = []
    for rate in ('klt0.25', 'klt1', 'klt2'):
        rows = code.rows(picture, rate)
        decoded = code.patches_from(rows, rate)
        assert decoded.shape == (1, 16, 192)
        errors.append(float((decoded - large.head(picture)).square().mean()))
        rows[5:] = np.random.default_rng(0).integers(0, 256, rows[5:].shape)
        assert torch.equal(code.patches_from(rows, rate)[:, :5], decoded[:, :5])
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05 * float(picture.var())
    with pytest.raises(ValueError, match='quantisation'):
        code.stream_parameters('klt7')
