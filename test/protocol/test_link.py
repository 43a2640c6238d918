"""Edge and bridge together over a bad link, in simulated time."""

from dataclasses import replace

import numpy as np
import pytest

from evitif.protocol.edge.pings import REMEMBERED
from evitif.protocol.events import (
    AnswerArrived,
    Connected,
    FrameExpired,
    LinkLost,
    Refused,
    RobotConnected,
    RobotLost,
)
from evitif.protocol.frames.interleaving import interleave

from .simulated_link import PARAMETERS, SMALL, Impairment, Simulation, frame_of

HOME, AWAY = ('10.0.0.1', 4000), ('10.0.0.2', 5000)


def simulation(loss=0.0, **options) -> Simulation:
    impairments = {name: options.pop(name) for name in ('burst', 'delay', 'jitter', 'duplication', 'corruption')
                   if name in options}
    return Simulation(uplink=Impairment(loss, **impairments), downlink=Impairment(loss, **impairments), **options)


def assert_accounted_for(run: Simulation, sent: list[int]) -> int:
    """Each sent frame had exactly one outcome, and what was received was sent; returns how many were answered."""
    answered = [event.sent.frame_id for event in run.of(AnswerArrived)]
    expired = [event.frame_id for event in run.of(FrameExpired)]
    assert sorted(answered + expired) == sorted(sent)
    for frame in run.received:
        rows = frame_of(PARAMETERS, frame.frame_id).rows
        assert (frame.rows[frame.received] == rows[frame.received]).all()
        assert not frame.rows[~frame.received].any()
    return len(answered)


@pytest.mark.parametrize(('loss', 'jitter', 'least'), [
    (0.0, 0.0, 1.0), (0.0, 0.02, 1.0), (0.3, 0.0, 0.99), (0.6, 0.0, 0.99), (0.6, 0.02, 0.99), (0.9, 0.0, 0.6)])
def test_frames_are_answered_over_a_lossy_link(loss, jitter, least):
    run = simulation(loss, jitter=jitter, seed=1)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.0 if loss < 0.9 else 6.0)
    frames = 500 if jitter and not loss else 200      # the first ones, which are paced and teach the bridge the jitter, may be partial
    sent = run.stream(edge, PARAMETERS, frames)
    run.run(frames / 10 + 2.0)
    assert len(sent) >= (frames if loss < 0.9 else 150)
    assert assert_accounted_for(run, sent) >= least * len(sent)
    waits = [frame.ready_at - frame.first_arrival for frame in run.received]
    assert max(waits) <= 0.1 + 1e-6
    if loss == 0.0:     # how far packets stray is learnt from the first frame on, and a stray packet now and then is further out
        assert np.mean([frame.complete for frame in run.received]) >= (0.99 if jitter else 1.0)
    if jitter == 0.0:
        assert np.mean(waits) <= 0.006      # the floors, not the deadline
        for event in run.of(AnswerArrived)[10:]:
            # To the first packet that arrives, which at 90 % loss is not the first that was sent, and they are paced.
            assert 0.0019 <= event.uplink_s <= (0.0021 if loss < 0.9 else 0.06)
            assert event.downlink_s == pytest.approx(0.002, abs=1e-4)
    assert run.of(AnswerArrived)[-1].answer.packet_error_rate == pytest.approx(loss, abs=0.06)


def test_answers_get_through_bursts():
    run = simulation(0.3, burst=4.0, seed=4)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.0)
    sent = run.stream(edge, PARAMETERS, 200)
    run.run(22.0)
    # With as many copies as independent losses need it would be 93 %.
    assert assert_accounted_for(run, sent) >= 0.985 * len(sent)


def test_each_loss_pattern_leaves_the_class_token():
    run = simulation(0.6, seed=2)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.0)
    run.stream(edge, PARAMETERS, 100)
    run.run(11.0)
    assert np.mean([frame.received[0] for frame in run.received]) >= 0.98
    packets = interleave((14, 14), 1, 1, slots=7, min_packets=16, prefix_copies=12)
    assert sum(0 in units for units in packets) == 12


def test_corruption_duplication_and_reordering_are_survived_and_counted():
    run = simulation(0.2, jitter=0.03, duplication=0.2, corruption=0.1, seed=3)
    bridge = run.add_bridge()
    edge = run.add_edge()
    run.run(1.0)
    sent = run.stream(edge, PARAMETERS, 100)
    run.run(11.5)
    assert assert_accounted_for(run, sent) >= 98
    for statistics in (bridge.statistics, edge.statistics):
        assert statistics.dropped['duplicate'] > 0
        assert statistics.dropped['corrupt'] > 0
    assert bridge.statistics_of(edge.session_id).reordered > 0
    # What is corrupt is lost to its reader.
    assert edge.statistics.packet_error_rate == pytest.approx(0.2 + 0.8 * 0.1, abs=0.1)


@pytest.mark.parametrize('down', [0.4, 3.0, 12.0])
@pytest.mark.parametrize('seed', range(3))
def test_a_restarted_bridge_answers_within_two_seconds_at_60_percent_loss(down, seed):
    run = simulation(0.6, seed=seed)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.5)
    sent = run.stream(edge, PARAMETERS, int(10 * (down + 4)))
    run.run(0.5)
    assert run.of(AnswerArrived)
    run.bridge = None
    run.run(down)
    started, before = run.now, len(run.events)
    run.add_bridge()
    run.run(5.0)
    after = [when for when, _, event in run.events[before:]
             if isinstance(event, AnswerArrived) and event.sent.sent_at >= started]
    assert after[0] - started < 2.0
    assert_accounted_for(run, sent)


def test_a_restarted_edge_is_served_again():
    run = simulation(0.3, seed=5)
    run.add_bridge()
    run.add_edge()
    run.run(1.0)
    edge = run.add_edge()      # the same name and address, nothing said goodbye
    run.run(1.0)
    assert edge.connected
    sent = run.stream(edge, PARAMETERS, 10)
    run.run(2.0)
    assert assert_accounted_for(run, sent) == 10
    assert len(run.bridge.sessions) == 1


def test_an_edge_at_another_port_gets_its_name_when_its_former_life_has_expired():
    run = simulation(0.3, seed=5)
    run.add_bridge()
    run.add_edge()
    run.run(1.0)
    del run.edges[HOME]
    edge = run.add_edge(address=AWAY)
    run.run(4.0)
    reason = 'robot: the name robot is in use by another edge at 10.0.0.1:4000'
    assert [event.reason for event in run.of(Refused)] == [reason]
    assert edge.connected


def test_two_edges_of_one_name_do_not_take_turns():
    run = simulation(0.3, seed=6)
    run.add_bridge()
    first = run.add_edge()
    run.run(0.5)
    second = run.add_edge(address=AWAY)
    run.run(10.0)
    assert first.connected
    assert not second.connected
    assert len(run.of(Refused, AWAY)) == 1
    assert len(run.of(RobotConnected)) == 1


def test_a_mismatch_is_refused_naming_both_values_and_heals_when_the_bridge_is_replaced():
    run = simulation(0.3, seed=7)
    run.add_bridge(replace(PARAMETERS, cut=6))
    edge = run.add_edge()
    run.run(5.0)
    assert run.of(Refused) == [Refused('cut: the edge has 3, the bridge has 6')]
    assert not edge.connected
    run.add_bridge(PARAMETERS)
    run.run(3.0)
    assert edge.connected


def test_a_roaming_robot_keeps_its_session():
    run = simulation(0.2, seed=8)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.0)
    session = edge.session_id
    sent = run.stream(edge, PARAMETERS, 40)
    run.run(2.0)
    run.edges = {AWAY: run.edges[HOME]}
    run.run(4.0)
    assert edge.session_id == session
    assert run.bridge.sessions[session].address == AWAY
    assert not run.of(LinkLost)
    assert assert_accounted_for(run, sent) >= 39


def test_the_link_is_lost_and_found_without_a_new_session():
    run = simulation(seed=9)
    run.add_bridge()
    edge = run.add_edge()
    run.run(1.0)
    session = edge.session_id
    run.downlink.loss = 1.0
    run.run(1.5)
    assert [event.silent_s for event in run.of(LinkLost)] == [pytest.approx(1.0, abs=0.01)]
    run.downlink.loss = 0.0
    run.run(0.5)
    assert edge.session_id == session
    assert len(run.of(Connected)) == 2
    assert not run.of(RobotLost)


def test_an_idle_link_holds_at_60_percent_loss():
    run = simulation(0.6, seed=10)
    run.add_bridge(SMALL)
    run.add_edge(SMALL)
    run.run(60.0)
    assert len(run.of(LinkLost)) <= 1
    assert not run.of(RobotLost)


def test_a_closing_bridge_and_a_closing_edge_are_noticed_at_once():
    run = simulation(seed=11)
    bridge = run.add_bridge(SMALL)
    edge = run.add_edge(SMALL)
    run.run(1.0)
    bridge.close(run.now + run.clock_offset)
    run.run(0.1)
    assert not edge.connected
    run.add_bridge(SMALL)
    run.run(0.5)
    assert edge.connected
    edge.close(run.now)
    run.run(0.1)
    assert [event.reason for event in run.of(RobotLost)] == ['the robot said goodbye']


def test_the_frame_counter_wraps_without_a_lost_frame():
    run = simulation(0.1, seed=12)
    run.add_bridge(SMALL)
    edge = run.add_edge(SMALL)
    run.run(0.5)
    sent = run.stream(edge, SMALL, 20, first_id=2**32 - 10)
    run.run(3.0)
    assert len(run.of(AnswerArrived)) == len(sent) == 20
    assert {0, 2**32 - 1} <= set(sent)


def test_memory_is_flat_over_a_long_run():
    run = simulation(0.5, seed=13)
    run.add_bridge(SMALL)
    edge = run.add_edge(SMALL)
    run.run(1.0)
    for _ in range(4):
        run.stream(edge, SMALL, 100, rate=30.0, first_id=len(run.received))
        run.run(4.0)
        session, = run.bridge.sessions.values()
        assert not edge._sent
        assert not session._pending
        assert len(edge._sent._answered) <= 256
        assert len(edge._session.pings) <= REMEMBERED
        assert session.reassembler.get_timer() is None


def test_what_nobody_reads_is_said_in_the_pings_and_costs_nothing_where_all_is_read():
    bridge = replace(PARAMETERS, heads=(('rooms', 'ab' * 8), ('things', 'cd' * 8), ('view', 'ef' * 8)))
    run = simulation(0.3, seed=3)
    run.add_bridge(bridge)
    edge = run.add_edge(replace(bridge, heads=bridge.heads[::-1][:2]))      # fewer, in an order of its own
    run.run(1.0)
    (session,) = run.bridge.sessions.values()
    assert session.heads_read == ('view', 'things')
    edge.unread = 0b01
    run.run(2.0)
    assert session.heads_read == ('things',)
    edge.unread = 0
    run.run(2.0)
    assert session.heads_read == ('view', 'things')
