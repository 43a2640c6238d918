import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, LinkLost, Refused
from evitif.protocol.frames.packetiser import Packetiser
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.wire import datagram
from evitif.protocol.wire.answer import encode
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome

from .simulated_link import SMALL, answer_to, frame_of

SESSION = 77


def events_of(edge) -> list:
    return list(iter(edge.next_event, None))


def types_in(datagrams) -> Counter:
    return Counter(datagram.parse(data).type for data in datagrams)


class Bridge:
    """A bridge played by hand: it says exactly what a test wants."""

    def __init__(self, edge):
        self.edge = edge
        self.sequence = 0

    def say(self, kind, body=b'', now=0.0, session=SESSION) -> bytes:
        data = datagram.build(kind, session, self.sequence, body)
        self.sequence += 1
        self.edge.receive_datagram(data, now)
        return data

    def welcome(self, now, session=SESSION) -> None:
        self.say(datagram.WELCOME, Welcome(self.edge._hellos.instance, 'bridge').to_bytes(), now, session)

    def answer(self, frame, now, session=SESSION, **changes) -> bytes:
        reassembler = Reassembler(SMALL)
        for data in Packetiser(SMALL).packetise(frame):
            reassembler.receive(datagram.parse_tokens(datagram.parse(data).body), len(data), now)
        return self.say(datagram.ANSWER, encode(answer_to(reassembler.next_frame(), now, **changes), 3), now, session)


@pytest.fixture
def edge() -> EdgeConnection:
    return EdgeConnection(SMALL, 'robot', random=Random(1))


@pytest.fixture
def connected(edge):
    edge.connect(1.0)
    bridge = Bridge(edge)
    bridge.welcome(1.0)
    assert events_of(edge) == [Connected(SESSION, 'bridge')]
    edge.datagrams_to_send(1.0)
    return edge, bridge


def run(edge, start, end) -> list[tuple[float, bytes]]:
    """Handle the timers up to `end`; what was sent, and when."""
    sent = [(start, data) for data in edge.datagrams_to_send(start)]
    while (timer := edge.get_timer()) is not None and timer <= end:
        edge.handle_timer(timer)
        sent += [(timer, data) for data in edge.datagrams_to_send(timer)]
    return sent


def test_nothing_happens_before_connect(edge):
    assert edge.get_timer() is None
    edge.handle_timer(5.0)
    assert edge.datagrams_to_send(5.0) == []
    assert not edge.send_frame(frame_of(SMALL, 1), 5.0)


def test_hello_is_repeated_and_slows_down_when_nobody_answers(edge):
    edge.connect(1.0)
    sent = run(edge, 1.0, 11.0)
    hellos = [Hello.parse(datagram.parse(data).body) for _, data in sent]
    assert set(hellos) == {Hello('robot', edge._hellos.instance, SMALL)}
    times = sorted({when for when, _ in sent})
    assert len(sent) == 3 * len(times)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] == pytest.approx(0.1)
    assert gaps[-1] == pytest.approx(0.3)
    assert gaps == sorted(gaps, key=lambda gap: round(gap, 6))


def test_a_welcome_for_another_edge_is_not_believed(edge):
    edge.connect(1.0)
    for session, instance in ((SESSION, edge._hellos.instance ^ 1), (0, edge._hellos.instance)):
        edge.receive_datagram(datagram.build(datagram.WELCOME, session, 0, Welcome(instance, 'b').to_bytes()), 1.0)
    assert not edge.connected
    assert edge.statistics.dropped == {'unexpected': 2}


def test_each_reason_of_a_refusal_is_said_once_while_it_goes_on_asking(edge):
    edge.connect(1.0)
    for reason in ('cut: 3, 6', 'cut: 3, 6', 'robot: in use', 'cut: 3, 6'):
        refuse = Refuse(edge._hellos.instance, 'b', (reason,)).to_bytes()
        edge.receive_datagram(datagram.build(datagram.REFUSE, 0, 0, refuse), 1.0)
    assert events_of(edge) == [Refused('cut: 3, 6'), Refused('robot: in use'), Refused('cut: 3, 6')]
    run(edge, 1.0, 1.0)
    times = sorted({when for when, _ in run(edge, 1.0, 5.5)})
    assert times == pytest.approx([2.0, 3.0, 4.0, 5.0])
    Bridge(edge).welcome(6.0)
    assert edge.connected


def test_a_refusal_does_not_end_a_session(connected):
    edge, _ = connected
    edge.receive_datagram(datagram.build(datagram.REFUSE, 0, 0, Refuse(edge._hellos.instance, 'b', ('no',)).to_bytes()), 1.0)
    assert edge.connected


def test_an_answer_comes_once_with_its_times(connected):
    edge, bridge = connected
    frame = frame_of(SMALL, 5)
    assert edge.send_frame(frame, 1.0)
    packets = [data for data in edge.datagrams_to_send(1.0) if datagram.parse(data).type == datagram.TOKENS]
    data = bridge.answer(frame, 1.1, first_arrival=501.02, hold_s=0.05)
    bridge.answer(frame, 1.1)
    arrived, = events_of(edge)
    assert isinstance(arrived, AnswerArrived)
    assert (arrived.sent.packets, arrived.sent.bytes) == (len(packets), sum(map(len, packets)))
    assert arrived.round_trip_s == pytest.approx(0.1)
    assert arrived.uplink_s == pytest.approx(0.025)        # both ways the same, as far as one exchange can tell
    assert arrived.downlink_s == pytest.approx(0.025)
    assert arrived.copies_bytes == 3 * len(data)
    assert edge.statistics.dropped == {'answer_copy': 1}
    assert edge.statistics.frames == {'sent': 1, 'answered': 1, 'cut': 0}


def test_a_late_answer_is_counted_and_does_not_undo_the_expiry(connected):
    edge, bridge = connected
    frame = frame_of(SMALL, 5)
    edge.send_frame(frame, 1.0)
    bridge.answer(frame, 1.5)      # before handle_timer was called
    bridge.answer(frame_of(SMALL, 99), 1.5)
    assert events_of(edge) == [FrameExpired(5, frame.capture_stamp_ns)]
    assert edge.statistics.dropped == {'late': 2}


def test_an_answer_to_another_stream_is_inconsistent(connected):
    edge, bridge = connected
    frame = frame_of(SMALL, 5)
    edge.send_frame(frame, 1.0)
    bridge.answer(frame, 1.1, class_ids=(3, 10))
    assert edge.statistics.dropped == {'inconsistent': 1}
    assert events_of(edge) == []


def test_the_link_is_lost_after_the_timeout_and_back_with_the_first_word(connected):
    edge, bridge = connected
    run(edge, 1.0, 1.99)
    assert edge.connected
    run(edge, 1.99, 2.0)
    assert not edge.connected
    assert not edge.send_frame(frame_of(SMALL, 1), 2.0)
    assert events_of(edge) == [LinkLost(pytest.approx(1.0))]
    assert datagram.HELLO in types_in(data for _, data in run(edge, 2.0, 2.3))
    bridge.answer(frame_of(SMALL, 1), 2.4)      # late, but of this session
    assert edge.connected
    assert events_of(edge) == [Connected(SESSION, 'bridge')]


def test_a_ping_keeps_the_link_and_measures_it(connected):
    edge, bridge = connected
    now = 1.0
    for _ in range(20):
        run(edge, now, now)
        edge.handle_timer(now)
        for _, data in run(edge, now, now + 0.2):
            parsed = datagram.parse(data)
            if parsed.type == datagram.PING:
                t1, _, _ = datagram.parse_ping(parsed.body)
                pong = datagram.pong_body(t1, t1 + 100.01, t1 + 100.02, edge._session.tracker.report())
                bridge.say(datagram.PONG, pong, t1 + 0.03)
        now += 0.2
    assert edge.connected
    statistics = edge.statistics
    assert statistics.round_trip_s == pytest.approx(0.02)
    assert statistics.clock_offset_s == pytest.approx(100.0)
    assert statistics.remote_packet_error_rate == 0.0


def test_a_pong_to_no_ping_measures_nothing(connected):
    edge, bridge = connected
    bridge.say(datagram.PONG, datagram.pong_body(0.5, 5000.0, 5000.0, edge._session.tracker.report()), 1.1)
    assert math.isnan(edge.statistics.clock_offset_s)


def test_reset_of_this_session_says_hello_at_once_and_any_other_is_ignored(connected):
    edge, bridge = connected
    edge.send_frame(frame_of(SMALL, 5), 1.0)
    edge.datagrams_to_send(1.0)
    bridge.say(datagram.RESET, now=1.1, session=SESSION + 1)
    assert edge.connected
    bridge.say(datagram.RESET, now=1.1)
    assert types_in(edge.datagrams_to_send(1.1)) == {datagram.HELLO: 3}
    assert [type(event) for event in events_of(edge)] == [FrameExpired, LinkLost]
    bridge.say(datagram.RESET, now=1.1)      # a further copy
    assert edge.datagrams_to_send(1.1) == []
    bridge.sequence = 0
    bridge.welcome(1.2, session=SESSION + 5)
    assert edge.session_id == SESSION + 5
    assert edge.send_frame(frame_of(SMALL, 6), 1.2)
    assert datagram.parse(edge.datagrams_to_send(1.2)[0]).sequence == 0


def test_close_says_goodbye_and_leaves_no_frame_open(connected):
    edge, bridge = connected
    edge.send_frame(frame_of(SMALL, 5), 1.0)
    edge.datagrams_to_send(1.0)
    edge.close(1.1)
    assert types_in(edge.datagrams_to_send(1.1)) == {datagram.BYE: 5}
    assert [type(event) for event in events_of(edge)] == [FrameExpired]
    bridge.answer(frame_of(SMALL, 5), 1.2)
    assert events_of(edge) == []
    assert edge.get_timer() is None
    before = edge._hellos.instance
    edge.connect(2.0)
    assert edge._hellos.instance != before


def test_frames_that_are_remembered_are_bounded():
    edge = EdgeConnection(SMALL, 'robot', EdgeConfig(frames_remembered=4))
    edge.connect(1.0)
    Bridge(edge).welcome(1.0)
    events_of(edge)
    for frame_id in range(10):
        edge.send_frame(frame_of(SMALL, frame_id), 1.0)
    assert [event.frame_id for event in events_of(edge)] == [0, 1, 2, 3, 4, 5]


def test_a_frame_id_that_is_used_again_closes_the_first_frame(connected):
    edge, _ = connected
    edge.send_frame(frame_of(SMALL, 1), 1.0)
    edge.send_frame(replace(frame_of(SMALL, 1), capture_stamp_ns=5), 1.1)
    run(edge, 1.1, 3.0)
    expired = [event for event in events_of(edge) if isinstance(event, FrameExpired)]
    assert expired == [FrameExpired(1, 1_000_000_001), FrameExpired(1, 5)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(
    3 * ['send', 'answer'] + 2 * ['welcome'] + ['wait', 'wait long', 'reset', 'bye', 'close', 'connect']),
    max_size=60))
def test_each_sent_frame_ends_in_exactly_one_event(seed, steps):
    random = Random(seed)
    edge = EdgeConnection(SMALL, 'robot', EdgeConfig(frames_remembered=5), random=random)
    bridge = Bridge(edge)
    edge.connect(0.0)
    now, session, sent, outcomes = 0.0, 1, [], Counter()
    for step in ['welcome', *steps, 'close']:
        if step == 'send':
            frame = frame_of(SMALL, len(sent))
            if edge.send_frame(frame, now):
                sent.append(frame)
        elif step == 'answer' and sent:
            bridge.answer(random.choice(sent[-8:]), now, session)
        elif step.startswith('wait'):
            now += 0.2 if step == 'wait' else 1.5
            run(edge, now, now)
        elif step == 'reset':
            bridge.say(datagram.RESET, now=now, session=session)
        elif step == 'bye':
            bridge.say(datagram.BYE, now=now, session=session)
        elif step == 'welcome':
            session += edge.session_id is None
            bridge.welcome(now, session)
        elif step == 'close':
            edge.close(now)
        elif step == 'connect':
            edge.connect(now)
        edge.datagrams_to_send(now)
        for event in events_of(edge):
            if isinstance(event, AnswerArrived):
                outcomes[event.sent.frame_id] += 1
            elif isinstance(event, FrameExpired):
                outcomes[event.frame_id] += 1
    assert outcomes == Counter(frame.frame_id for frame in sent)


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 9), st.binary(max_size=120))
def test_no_bytes_make_it_raise_and_each_datagram_is_accounted_for(noise, kind, body):
    edge = EdgeConnection(SMALL, 'robot', random=Random(1))
    edge.connect(0.0)
    Bridge(edge).welcome(0.0)
    for k, data in enumerate([*noise, datagram.build(kind, SESSION, 5, body), datagram.build(kind, 0, 0, body)]):
        edge.receive_datagram(data, 0.1 * k)
    statistics = edge.statistics
    assert statistics.datagrams_received == len(noise) + 3
    assert statistics.datagrams_used <= 3


@pytest.mark.parametrize(('change', 'text'), [
    ({'answer_deadline_s': 0}, 'answer_deadline_s is 0; expected a positive number of seconds'),
    ({'link_timeout_s': float('nan')}, 'link_timeout_s is nan'),
    ({'max_datagram_bytes': 100}, 'max_datagram_bytes is 100; expected a whole number from 256'),
    ({'link_timeout_s': 0.1}, 'expected more than the PING interval, 0.2'),
])
def test_an_impossible_configuration_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        EdgeConfig(**change)


def test_a_hello_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'HELLO takes \d+ bytes; expected at most max_datagram_bytes, 256'):
        EdgeConnection(SMALL, 128 * 'r', EdgeConfig(max_datagram_bytes=256))
    with pytest.raises(ValueError, match='robot is'):
        EdgeConnection(SMALL, '')


def test_the_loss_of_the_uplink_is_known_from_the_first_answer_on(connected):
    edge, bridge = connected
    assert math.isnan(edge.uplink.packet_error_rate)
    edge.send_frame(frame := frame_of(SMALL, 1), 1.0)
    bridge.answer(frame, 1.02, packet_error_rate=0.4)
    assert edge.uplink.packet_error_rate == pytest.approx(0.4)
