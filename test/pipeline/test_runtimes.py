"""The edge and the bridge at run time: real sockets on this machine, a lossy relay between them, a small random ViT."""

import functools
import logging
import time
from dataclasses import replace

import numpy as np
import pytest
import running_system
import torch
from running_system import IMAGE, wait

from evitif.heads.results import top_classes
from evitif.model import ModelError
from evitif.pipeline import BridgeRuntime, EdgeRuntime
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.split_bridge import choose_recovery
from evitif.protocol.sealing.keys import UNSEALED_WARNING, KeyFileError, write_key_file
from evitif.recovery import ArtifactError
from evitif.settings import bridge_settings, edge_settings
from evitif.transport import Impairment
from scripts.demo.class_ids import class_ids_of

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1}
UNSEALED = {**MODEL, 'unsealed': True}



def system(loss=0.0, bridge=None, key_file=None, **edge):
    """A bridge and an edge of the small ViT, and what is different about them."""
    both = {**MODEL, 'key_file': key_file} if key_file else UNSEALED
    return running_system.System({**both, **edge}, bridge={**both, **(bridge or {})}, loss=loss)


def whole_model() -> np.ndarray:
    stream = CutModel.load(edge_settings(**MODEL))
    with torch.inference_mode():
        return stream.split.whole(stream.preprocessor(IMAGE))[0].softmax(0).numpy()


def test_without_loss_the_answer_is_the_whole_models():
    with system(bridge={'top_k': 9}) as running:
        running.connected()
        running.edge.submit(IMAGE, 123_456_789, 'front_camera', context='mine')
        wait(lambda: running.robot and running.off_board)
    answer = running.robot[0]
    assert sorted(answer.class_ids) == list(range(9))
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    np.testing.assert_allclose(answer.scores, whole_model()[list(answer.class_ids)], atol=2e-3)
    assert answer.labels == tuple(f'class {index}' for index in answer.class_ids)
    assert (answer.capture_stamp_ns, answer.source_frame, answer.context) == (123_456_789, 'front_camera', 'mine')
    assert (answer.strategy, answer.recovery) == ('split', 'none')
    assert answer.packets_received == answer.packets_sent > 0
    assert answer.tokens_received == answer.tokens_sent == 17
    assert answer.received.all()
    stages = vars(answer.stages)
    assert all(value >= 0 for value in stages.values()), stages
    computed = ('preprocess', 'head', 'wait', 'recovery', 'tail')  # one after the other, each on one clock
    assert sum(stages[name] for name in computed) <= stages['total']
    assert max(stages['uplink'], stages['downlink'], stages['packetise']) <= stages['total']
    robot, off_board = running.off_board[0]
    assert (robot, off_board.class_ids, off_board.source_frame) == ('robot', answer.class_ids, 'front_camera')


def test_at_60_percent_loss_each_way_every_frame_is_accounted_for_and_nearly_all_are_answered():
    with system(loss=0.6) as running:
        running.connected()
        for index in range(1, 61):
            running.edge.submit(IMAGE, index)
            wait(functools.partial(running.ended, index))
        statistics = running.edge.statistics()
    assert statistics.frames_received == 60
    assert statistics.frames_answered + statistics.frames_expired + statistics.frames_unsent == 60
    assert statistics.frames_answered >= 58
    answered = [prediction for prediction in running.robot if prediction.how == 'off-board']
    assert (len(answered), len(running.robot) - len(answered)) == (statistics.frames_answered, statistics.frames_remembered)
    assert {prediction.recovery for prediction in answered[1:]} == {'memory'}
    assert statistics.tokens_remembered > 0.2 * statistics.tokens_received
    received = sum(p.packets_received for p in answered) / sum(p.packets_sent for p in answered)
    assert 0.3 < received < 0.5
    assert 0.4 < statistics.link.remote_packet_error_rate < 0.8


def test_a_newer_image_replaces_the_one_that_waits_and_the_rate_is_limited():
    with system(max_rate=5.0) as running:
        running.connected()
        for index in range(20):
            running.edge.submit(IMAGE, index)
        statistics = running.edge.statistics()
        assert statistics.frames_rate_limited == 19
    with system() as running:
        running.connected()
        for index in range(50):
            running.edge.submit(IMAGE, index)
        wait(lambda: running.robot and running.robot[-1].capture_stamp_ns == 49)
        statistics = running.edge.statistics()
    assert statistics.frames_replaced + statistics.frames_sent == 50
    assert statistics.frames_replaced > 0


def test_without_a_bridge_the_robot_answers_alone_if_it_may():
    answers = []
    edge = EdgeRuntime(edge_settings(**UNSEALED, bridge_port=9, local_fallback=True, top_k=2),
                       on_prediction=answers.append)
    edge.start()
    edge.submit(IMAGE, 5)
    wait(lambda: answers)
    edge.stop()
    assert (answers[0].strategy, answers[0].how, answers[0].recovery, answers[0].packets_sent) == ('split', 'fallback', 'none', 0)
    assert answers[0].class_ids == top_classes(whole_model(), 2)[0]
    assert edge._counts['frames_unsent'] == edge._counts['frames_local'] == 1


def test_a_frame_whose_answer_does_not_come_is_answered_alone():
    with system(local_fallback=True, answer_deadline=0.2) as running:
        running.connected()
        running.link.set_impairment('downlink', Impairment(loss=1.0))
        running.edge.submit(IMAGE, 5)
        wait(lambda: running.robot)
        statistics = running.edge.statistics()
    assert running.robot[0].how == 'fallback'
    assert (statistics.frames_expired, statistics.frames_local, statistics.frames_answered) == (1, 1, 0)


def test_a_frame_whose_answer_does_not_come_is_given_the_last_one_with_its_age():
    with system(answer_deadline=2.0) as running:
        running.connected()
        running.edge.submit(IMAGE, 5)
        wait(lambda: running.robot)
        running.link.set_impairment('uplink', Impairment(loss=1.0))
        running.edge.submit(IMAGE, 5 + 100_000_000, 'front_camera')
        wait(lambda: len(running.robot) == 2)
        running.edge.submit(IMAGE, 5 + 9_000_000_000)      # too long after
        wait(lambda: running.edge.statistics().frames_expired == 2)
        statistics = running.edge.statistics()
    first, second = running.robot
    assert (first.how, second.how, second.recovery, second.source_frame) == ('off-board', 'memory', 'memory', 'front_camera')
    assert second.class_ids == first.class_ids and second.scores[0] < first.scores[0]
    assert second.memory_age == pytest.approx(0.1)
    assert second.received is None
    assert (statistics.frames_answered, statistics.frames_remembered, statistics.frames_local) == (1, 1, 0)


def test_the_last_answer_is_given_when_none_can_be_expected_and_one_that_comes_late_is_remembered():
    with system(answer_deadline=10.0, link_timeout=20.0) as running:
        running.connected()
        running.edge.submit(IMAGE, 5)
        wait(lambda: running.robot)
        running.link.set_impairment('downlink', Impairment(delay_s=2.0))
        running.edge.submit(IMAGE, 5 + 100_000_000)
        wait(lambda: len(running.robot) == 2)           # long before the deadline
        assert running.edge.statistics().link.frames['answered'] == 1
        wait(lambda: running.edge.statistics().link.frames['answered'] == 2)
        running.link.set_impairment('uplink', Impairment(loss=1.0))
        running.edge.submit(IMAGE, 5 + 300_000_000)
        wait(lambda: len(running.robot) == 3)
        statistics = running.edge.statistics()
    assert [prediction.how for prediction in running.robot] == ['off-board', 'memory', 'memory']
    assert [prediction.capture_stamp_ns - 5 for prediction in running.robot] == [0, 100_000_000, 300_000_000]
    assert [prediction.memory_age for prediction in running.robot[1:]] == pytest.approx([0.1, 0.2])     # the second one's answer came
    assert (statistics.frames_answered, statistics.frames_remembered, statistics.frames_expired) == (1, 2, 2)


def test_while_the_link_is_lost_the_last_answer_is_given_at_once():
    with system(link_timeout=0.25) as running:
        running.connected()
        running.edge.submit(IMAGE, 5)
        wait(lambda: running.robot)
        running.link.set_impairment('downlink', Impairment(loss=1.0))
        wait(lambda: running.edge.statistics().state == 'lost')
        running.edge.submit(IMAGE, 5 + 300_000_000)
        wait(lambda: len(running.robot) == 2)
        statistics = running.edge.statistics()
    assert running.robot[1].how == 'memory' and running.robot[1].memory_age == pytest.approx(0.3)
    assert (statistics.frames_unsent, statistics.frames_remembered, statistics.frames_expired) == (1, 1, 0)


def test_a_link_that_was_lost_says_so_when_it_is_back():
    with system(link_timeout=0.25) as running:
        running.connected()
        assert not running.edge.statistics().last_loss
        running.link.set_impairment('downlink', Impairment(loss=1.0))
        wait(lambda: running.edge.statistics().state == 'lost')
        running.link.set_impairment('downlink', Impairment())
        running.connected()
        statistics = running.edge.statistics()
    assert statistics.last_loss.startswith('nothing heard from the bridge for 0.') and 0 < statistics.since_loss_s < 15


def test_another_cut_is_refused_with_both_values():
    with system(bridge={'cut': 2}) as running:
        wait(lambda: running.edge.statistics().state == 'refused')
        assert 'cut: the edge has 1, the bridge has 2' in running.edge.statistics().reason


@pytest.fixture
def keys(tmp_path):
    """A key, another one, and the folder of both, each robot's by its name."""
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    for name in ('robot', 'other'):
        write_key_file(folder / f'{name}.key')
    return folder


@pytest.mark.parametrize('bridge', ['robot.key', '.'])
def test_a_sealed_link_answers_and_tells_nobody_the_key(keys, bridge):
    with system(loss=0.3, key_file=str(keys / 'robot.key'), bridge={'key_file': str(keys / bridge)}) as running:
        running.connected()
        for index in range(1, 6):
            running.edge.submit(IMAGE, index)
            wait(functools.partial(running.ended, index))
        shown = [repr(value) for side in (running.edge, running.bridge) for value in (side.config, vars(side), side.statistics())]
    assert len(running.robot) >= 4
    secret = (keys / 'robot.key').read_text().strip()
    assert not any(secret in text for text in (*shown, *(text for _, text in running.log)))
    assert any(text.endswith(', sealed') for _, text in running.log)
    assert UNSEALED_WARNING not in [text for _, text in running.log]


def test_another_key_is_said_in_both_logs_and_in_the_state(keys):
    with system(key_file=str(keys / 'robot.key'), bridge={'key_file': str(keys / 'other.key')}) as running:
        wait(lambda: running.edge.statistics().state == 'refused')
        time.sleep(0.5)
        assert 'the bridge has no key for robot robot, or another one' in running.edge.statistics().reason
    errors = [text for level, text in running.log if level == logging.ERROR]
    assert len(errors) == 2      # once on each side
    assert sum('key: the bridge has another key for robot robot' in text for text in errors) == 1      # the bridge's
    assert sum('key: the bridge has no key for robot robot, or another one' in text for text in errors) == 1


def test_an_unsealed_link_has_to_be_asked_for_and_warns():
    for runtime, config in ((EdgeRuntime, edge_settings), (BridgeRuntime, bridge_settings)):
        with pytest.raises(ValueError, match='set key_file to a file .* or set unsealed to true'):
            runtime(config(**MODEL), on_prediction=print)
        with pytest.raises(ValueError, match='expected one of them'):
            runtime(config(**UNSEALED, key_file='robot.key'), on_prediction=print)
    with system() as running:
        running.connected()
    assert running.log.count((logging.WARNING, UNSEALED_WARNING)) == 2


def test_the_bridge_names_its_model_then_its_recovery():
    with system() as running:
        running.connected()
    first, second = (text for _, text in running.log[:2])
    assert 'tail after block 1' in first and second.startswith('recovery by the last known tokens, else by omission')


def test_a_key_file_that_others_can_read_is_refused(keys):
    path = keys / 'robot.key'
    path.chmod(0o644)
    for runtime, config in ((EdgeRuntime, edge_settings), (BridgeRuntime, bridge_settings)):
        with pytest.raises(KeyFileError, match=r"robot.key' has mode 0644; expected 0600"):
            runtime(config(**MODEL, key_file=str(path)), on_prediction=print)


def test_a_seal_leaves_the_rows_less_room():
    # A row of 192 + 4 bytes fits into 350 bytes; sealed, only half of it does.
    room = {'max_datagram_bytes': 20 + 25 + 64 + 2 + 196, 'quantisation': 'int8'}
    assert CutModel.load(edge_settings(**MODEL, **room)).parameters.groups == 1
    assert CutModel.load(edge_settings(**MODEL, **room, key_file='robot.key')).parameters.groups > 1


def test_an_image_that_cannot_be_used_is_counted_and_the_stream_goes_on():
    with system() as running:
        running.connected()
        running.edge.submit(IMAGE[..., 0], 1)
        wait(lambda: running.edge.statistics().frames_failed == 1)
        running.edge.submit(IMAGE, 2)
        wait(lambda: running.robot)
    assert running.robot[0].capture_stamp_ns == 2


def test_a_recovery_that_is_not_there_is_refused(tmp_path):
    stream = CutModel.load(edge_settings(**MODEL))
    with pytest.raises(ArtifactError, match='none was trained for vit_tiny_patch16_224 at cut 1: train it'):
        choose_recovery(bridge_settings(**MODEL, recovery='paldn'), stream)
    with pytest.raises(ArtifactError, match="recovery is 'mean'"):
        choose_recovery(bridge_settings(**MODEL, recovery='mean', recovery_artifact='x.json'), stream)
    recovery, note = choose_recovery(bridge_settings(**MODEL), stream)
    assert recovery.name == 'memory'
    assert 'no PALDN was trained for vit_tiny_patch16_224 at cut 1' in note


@pytest.mark.parametrize('values, expected', [
    ({'max_rate': -1.0}, 'max_rate is -1.0'), ({'robot_name': ''}, "robot_name is ''"), ({'top_k': 0}, 'top_k is 0'),
    ({'answer_deadline': 0.0}, 'answer_deadline is 0.0')])
def test_impossible_values_are_refused(values, expected):
    with pytest.raises(ValueError, match=expected):
        edge_settings(**{**MODEL, **values})


def test_labels_have_to_fit_the_model(tmp_path):
    (tmp_path / 'labels.txt').write_text('one\ntwo\n')
    with pytest.raises(ModelError, match='has 2 labels, the model has 9 classes'):
        CutModel.load(edge_settings(**MODEL, labels_file=str(tmp_path / 'labels.txt')))


def test_a_label_s_class_is_found_by_name_and_by_number_only_where_the_model_has_no_names():
    numbered = CutModel.load(edge_settings(**MODEL))
    assert [class_ids_of(numbered)('anything', number) for number in (-1, 0, 8, 9)] == [-1, 0, 8, -1]
    named = replace(numbered, class_names=('n02123045', 'dog', 'n01443537'))
    # A folder of WordNet names is numbered as ImageNet's classes are: 1 and 281.
    assert [class_ids_of(named)(*label) for label in (('n01443537', 1), ('n02123045', 281), ('cat', 1), ('', -1))] == [2, 0, -1, -1]
