"""The annotated image is drawn for every kind of answer, and shades exactly the lost tokens."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from evitif_edge_node.annotation import annotate

NAN = float('nan')


def prediction(**changes):
    received = np.ones(1 + 16, bool)
    stages = SimpleNamespace(preprocess=1e-3, head=4e-3, packetise=5e-4, uplink=1e-3, wait=3e-3, recovery=2e-3,
                             tail=5e-3, downlink=1e-3, total=0.018)
    fields = {
        'class_ids': (3, 1, 2), 'labels': ('Dress', 'Trouser', 'Pullover'), 'scores': (0.8, 0.15, 0.05),
        'strategy': 'split', 'recovery': 'paldn', 'packets_sent': 16, 'packets_received': 6, 'tokens_sent': 17,
        'tokens_received': 17, 'packet_error_rate': 0.6, 'sent': np.ones(1 + 16, bool), 'received': received,
        'remembered': None, 'memory_age': NAN, 'devices': (), 'how': 'off-board', 'prefix_tokens': 1, 'grid': (4, 4),
        'crop': (0.0, 0.0, 100.0, 100.0), 'stages': stages}
    return SimpleNamespace(**{**fields, **changes})


def picture(height=100, width=100):
    return np.full((height, width, 3), 200, np.uint8)


@pytest.mark.parametrize('shape', [(28, 28), (480, 640), (2000, 300), (100, 1000), (1, 1)])
@pytest.mark.parametrize('height', [120, 480, 1080])
def test_any_image_size(shape, height):
    drawn = annotate(picture(*shape), prediction(), height)
    assert drawn.shape[0] == height and drawn.dtype == np.uint8 and drawn.shape[2] == 3


def test_lost_tokens_are_shaded_where_they_lie():
    received = np.ones((4, 4), bool)
    received[1, 2] = False
    mask = np.concatenate([[True], received.ravel()])
    drawn = annotate(picture(), prediction(received=mask), 400)[:, :400].astype(int)
    whole = annotate(picture(), prediction(), 400)[:, :400].astype(int)
    changed = (drawn != whole).any(2)
    cells = changed.reshape(4, 100, 4, 100).mean((1, 3))
    assert cells[1, 2] == 1.0 and cells.sum() == 1.0


def test_what_came_what_was_remembered_and_what_was_estimated_have_three_shades():
    received, remembered = np.ones(17, bool), np.zeros(17, bool)
    received[[1, 2]] = False
    remembered[2] = True
    drawn = annotate(picture(), prediction(received=received, remembered=remembered, memory_age=0.25), 400)[:, :400].astype(int)
    estimated, old, new = (drawn[10:90, 100 * column + 10:100 * column + 90].reshape(-1, 3).mean(0) for column in range(3))
    assert (new == 200).all()
    assert estimated.mean() < old.mean() < new.mean()
    assert old[2] > old[0] + 20          # blue


def test_an_answer_from_memory_says_so():
    stale = prediction(how='memory', recovery='memory', memory_age=0.3, received=None, sent=None, packets_sent=0, packets_received=0)
    drawn, answered = (annotate(picture(), each, 400) for each in (stale, prediction()))
    assert (drawn[:, :400] == 200).all() and (drawn[:, 400:] != answered[:, 400:]).any()


def test_crop_of_a_wide_image_places_the_grid():
    """A centre crop: the tokens cover the middle half, what is left and right of it is dimmed."""
    mask = np.zeros(17, bool)
    drawn = annotate(picture(100, 200), prediction(received=mask, crop=(50.0, 0.0, 100.0, 100.0)), 400)
    assert (drawn[200, 20] == 90).all() and (drawn[200, 780] == 90).all()
    assert drawn[150:250, 350:450].mean() < 95


def test_borders_are_drawn_and_their_patches_too():
    """Padded: the model saw a square around a picture twice as wide as high; the first row of patches, all border, is lost."""
    received = np.ones((4, 4), bool)
    received[0] = False
    mask = np.concatenate([[True], received.ravel()])
    drawn, whole = (annotate(picture(100, 200), prediction(received=seen, crop=(0.0, -50.0, 200.0, 200.0)), 400)[:, :400].astype(int)
                    for seen in (mask, None))
    assert (whole[:98] < 100).all() and (whole[302:] < 100).all() and (whole[102:298] == 200).all()
    changed = (drawn != whole).any(2)
    assert changed[:98].all() and not changed[102:].any()


def test_each_fit_has_its_patches_where_the_model_saw_them():
    """A frame of 640x480 seen as 352x480: the patch that holds a point of the picture is the one that is shaded there."""
    from evitif.model.field_of_view import FieldOfView
    from evitif.model.preprocess import seen_as
    config = {'input_size': (3, 352, 480), 'crop_pct': 0.9, 'crop_mode': 'center'}
    for fit in ('crop', 'pad', 'squash'):
        view = FieldOfView.of(seen_as(config, None, fit), 480, 640)
        x, y = view.to_input(np.array((320.5, 240.5)))
        received = np.ones((22, 30), bool)
        received[int(y // 16), int(x // 16)] = False
        about = {'grid': (22, 30), 'crop': view.box, 'sent': np.ones(661, bool)}
        drawn, whole = (annotate(picture(480, 640), prediction(received=np.concatenate([[True], each.ravel()]), **about), 480).astype(int)
                        for each in (received, np.ones((22, 30), bool)))
        rows, columns = np.nonzero((drawn != whole).any(2))
        zoom, left, top = 1.0, max(0, round(-view.box[0])), max(0, round(-view.box[1]))
        zoom = min(480 / (480 + 2 * top), 960 / (640 + 2 * left))
        assert rows.min() <= (240.5 + top) * zoom <= rows.max() + 1 and columns.min() <= (320.5 + left) * zoom <= columns.max() + 1
        size = rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min()
        assert np.allclose(size, (view.box[3] / 22 * zoom, view.box[2] / 30 * zoom), atol=2)


def test_received_mask_may_be_unknown():
    annotate(picture(), prediction(received=None, crop=None))


def test_local_answer_is_not_shaded():
    local = prediction(how='fallback', recovery='none', packets_sent=0, packets_received=0, tokens_sent=0,
                       tokens_received=0, packet_error_rate=NAN, received=None,
                       stages=SimpleNamespace(preprocess=1e-3, head=NAN, packetise=NAN, uplink=NAN, wait=NAN,
                                              recovery=NAN, tail=NAN, downlink=NAN, total=NAN))
    assert (annotate(picture(), local, 400)[:, :400] == 200).all()


def test_long_labels_and_no_labels():
    annotate(picture(), prediction(labels=('x' * 300,) * 5, scores=(1.0,) * 5))
    annotate(picture(), prediction(labels=(), scores=(), class_ids=()))


def test_patches_that_were_not_sent_are_dim_and_lost_ones_hatched():
    sent, received = np.zeros((2, 4, 4), bool)
    sent[0], received[0, :3] = True, True
    drawn = annotate(picture(), prediction(strategy='selection', sent=sent.ravel(), received=received.ravel(), prefix_tokens=0,
                                           tokens_sent=4, tokens_received=3), 400)[:, :400].astype(int)
    cells = drawn.reshape(4, 100, 4, 100, 3).mean((1, 3, 4))
    assert (cells[0, :3] == 200).all() and (cells[1:] == 70).all()
    assert cells[0, 3] < 100 and drawn[:100, 300:].std() > 5


@pytest.mark.parametrize('received', [[True, True, True], [True, False, True], [False, False, True]])
def test_which_devices_answered_is_in_the_panel_and_the_picture_is_as_it_is(received):
    def drawn(devices):
        return annotate(picture(), prediction(strategy='partition', devices=devices, received=np.array(received), grid=(1, 3),
                                              prefix_tokens=0, sent=np.array([False, False, True])), 400)
    one, other = drawn(('left', 'middle', 'right')), drawn(('port', 'amidships', 'starboard'))
    assert (one[:, :400] == 200).all() and (one != other).any()


def test_a_robot_that_is_sure_is_not_one_without_a_link():
    alone = {'packets_sent': 0, 'packets_received': 0, 'received': None, 'sent': None}
    sure, fallback = (annotate(picture(), prediction(how=how, strategy=strategy, **alone))
                      for how, strategy in (('local', 'selection'), ('fallback', 'selection')))
    assert (sure != fallback).any()


def test_the_picture_tells_classes_of_one_name_apart(monkeypatch):
    edge_node = pytest.importorskip('evitif_edge_node.edge_node', reason='the nodes need rclpy')
    from std_msgs.msg import Header

    from evitif.datasets.class_names import told_apart
    drawn = []
    monkeypatch.setattr(edge_node, 'annotate', lambda image, prediction, height: drawn.append(prediction.labels) or image)
    node = SimpleNamespace(
        context=SimpleNamespace(ok=lambda: True), _values={'annotated_height': 480}, _labels_shown=told_apart(('ant', 'crane', 'crane')),
        _annotated=SimpleNamespace(get_subscription_count=lambda: 1, publish=lambda message: None))
    fields = vars(prediction(class_ids=(2, 1, 0, -1), labels=('crane', 'crane', 'ant', 'other'), image=picture(4, 4), context=Header()))
    answer = dataclasses.make_dataclass('Prediction', fields)(**fields)
    edge_node.EdgeNode._publish_annotated(node, answer)
    assert drawn == [['crane (2)', 'crane (1)', 'ant', 'other']]
