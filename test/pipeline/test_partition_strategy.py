"""The strategy `partition` at run time: three devices, a lossy relay and a bridge."""

import time

import numpy as np
import pytest
from running_system import IMAGE, System, wait
from small_systems import CLASSES, DEVICES, write_partition

from evitif.partition import load_device, load_fusion
from evitif.pipeline import EdgeRuntime
from evitif.settings import edge_settings

LINK = {'unsealed': True, 'strategy': 'partition', 'threads': 1}


def device(partition, name, **more):
    return {**LINK, 'partition': partition, 'partition_device': name, 'answer_deadline': 1.0, **more}


def bridge(partition, **more):
    return {**LINK, 'partition': partition, 'top_k': 6, **more}


def fused(partition, present):
    """What the fusion makes of the features of those devices that are `present`."""
    models = [load_device(partition, name) for name in DEVICES]
    features = np.stack([model.features(model.preprocessor(IMAGE)) for model in models])
    return load_fusion(partition).answer(features, np.array(present))


def test_what_the_devices_saw_is_fused_into_one_answer_that_all_of_them_get(partition):
    with System(*[device(partition, name) for name in DEVICES], bridge=bridge(partition)) as system:
        system.connected()
        for edge in system.edges:
            edge.submit(IMAGE, 7, 'camera')
        wait(lambda: len(system.robot) == 3 and system.off_board)
    ((robot, off_board),) = system.off_board
    assert (robot, off_board.how, off_board.strategy, off_board.recovery) == ('robot', 'off-board', 'partition', 'none')
    assert (off_board.tokens_sent, off_board.tokens_received, off_board.devices) == (3, 3, DEVICES)
    expected = fused(partition, [True] * 3)
    assert off_board.class_ids == tuple(np.argsort(-expected, kind='stable').tolist())
    np.testing.assert_allclose(off_board.scores, np.sort(expected)[::-1], atol=0.03)       # features travel as int8
    for prediction in system.robot:
        assert prediction.class_ids == off_board.class_ids and prediction.received.all() and prediction.sent.sum() == 1
        assert prediction.stages.head > 0 and prediction.packets_sent >= 3


def test_a_device_that_is_gone_is_left_out_and_the_others_go_on(partition):
    with System(*[device(partition, name) for name in DEVICES], bridge=bridge(partition, session_timeout=0.5), loss=0.3) as system:
        system.connected()
        for stamp in range(1, 31):
            if stamp == 11:
                system.edges[1].stop()
            for edge in system.edges[:1] + system.edges[2:] if stamp >= 11 else system.edges:
                edge.submit(IMAGE, stamp)
            give_up = time.monotonic() + 0.5
            while time.monotonic() < give_up and not (system.off_board and system.off_board[-1][1].capture_stamp_ns == stamp):
                time.sleep(0.005)
        joined = system.bridge.statistics().joined
    answers = {prediction.capture_stamp_ns: prediction for _, prediction in system.off_board}
    assert sum(joined.get(kind, 0) for kind in ('complete', 'partial')) >= len(answers)
    assert len(answers) >= 28
    assert sum(answers[stamp].received.all() for stamp in range(1, 11) if stamp in answers) >= 8
    late = [answers[stamp] for stamp in range(16, 31) if stamp in answers]
    assert not any(prediction.received[1] for prediction in late)
    both = [prediction for prediction in late if prediction.received[[0, 2]].all()]
    assert len(both) >= 12
    np.testing.assert_allclose(both[-1].scores, np.sort(fused(partition, [True, False, True]))[::-1], atol=0.03)
    assert both[-1].recovery == 'omission'


def test_an_image_that_a_device_missed_is_answered_beside_the_next_one(partition):
    # What waits for a device is handed on at the same moment as the newer image that is whole.
    with System(*[device(partition, name) for name in DEVICES], bridge=bridge(partition, join_deadline=10.0)) as system:
        system.connected()
        others = system.edges[1:]
        for stamp in range(1, 41, 2):
            for edge in others:
                edge.submit(IMAGE, stamp)
            wait(lambda stamp=stamp: [link.frames['complete'] for link in system.bridge.statistics().links.values()].count(stamp) == 2)
            for edge in system.edges:
                edge.submit(IMAGE, stamp + 1)
            wait(lambda stamp=stamp: any(prediction.capture_stamp_ns == stamp + 1 for _, prediction in system.off_board))
        wait(lambda: len(system.robot) == 100)
        statistics = system.bridge.statistics()
    assert {prediction.capture_stamp_ns: int(prediction.received.sum()) for _, prediction in system.off_board} == {
        stamp: 3 - stamp % 2 for stamp in range(1, 41)}
    assert statistics.joined == {'complete': 20, 'partial': 20} and not statistics.frames_replaced


def test_a_device_that_is_late_gets_what_the_others_were_told_and_has_no_part_in_it(partition):
    with System(*[device(partition, name) for name in DEVICES], bridge=bridge(partition, join_deadline=0.05)) as system:
        system.connected()
        for edge in (system.edges[0], system.edges[2]):
            edge.submit(IMAGE, 7, 'camera')
        wait(lambda: system.off_board)
        wait(lambda: len(system.robot) == 2)
        system.edges[1].submit(IMAGE, 7, 'camera')
        wait(lambda: len(system.robot) == 3)
        statistics = system.bridge.statistics()
    ((_, off_board),), late = system.off_board, system.robot[2]
    assert off_board.received.tolist() == late.received.tolist() == [True, False, True]
    assert (late.how, late.class_ids, late.scores) == ('off-board', off_board.class_ids, off_board.scores)
    assert late.sent.tolist() == [False, True, False] and late.packets_received >= 1
    assert (statistics.frames_ready, statistics.frames_answered, statistics.joined) == (3, 3, {'partial': 1, 'late': 1})


def test_alone_a_device_says_what_it_knows_of_its_own_classes_and_of_the_others_together(partition):
    answers = []
    edge = EdgeRuntime(edge_settings(**device(partition, 'middle', bridge_port=9)), on_prediction=answers.append)
    edge.start()
    edge.submit(IMAGE, 7)
    wait(lambda: answers)
    edge.stop()
    (answer,) = answers
    assert (answer.strategy, answer.how) == ('partition', 'fallback')
    model = load_device(partition, 'middle')
    local = model.local_probabilities(model.features(model.preprocessor(IMAGE)))
    named = dict(zip(answer.labels, answer.scores, strict=True))
    assert named == pytest.approx({CLASSES[2]: local[0], CLASSES[3]: local[1], 'other': local[2], CLASSES[0]: 0, CLASSES[1]: 0}, abs=1e-6)
    assert dict(zip(answer.labels, answer.class_ids, strict=True))['other'] == -1


@pytest.mark.parametrize(('stamps', 'joined', 'said'), [
    ([0] * 5, [], 'the images have no stamp (header.stamp is 0); expected one of its own for each image'),
    ([7 * 10**9] * 5, [7 * 10**9], 'several images have one stamp, the last of them 7.000000000 s; expected one of its own for each image'),
    ([7 * 10**9, 7 * 10**9, 8 * 10**9, 8 * 10**9], [7 * 10**9], 'several images have one stamp, the last of them 8.000000000 s; expected')])
def test_images_that_their_stamps_do_not_tell_apart_are_answered_alone_and_the_reason_is_said(partition, stamps, joined, said):
    with System(*[device(partition, name) for name in DEVICES], bridge=bridge(partition)) as system:
        system.connected()
        for number, stamp in enumerate(stamps, 1):
            for edge in system.edges:
                edge.submit(IMAGE, stamp)
            wait(lambda number=number: len(system.robot) == 3 * number)
        statistics = [edge.statistics() for edge in system.edges]
    assert [prediction.capture_stamp_ns for _, prediction in system.off_board] == joined
    assert [prediction.how for prediction in system.robot] == ['off-board'] * 3 * len(joined) + ['fallback'] * 3 * (
        len(stamps) - len(joined))
    for own in statistics:
        assert own.stamps.startswith(said)
        assert (own.frames_sent, own.frames_unsent) == (len(joined), len(stamps) - len(joined))


def test_another_partition_and_a_second_device_of_one_name_are_refused(partition, tmp_path):
    other = write_partition(tmp_path / 'other', seed=3)
    with System(device(partition, 'left'), device(partition, 'left', robot_name='robot'), bridge=bridge(partition)) as system:
        wait(lambda: {edge.statistics().state for edge in system.edges} == {'connected', 'refused'})
        (reason,) = [edge.statistics().reason for edge in system.edges if edge.statistics().state == 'refused']
        assert reason.startswith('robot: the name robot.left is in use by another edge at 127.0.0.1:')
    with System(device(other, 'left'), bridge=bridge(partition)) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert 'fingerprint: the edge has ' in system.edge.statistics().reason


@pytest.mark.parametrize('values, expected', [
    ({'partition_device': 'nobody'}, "has no device 'nobody'"), ({'partition_device': None}, 'partition_device is None'),
    ({'quantisation': 'klt1'}, "quantisation is 'klt1'"), ({'partition': '/nowhere'}, 'cannot be read')])
def test_impossible_values_are_refused(partition, values, expected):
    with pytest.raises(ValueError, match=expected):
        EdgeRuntime(edge_settings(**{**device(partition, 'left'), **values}), on_prediction=print)
