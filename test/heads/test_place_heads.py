import numpy as np
import pytest
import torch
from heads_backbone import Backbone

from evitif.heads import Asked, Features, load_head, save_head
from evitif.heads.depth import DepthHead
from evitif.heads.maps import DepthMap, Mask
from evitif.heads.segment import SegmentHead

LABELS = ('road', 'sky', 'tree')


@pytest.fixture(scope='module')
def backbone():
    return Backbone()


def features_of(backbone, blocks=(2, 3, 4), trust=None):
    return Features.of(backbone.split, backbone.tokens(), blocks, trust=trust)


def test_a_mask_has_a_class_for_each_place_and_a_confidence_for_each_patch(backbone):
    head = SegmentHead(backbone.reading(2, 3, 4), LABELS, width=16, fine=4).eval()
    features = features_of(backbone)
    logits = head(features)
    assert logits.shape == (2, 3, 16, 16)           # 4 x 4 patches, 4 x 4 places in each
    masks = head.results(features, (Asked(), Asked()))
    assert all(isinstance(mask, Mask) for mask in masks)
    assert (masks[1].values == logits[1].argmax(0).numpy()).all() and masks[0].confidence.shape == (4, 4)


def test_what_was_lost_lowers_the_confidence_where_it_was(backbone):
    head = SegmentHead(backbone.reading(2, 3, 4), LABELS, width=16, fine=4).eval()
    trust = torch.ones(2, backbone.split.tokens)
    trust[0, backbone.split.prefix_tokens + 5] = 0.2
    sure, unsure = (head.results(features_of(backbone, trust=values), (Asked(), Asked(certainty=0.5))) for values in (None, trust))
    changed = np.argwhere(sure[0].confidence != unsure[0].confidence)
    assert changed.tolist() == [[1, 1]] and unsure[0].confidence[1, 1] < 0.3 * sure[0].confidence[1, 1] + 1
    assert (sure[1].confidence < 0.6 * 255).all()   # an image of which next to nothing arrived


def test_depth_is_positive_and_travels(backbone):
    head = DepthHead(backbone.reading(2, 4), width=16, fine=4, typical=3.0).eval()
    features = features_of(backbone)
    depth = head.results(features, (Asked(), Asked()))[0]
    assert isinstance(depth, DepthMap) and depth.values.shape == (8, 8)
    np.testing.assert_allclose(DepthMap.join(depth.parts(500)).metres(), head(features)[0].detach().numpy(), rtol=0.013)


@pytest.mark.parametrize('kind', [SegmentHead, DepthHead])
def test_a_head_is_loaded_as_it_was_saved(backbone, tmp_path, kind):
    head = kind(backbone.reading(2, 4), LABELS if kind is SegmentHead else (), width=16, fine=4).eval()
    save_head(tmp_path / 'places', head, backbone.module, {'model': backbone.name})
    again = load_head(str(tmp_path / 'places'), backbone.name, backbone.split, backbone.fingerprint_of)
    assert torch.equal(again(features_of(backbone)), head(features_of(backbone))) and again.labels == head.labels
