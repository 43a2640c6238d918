"""Runs of datagrams: what arrives counts the same however the kernel groups it, and what leaves is what its datagrams would be."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import FrameReady
from evitif.protocol.frames.packetiser import Packetiser
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import BRIDGE_TO_EDGE, EDGE_TO_BRIDGE, Sealer
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.datagram import HEADER, DatagramError

from .simulated_link import PARAMETERS, SMALL, frame_of

HOME, ELSEWHERE = ('10.0.0.1', 4000), ('10.0.0.2', 4000)
KEY = Key(bytes(range(32)))
SESSION = 5


def connected(sealed: bool, parameters=SMALL, robots=1, **options):
    """A bridge and edges that have a session with it, always the same ones."""
    bridge = BridgeEndpoint(parameters, 'bridge', BridgeConfig(frames_in_flight=2), keys=RobotKeys(default=KEY) if sealed else None,
                            random=Random(3))
    edges = []
    for number in range(robots):
        edge = EdgeConnection(parameters, f'robot {number}', EdgeConfig(congestion_control=False, min_packets=8, **options),
                              key=KEY if sealed else None, random=Random(number))
        edge.connect(1.0)
        while not edge.connected:
            for data in edge.datagrams_to_send(1.0):
                bridge.receive_datagram(data, HOME, 1.0)
            for data, _ in bridge.datagrams_to_send(1.0):
                edge.receive_datagram(data, 1.0)
        for data in edge.datagrams_to_send(1.0):
            bridge.receive_datagram(data, HOME, 1.0)
        edges.append(edge)
    return bridge, edges


def told(bridge) -> list:
    """What a bridge says of what has arrived: its events, but for packet error rates, and what it has dropped."""
    frames = []
    for event in iter(bridge.next_event, None):
        if isinstance(event, FrameReady):
            values = vars(event.frame) | {'packet_error_rate': None, 'session_id': 0}
            frames.append({name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()})
        else:
            frames.append((type(event), event.robot))
    counts = [bridge.statistics, *(session.statistics() for session in bridge.sessions.values())]
    return [frames, [(one.datagrams_received, one.bytes_received, one.reordered, {k: n for k, n in one.dropped.items() if n}, one.frames)
                     for one in counts], [(session.address, session.heard_at) for session in bridge.sessions.values()]]


def arrays_of(datagrams):
    """Cut into runs of one size, as they come from the kernel."""
    start = 0
    for k in range(1, len(datagrams) + 1):
        if k == len(datagrams) or len(datagrams[k]) != len(datagrams[start]):
            yield np.frombuffer(bytearray(b''.join(datagrams[start:k])), np.uint8).reshape(k - start, -1)
            start = k


TROUBLE = st.lists(st.tuples(st.sampled_from(['lose', 'repeat', 'swap', 'flip', 'foreign', 'forge', 'other robot', 'again later', 'cut']),
                             st.integers(0, 10**6), st.integers(0, 10**6)), max_size=6)


def troubled(datagrams, others, trouble):
    """The datagrams with what may happen to them on the way, in the order in which they arrive."""
    datagrams = list(datagrams)
    for kind, first, second in trouble:
        if not datagrams:
            break
        at, to = first % len(datagrams), second % len(datagrams)
        if kind == 'lose':
            del datagrams[at:at + 1 + second % 3]
        elif kind == 'repeat':
            datagrams.insert(at, datagrams[at])
        elif kind == 'again later':
            datagrams.append(datagrams[at])
        elif kind == 'swap':
            datagrams[at], datagrams[to] = datagrams[to], datagrams[at]
        elif kind == 'flip' and datagrams[at]:
            changed = bytearray(datagrams[at])
            changed[second % len(changed)] ^= 1 << first % 8
            datagrams[at] = bytes(changed)
        elif kind == 'forge':      # the checksum is right, what it says may be nonsense
            changed = bytearray(datagrams[at])
            if len(changed) > HEADER.size:
                changed[HEADER.size + second % (len(changed) - HEADER.size)] ^= 1 << first % 8
                header = HEADER.unpack_from(changed)
                datagrams[at] = datagram.finish(changed, header[3], header[4])
        elif kind == 'foreign':
            datagrams.insert(at, bytes(len(datagrams[at])))
        elif kind == 'other robot':
            datagrams.insert(at, others[second % len(others)])
        elif kind == 'cut':
            datagrams[at] = datagrams[at][:second % (len(datagrams[at]) + 1)]
    return datagrams


@settings(max_examples=100, deadline=None)
@given(sealed=st.booleans(), frames=st.lists(st.integers(0, 3), min_size=1, max_size=4), copies=st.integers(1, 2), trouble=TROUBLE,
       pause=st.sampled_from([0.0, 0.001, 0.02, 0.2]), moves=st.booleans())
def test_what_arrives_counts_the_same_however_it_is_grouped(sealed, frames, copies, trouble, pause, moves):
    sides = [connected(sealed, robots=2, patch_copies=copies) for _ in range(2)]
    now, address = 1.0, HOME
    for number in frames:
        now += 0.05
        if moves:
            address = ELSEWHERE if address == HOME else HOME
        arriving = []
        for _, (edge, other) in sides:
            for one in (edge, other):
                one.send_frame(frame_of(SMALL, number), now)
            arriving.append(troubled(edge.datagrams_to_send(now), other.datagrams_to_send(now), trouble))
        # What is random in a sealed session is its key; both sides are the same otherwise.
        for half in (slice(None, 9), slice(9, None)):
            (one_by_one, _), (at_once, _) = sides
            for data in arriving[0][half]:
                one_by_one.receive_datagram(data, address, now, now - 0.001)
            for run in arrays_of(arriving[1][half]):
                at_once.receive_run(run, address, now, now - 0.001)
            now += pause
            for bridge, _ in sides:
                bridge.handle_timer(now)
        assert told(one_by_one) == told(at_once)
        sent = [[(len(data), to) for data, to in bridge.datagrams_to_send(now)] for bridge, _ in sides]
        assert sent[0] == sent[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**18) | st.integers(2**16 - 60, 2**16), st.integers(1, 60), st.integers(44, 300), st.integers(0, 2**64 - 1))
def test_a_finished_run_is_what_its_datagrams_would_be(first, count, size, session):
    rows = np.random.default_rng(count).integers(0, 256, (count, size), np.uint8)
    runs.heads_of(rows)['magic'], runs.heads_of(rows)['version'] = datagram.MAGIC, datagram.VERSION
    runs.heads_of(rows)['type'] = datagram.TOKENS
    alone = [datagram.finish(bytearray(row), session, first + k) for k, row in enumerate(rows)]
    finished = runs.finish(rows.copy(), session, first)
    assert [row.tobytes() for row in finished] == alone
    assert runs.of_one_session(finished) == count
    finished[count // 2, size - 1] ^= 1
    sequences, bodies, refused = runs.open_run(finished)
    others = [k for k in range(count) if k != count // 2]
    assert sequences == [(first + k) % 2**32 for k in others] and (bodies == rows[others, HEADER.size:]).all() and refused == ['corrupt']

    sealers = [Sealer(bytes(32), bytes(32), EDGE_TO_BRIDGE) for _ in range(2)]
    sealed = sealers[0].finish_run(rows, session, first)
    assert [row.tobytes() for row in sealed] == [sealers[1].finish(row, session, first + k) for k, row in enumerate(rows)]
    with pytest.raises(ValueError, match='a sequence number is sealed once'):
        sealers[0].finish_run(rows, session, first + count - 1)
    opener = Sealer(bytes(32), bytes(32), BRIDGE_TO_EDGE)
    sequences, bodies, refused = opener.open_run(sealed)
    assert sequences == [(first + k) % 2**32 for k in range(count)] and (bodies == rows[:, HEADER.size:]).all() and not refused
    assert opener.open_run(sealed)[2] == ['duplicate'] * count and opener.forgeries == 0
    with pytest.raises(DatagramError, match='duplicate'):
        opener.open(datagram.parse(sealed[count // 2]))


def test_of_a_sealed_run_only_what_the_seal_fits_is_opened():
    rows = np.full((9, 100), datagram.TOKENS, np.uint8)
    sealed = Sealer(bytes(32), bytes(32), EDGE_TO_BRIDGE).finish_run(rows, SESSION, 7).copy()
    sealed[4, 60] ^= 1
    opener = Sealer(bytes(32), bytes(32), BRIDGE_TO_EDGE)
    sequences, bodies, refused = opener.open_run(sealed)
    assert sequences == [7, 8, 9, 10, 12, 13, 14, 15] and len(bodies) == 8 and refused == ['corrupt']
    with pytest.raises(DatagramError, match='corrupt'):
        opener.open(datagram.parse(sealed[4]))


@given(st.lists(st.lists(st.integers(0, 40) | st.integers(0, 4000), min_size=1, max_size=12), max_size=8), st.sampled_from([0, 2**32 - 30]))
def test_sequence_numbers_of_a_run_count_as_they_do_one_by_one(steps, start):
    """Numbers that mostly rise by little, and now and then far, or not at all."""
    at_once, one_by_one, at = SequenceTracker(), SequenceTracker(), start
    for parts in steps:
        sequences = []
        for step in parts:
            at += step
            sequences.append(at % 2**32)
        assert at_once.receive_run(sequences) == [one_by_one.receive(sequence) for sequence in sequences]
        assert vars(at_once) == vars(one_by_one)


@pytest.mark.parametrize('sealed', [False, True])
@pytest.mark.parametrize('parameters', [SMALL, PARAMETERS, replace(PARAMETERS, row_bytes=772, channels=768)])
def test_an_edge_sends_a_frame_in_runs_that_are_its_datagrams(sealed, parameters):
    bridge, (edge,) = connected(sealed, parameters)
    frame, sent = frame_of(parameters, 1), []
    assert edge.send_frame(frame, 2.0)
    while (run := edge.run_to_send(2.0)) is not None:
        if not isinstance(run, bytes):
            assert run.dtype == np.uint8 and run.shape[1] <= edge.config.max_datagram_bytes
            bridge.receive_run(run.copy(), HOME, 2.0)
            sent += [len(row) for row in run]
    expected = Packetiser(parameters, min_packets=8, max_datagram_bytes=1200 - 16 * sealed).packetise(frame)
    assert sent == [len(data) + 16 * sealed for data in expected]
    ready = [event.frame for event in iter(bridge.next_event, None) if hasattr(event, 'frame')]
    assert len(ready) == 1 and ready[0].complete and (ready[0].rows == frame.rows).all()


def test_a_frame_that_nobody_asked_for_is_sent_before_the_next_one():
    """As long as pacing lets it."""
    _, (edge,) = connected(False)
    for number in (1, 2):
        assert edge.send_frame(frame_of(SMALL, number), 2.0)
    sent = [datagram.parse_tokens(datagram.parse(data).body).frame_id for data in edge.datagrams_to_send(2.0)
            if datagram.parse(data).type == datagram.TOKENS]
    assert sorted(set(sent)) == [1, 2] and sent == sorted(sent) and edge.statistics.frames['cut'] == 0
