"""Heads on features: what they read, what they say, and how they lie on disk."""

import json

import numpy as np
import pytest
import torch
from heads_backbone import Backbone, probe_of

from evitif.heads import Asked, Features, load_head, read_head, save_head
from evitif.heads.classify import Prototypes
from evitif.heads.embed import EmbedHead
from evitif.heads.results import Classes, Embedding
from evitif.model.errors import ArtifactError


def test_the_outputs_of_several_blocks_are_those_of_the_model_and_the_last_leads_to_its_answer(backbone):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = backbone.split.outputs(backbone.split.head(images), (3, 2, 4))
        _, expected = backbone.module.forward_intermediates(images, indices=[2, 3], return_prefix_tokens=True, output_fmt='NLC', norm=False)
        assert list(found) == [2, 3, 4]
        for block, (patches, prefix) in zip((3, 4), expected, strict=True):
            torch.testing.assert_close(found[block], torch.cat((prefix, patches), 1))
        torch.testing.assert_close(backbone.split.tail(found[2]), backbone.module(images))
    with pytest.raises(ValueError, match='block 1 is asked for: expected 2'):
        backbone.split.outputs(found[2], (1,))


def test_a_token_that_was_left_out_has_no_part_in_what_a_head_says(backbone):
    tokens, kept = backbone.tokens(1), torch.tensor([[0, 1, 2, 5, 9]])
    with torch.no_grad():
        features = Features.of(backbone.split, tokens, (2, 4), kept)
        alone = backbone.split.outputs(tokens[:, kept[0]], (4,))[4]
    assert features.tokens[4].shape == tokens.shape and features.trust.sum() == 5
    torch.testing.assert_close(features.tokens[4][:, kept[0]], alone)
    torch.testing.assert_close(features.pooled(4, final_norm=False)[:, 24:], alone[:, 1:].mean(1))
    assert features.patches(4).shape == (1, 24, 4, 4) and features.trust_map().shape == (1, 4, 4)


def test_a_weight_of_nothing_is_leaving_out(backbone):
    tokens, kept = backbone.tokens(1), torch.tensor([[0, 3, 4, 8]])
    bias = torch.full((1, 17), -torch.inf)
    bias[0, kept[0]] = 0
    with torch.no_grad():
        weighed, left_out = (Features.of(backbone.split, tokens, (4,), *way) for way in ((None, bias), (kept, None)))
    torch.testing.assert_close(weighed.pooled(4), left_out.pooled(4))


def test_a_head_comes_back_from_its_folder_and_says_the_same(backbone, folder):
    head = load_head(str(folder), backbone.name, backbone.split, backbone.fingerprint_of)
    features = Features.of(backbone.split, backbone.tokens(), (4,))
    torch.testing.assert_close(head(features), probe_of(backbone.reading())(features))
    first, second = head.results(features, (Asked(2), Asked(2, certainty=0.0)))
    assert head.name == 'table' and len(first.class_ids) == 2 and first.scores[0] > 0.34
    assert second.scores == pytest.approx([1 / 3] * 2)           # nothing is certain of the second
    assert Classes.unpack(first.pack(), 3).class_ids == first.class_ids
    about = read_head(str(folder))
    assert about.labels == ('cup', 'plate', 'fork') and about.reading == backbone.reading()


@pytest.mark.parametrize('kind', [Prototypes, EmbedHead])
def test_every_kind_of_head_comes_back(backbone, tmp_path, kind):
    head = probe_of(backbone.reading(), kind=kind)
    save_head(tmp_path / 'mine', head, backbone.module, {'model': backbone.name})
    again = load_head(str(tmp_path / 'mine'), backbone.name, backbone.split, backbone.fingerprint_of)
    features = Features.of(backbone.split, backbone.tokens(), (4,))
    torch.testing.assert_close(again(features), head(features))


def test_a_head_that_reads_an_early_block_takes_a_model_with_other_later_ones(tmp_path, backbone):
    early = probe_of(backbone.reading(3))
    early.reading = backbone.reading(3)
    save_head(tmp_path / 'early', early, backbone.module, {'model': backbone.name})
    with torch.no_grad():
        backbone.module.blocks[3].mlp.fc1.weight.add_(1)
        backbone.module.head.weight.add_(1)
    load_head(str(tmp_path / 'early'), backbone.name, backbone.split, backbone.fingerprint_of)
    with torch.no_grad():
        backbone.module.blocks[2].mlp.fc1.weight.add_(1)
    with pytest.raises(ArtifactError, match='other weights'):
        load_head(str(tmp_path / 'early'), backbone.name, backbone.split, backbone.fingerprint_of)


@pytest.mark.parametrize(('other', 'match'), [
    ({'seed': 4}, r'trained on the backbone vit_tiny_patch16_224 \(fingerprint .*this model is other \(fingerprint .*other weights'),
    ({'depth': 3}, r'this model is other \(it reads block 4 and there are 3\)'),
    ({'img_size': 32}, r'trained for pictures of 64x64 pixels with vit_tiny_patch16_224, other here takes 32x32'),
])
def test_a_head_of_another_backbone_is_refused_and_both_are_named(folder, other, match):
    backbone = Backbone(**other)
    with pytest.raises(ArtifactError, match=match):
        load_head(str(folder), 'other', backbone.split, backbone.fingerprint_of)


def test_a_head_that_reads_what_stays_on_the_robot_is_refused(tmp_path, backbone):
    save_head(tmp_path / 'early', probe_of(backbone.reading(1, 4)), backbone.module, {'model': backbone.name})
    with pytest.raises(ArtifactError, match='reads the output of block 1, which stays on the robot: .* is cut after block 2'):
        load_head(str(tmp_path / 'early'), backbone.name, backbone.split, backbone.fingerprint_of)


@pytest.mark.parametrize(('change', 'match'), [
    ({'kind': 'oracle'}, 'expected a description of format 1 and kind linear or'),
    ({'task': 'embed'}, 'kind linear cannot have the task embed'),
    ({'labels': 7}, 'labels is 7, expected a list'), ({'digest': '0'}, 'they are not those that head.json describes'),
])
def test_a_description_that_was_changed_is_refused(folder, backbone, change, match):
    path = folder / 'head.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=match):
        load_head(str(folder), backbone.name, backbone.split, backbone.fingerprint_of)


def test_no_head_is_one_sentence():
    with pytest.raises(ArtifactError, match="head 'nowhere' does not exist: expected a folder with head.json"):
        read_head('nowhere')


def test_a_vector_keeps_its_direction_in_few_bytes():
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    vector /= np.linalg.norm(vector)
    content = Embedding(vector).pack()
    assert len(content) == 384 and float(Embedding.unpack(content).vector @ vector) > 0.999


@pytest.mark.parametrize('content', [b'', b'1234567', Classes((3,), (0.5,)).pack(), Classes((1,), (2.0,)).pack()])
def test_classes_that_cannot_be_are_refused(content):
    with pytest.raises(ValueError, match='expected'):
        Classes.unpack(content, 3)
