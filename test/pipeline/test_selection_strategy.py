"""The strategy `selection` at run time, over a lossy relay."""

import functools

import numpy as np
import pytest
import torch
from running_system import IMAGE, System, wait
from small_systems import CLASSES, write_pair

from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.pipeline import BridgeRuntime, EdgeRuntime
from evitif.pipeline.selection_edge import SelectionEdge
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.frame_sender import FrameSender, UplinkState
from evitif.protocol.frames.packetiser import MAX_DATAGRAM_BYTES, TokenFrame
from evitif.protocol.wire.datagram import SEAL_BYTES
from evitif.selection import PatchModel, Selector
from evitif.selection.sending import copies_for, packets_for
from evitif.settings import bridge_settings, edge_settings
from evitif_lab.trials.wire_bytes import SelectedFrames

LINK = {'unsealed': True, 'strategy': 'selection', 'threads': 1}


def both(pair, **more):
    light, large = pair
    return {**LINK, 'light_model': light, 'model': large, **more}


def test_the_large_model_answers_from_the_chosen_patches_with_the_light_one_s_answer_as_prior(pair):
    with System(both(pair), bridge=both(pair, top_k=6)) as system:
        system.connected()
        system.edge.submit(IMAGE, 7, 'camera')
        wait(lambda: system.robot and system.off_board)
    (answer,), ((robot, off_board),) = system.robot, system.off_board
    assert (answer.strategy, answer.how, off_board.how, robot) == ('selection', 'off-board', 'off-board', 'robot')
    selector = Selector.load(*pair[:1], large=pair[1])
    decision = selector.decide(IMAGE)
    assert 0 < len(decision.chosen) < 16
    assert np.flatnonzero(answer.sent).tolist() == sorted(decision.chosen) == np.flatnonzero(answer.received).tolist()
    assert (answer.tokens_sent, answer.tokens_received, answer.recovery) == (len(decision.chosen),) * 2 + ('omission',)
    assert off_board.tokens_sent == len(decision.chosen) and off_board.grid == (4, 4)
    assert np.array_equal(off_board.sent, answer.sent)       # all that was sent arrived, so that the others were not sent
    built = build_model(ModelSpec(pair[1]))
    code, rate = selector.patch_code, selector.settings.quantisation
    patches = code.patches_from(code.rows_of(decision.patches, rate), rate)
    logits = PatchModel(SplitModel(built.module, 0)).answer(patches, torch.from_numpy(answer.received)[None])
    large = logits[0].softmax(0).numpy()
    np.testing.assert_allclose(off_board.scores, large[list(off_board.class_ids)], atol=1e-5)
    fused = large * decision.glance.probabilities ** selector.settings.prior_weight
    assert answer.class_ids == tuple(np.argsort(-fused, kind='stable').tolist())
    assert answer.labels[0] == CLASSES[answer.class_ids[0]]
    assert answer.stages.head > 0 and answer.stages.tail > 0 and answer.stages.total < 1


def test_missing_patches_are_filled_in_by_the_recovery_that_the_bridge_is_told(pair):
    with System(both(pair), bridge=both(pair, recovery='mean')) as system:
        system.connected()
        system.edge.submit(IMAGE, 7)
        wait(lambda: system.robot)
    (answer,) = system.robot
    assert (answer.recovery, answer.how) == ('mean', 'off-board') and answer.tokens_received < 16
    with pytest.raises(ArtifactError, match='recovery linear was asked for, but none was trained for .* at cut 0'):
        BridgeRuntime(bridge_settings(**both(pair, recovery='linear')), on_prediction=print)


@pytest.mark.parametrize('loss', [0.3, 0.6])
def test_over_a_lossy_link_what_was_sent_and_what_was_lost_is_known(pair, loss):
    with System(both(pair, delta=1.0, patch_copies=1), bridge=both(pair), loss=loss) as system:
        system.connected()
        for index in range(1, 41):
            system.edge.submit(IMAGE, index)
            wait(functools.partial(system.ended, index))
        statistics = system.edge.statistics()
    assert statistics.frames_answered + statistics.frames_expired + statistics.frames_unsent == 40
    assert statistics.frames_answered >= 37
    assert len(system.robot) == 40      # the light model answers the others
    assert statistics.frames_local == 40 - statistics.frames_answered
    answered = [prediction for prediction in system.robot if prediction.how == 'off-board']
    assert all((prediction.received <= prediction.sent).all() for prediction in answered)
    assert any((prediction.received != prediction.sent).any() for prediction in answered)
    assert np.mean([prediction.received.sum() / prediction.sent.sum() for prediction in answered]) == pytest.approx(1 - loss, abs=0.1)


def test_patches_travel_in_as_many_copies_and_packets_as_the_loss_asks_for_and_no_more_than_a_frame_may_take(pair):
    edge = SelectionEdge(edge_settings(**both(pair, delta=1.0)))

    def encoded(**uplink):
        uplink = UplinkState(**uplink)
        return edge.encode(edge.observe(IMAGE, uplink), uplink)
    for rate in (np.nan, 0.0, 0.3, 0.6):
        sent = encoded(packet_error_rate=rate)
        assert sent.patch_copies == copies_for(rate, patches=16) and sent.min_packets == packets_for(sent.patch_copies, rate)
    all_of_them = encoded()
    some = encoded(frame_bytes=450.0)
    assert len(all_of_them.chosen) == 16 and 3 <= len(some.chosen) <= 13
    assert some.chosen.tolist() == all_of_them.chosen[:len(some.chosen)].tolist()
    few = SelectionEdge(edge_settings(**both(pair, delta=0.0)))
    assert few.encode(few.observe(IMAGE, UplinkState()), UplinkState(packet_error_rate=0.6)).patch_copies == copies_for(0.6, patches=1) > 7


def test_what_the_edge_sends_takes_the_bytes_that_the_evaluation_counts(pair):
    edge = SelectionEdge(edge_settings(**both(pair, delta=0.7)))
    for rate in (0.0, 0.3, 0.6):
        uplink = UplinkState(packet_error_rate=rate)
        sent = edge.encode(edge.observe(IMAGE, uplink), uplink)
        sender = FrameSender(edge.parameters, EdgeConfig(), MAX_DATAGRAM_BYTES - SEAL_BYTES)
        frame = TokenFrame(1, 0, '', sent.rows, sent.quantisation, sent.chosen, sent.patch_copies, sent.min_packets)
        packets, size, _ = sender.begin(frame, 0.0)
        assert size + packets * SEAL_BYTES == SelectedFrames(edge.parameters, rate).bytes(len(sent.chosen))


def test_a_light_model_that_is_sure_answers_at_once_and_sends_nothing(pair):
    with System(both(pair, eta=np.log2(6)), bridge=both(pair)) as system:
        system.connected()
        system.edge.submit(IMAGE, 7)
        wait(lambda: system.robot)
        statistics = system.edge.statistics()
    (answer,) = system.robot
    assert (answer.strategy, answer.how, answer.packets_sent, answer.sent) == ('selection', 'local', 0, None)
    assert (statistics.frames_local, statistics.frames_sent) == (1, 0)
    glance = Selector.load(pair[0], large=pair[1]).decide(IMAGE).glance
    assert answer.class_ids[0] == int(glance.probabilities.argmax())


def test_with_the_bridge_gone_the_light_model_goes_on(pair):
    with System(both(pair, link_timeout=0.3, answer_deadline=0.2), bridge=both(pair)) as system:
        system.connected()
        system.bridge.stop()
        wait(lambda: system.edge.statistics().state != 'connected')
        for index in range(1, 6):
            system.edge.submit(IMAGE, index)
            wait(lambda index=index: len(system.robot) == index)
        system.bridge.start()       # for the relay's sake, and for `System` to stop it
    assert {(prediction.strategy, prediction.how) for prediction in system.robot} == {('selection', 'fallback')}


def test_models_that_do_not_belong_together_are_refused_with_both_values(pair, tmp_path):
    other = write_pair(tmp_path, seed=2)
    with pytest.raises(ArtifactError, match=r'large'):
        BridgeRuntime(bridge_settings(**{**both(pair), 'model': other[1]}), on_prediction=print)
    with System(both(other), bridge=both(pair)) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        reason = system.edge.statistics().reason
    for name in ('fingerprint', 'light'):
        assert f'{name}: the edge has ' in reason
    with System({'unsealed': True, 'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 32, 'num_classes': 6},
                bridge=both(pair)) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert system.edge.statistics().reason == 'strategy: the edge has split, the bridge has selection'


@pytest.mark.parametrize('values, expected', [
    ({'delta': 1.5}, 'delta is 1.5'), ({'eta': 9.0}, 'eta is 9'),
    ({'strategy': 'guess'}, "strategy is 'guess': expected split, selection, partition, auto")])
def test_impossible_values_are_refused(pair, values, expected):
    with pytest.raises(ValueError, match=expected):
        EdgeRuntime(edge_settings(**both(pair, **values)), on_prediction=print)


@pytest.mark.parametrize('size, fit', [('24x48', 'squash'), ('32x64', 'pad'), (None, 'squash')])
def test_the_large_model_may_see_another_size_and_fit_than_the_light_one(pair, size, fit):
    view = {'fit': fit} if size is None else {'image_size': size, 'fit': fit}
    with System(both(pair, **view), bridge=both(pair, **view)) as system:
        system.connected()
        system.edge.submit(IMAGE, 7)
        wait(lambda: system.robot)
    (answer,) = system.robot
    rows, columns = answer.grid
    assert answer.how == 'off-board' and (rows, columns) == {'24x48': (3, 6), '32x64': (4, 8)}.get(size, (4, 4))
    assert 0 < answer.tokens_sent < rows * columns
    if fit == 'pad':        # IMAGE is 48x72: of 64 pixels 8 on the left and 8 on the right are border
        assert not answer.sent.reshape(4, 8)[:, [0, -1]].any()
    with System(both(pair, **view), bridge=both(pair)) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert f'fit: the edge has {fit}, the bridge has crop' in system.edge.statistics().reason


def test_scores_go_where_the_light_model_saw_them():
    """The same picture in two views: mass stays in its place and sums to 1."""
    from evitif.model.field_of_view import FieldOfView
    from evitif.selection.scores import transported
    light = FieldOfView((48, 96), (32, 32), (0, 0, 96, 48))         # squashed
    large = FieldOfView((48, 96), (32, 64), (0, -6, 96, 60))        # padded above and below
    scores = np.zeros((4, 4), np.float32)
    scores[0, 3] = 1            # the top right eighth of the picture, 12 by 24 pixels
    found = transported(scores.ravel(), (4, 4), light, (10, 8), large).reshape(10, 8)
    assert found.sum() == pytest.approx(1) and found[1:3, 6:].sum() == pytest.approx(1)
    narrow = FieldOfView((48, 96), (32, 32), (24, 0, 48, 48))       # a crop: left and right were not seen by the light model
    found = transported(np.full(16, 1 / 16, np.float32), (4, 4), narrow, (10, 8), large).reshape(10, 8)
    np.testing.assert_allclose(found[1:9], 1 / 64, rtol=1e-4)
    assert not found[[0, 9]].any()
