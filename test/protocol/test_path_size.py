"""A path that swallows large datagrams and says nothing: frames travel in smaller ones, and in larger ones again when it takes them."""

from dataclasses import replace

import pytest

from evitif.protocol.events import AnswerArrived, DatagramSize
from evitif.protocol.sealing.keys import Key, RobotKeys

from .simulated_link import PARAMETERS, Impairment, Simulation
from .test_congestion import AdaptiveStream, started


def narrow(run, limit):
    """From now on the uplink swallows datagrams of more than `limit` bytes; returns what ends that."""
    passes = run.uplink.passes
    run.uplink.passes = lambda size, now: None if size > limit else passes(size, now)

    def widen():
        run.uplink.passes = passes
    return widen


def answered(run, since):
    return sum(when >= since for when, _, event in run.events if isinstance(event, AnswerArrived))


@pytest.mark.parametrize('limit', [1199, 1000, 600, 280])
@pytest.mark.parametrize(('loss', 'fps', 'adapts'), [(0.0, 3.0, False), (0.0, 15.0, False), (0.3, 10.0, True)])
def test_frames_are_answered_again_within_five_seconds(limit, loss, fps, adapts, seed=3):
    run, edge = started(uplink=Impairment(loss), downlink=Impairment(loss), seed=seed)
    if adapts:
        AdaptiveStream(run, edge, 12.0, rate=fps)
    else:
        run.stream(edge, PARAMETERS, int(12 * fps), fps)
    run.run(4.0)
    narrow(run, limit)
    shrank = run.now
    run.run(8.0)
    assert answered(run, shrank + 5.0) >= 0.8 * 3 * fps
    largest = max(len(data) for at, data in run.departed if at < shrank)
    assert bool(run.of(DatagramSize)) == (largest > limit)      # all is said, nothing else
    if run.of(DatagramSize):
        assert run.of(DatagramSize)[0] == DatagramSize(548, 1200) and edge.uplink.datagram_bytes <= limit


def test_it_goes_back_up_and_a_trial_costs_one_frame():
    run, edge = started()
    run.stream(edge, PARAMETERS, 700, 10.0)
    run.run(4.0)
    widen = narrow(run, 600)
    run.run(5.0)
    begin = run.now
    run.run(25.0)
    assert 300 > answered(run, begin) >= 250 - 3      # 5, 15 and 35 s after
    widen()
    run.run(30.0)
    assert [event.size for event in run.of(DatagramSize)] == [548, 900, 1200] and edge.uplink.datagram_bytes == 1200


def test_a_sealed_robot_falls_back_too_and_one_that_begins_on_such_a_path():
    key = Key(bytes(range(32)))
    run = Simulation(seed=2)
    run.add_bridge(keys=RobotKeys({'robot': key}))
    edge = run.add_edge(key=key)
    narrow(run, 700)
    run.run(1.0)
    run.stream(edge, PARAMETERS, 80, 10.0)
    run.run(8.0)
    assert answered(run, run.now - 4.0) >= 39
    assert run.of(DatagramSize) == [DatagramSize(548, 1200)]


@pytest.mark.parametrize('loss', [0.6, 0.9])
def test_radio_loss_is_not_taken_for_a_small_path(loss):
    for seed in range(3):
        run, edge = started(uplink=Impairment(loss), downlink=Impairment(loss), seed=seed)
        AdaptiveStream(run, edge, 20.0, rate=10.0)
        run.run(20.0)
        assert not run.of(DatagramSize)


def test_neither_is_a_bridge_that_does_not_answer_nor_an_uplink_that_was_away():
    run, edge = started()
    run.stream(edge, PARAMETERS, 150, 10.0)
    run.run(2.0)
    run.uplink.loss = 1.0
    run.run(0.9)
    run.uplink.loss = 0.0
    run.run(2.0)
    run._answer = lambda bridge, frame: None
    run.run(6.0)
    assert not run.of(DatagramSize)


def test_rows_that_fit_into_no_smaller_datagram_are_said():
    large = replace(PARAMETERS, channels=1080, row_bytes=1084)
    run = Simulation(seed=1)
    run.add_bridge(large)
    edge = run.add_edge(large)
    run.run(1.0)
    run.stream(edge, large, 160, 10.0)
    run.run(2.0)
    widen = narrow(run, 700)
    run.run(5.0)
    assert run.of(DatagramSize)[-1] == DatagramSize(*[edge.uplink.datagram_bytes] * 2)
    widen()
    run.run(4.0)
    assert run.of(DatagramSize)[-1].before == 0 and answered(run, run.now - 2.0) >= 19
