"""Frames of which only some tokens are sent: what was sent arrives, what was not is not waited for."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.events import AnswerArrived
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import EDGE_TO_BRIDGE, Sealer
from evitif.protocol.wire import datagram

from .simulated_link import PARAMETERS, SMALL, Simulation, frame_of, rows_of

HOME = ('10.0.0.1', 4000)


def parameters_of(grid, prefix, groups, row_bytes):
    return replace(SMALL, grid=grid, prefix_tokens=prefix, tokens=prefix + grid[0] * grid[1], channels=groups * 4, groups=groups,
                   row_bytes=row_bytes)


def bodies_of(datagrams):
    return [datagram.parse_tokens(datagram.parse(data).body) for data in datagrams]


def units_of(sent, groups):
    return {int(token) * groups + group for token in sent for group in range(groups)}


layouts = st.fixed_dictionaries({
    'grid': st.tuples(st.integers(1, 8), st.integers(1, 8)), 'prefix': st.integers(0, 4), 'groups': st.integers(1, 3),
    'row_bytes': st.integers(1, 120)})


@settings(max_examples=150, deadline=None)
@given(layout=layouts, seed=st.integers(0, 10**6), copies=st.integers(1, 6), size=st.integers(256, 1400), min_packets=st.integers(1, 40),
       loss=st.floats(0, 0.9), sealed=st.booleans())
def test_what_arrives_of_a_subset_is_what_was_sent_whatever_is_lost(layout, seed, copies, size, min_packets, loss, sealed):
    parameters, random = parameters_of(**layout), Random(seed)
    sent = np.array(random.sample(range(parameters.tokens), random.randint(1, parameters.tokens)))
    frame = TokenFrame(7, 8, 'camera', rows_of(parameters, seed), sent=sent)
    packetiser = Packetiser(parameters, max_datagram_bytes=size, min_packets=min_packets, patch_copies=copies)
    keys = bytes(32), bytes([1]) * 32
    edge, bridge = Sealer(*keys, EDGE_TO_BRIDGE), Sealer(*keys[::-1], 1 - EDGE_TO_BRIDGE)
    datagrams = packetiser.packetise(frame, 3, 0, edge.finish if sealed else datagram.finish)
    assert max(map(len, datagrams)) <= size + sealed * datagram.SEAL_BYTES
    received = [bridge.open(datagram.parse(data)) if sealed else datagram.parse(data) for data in datagrams]
    bodies = [datagram.parse_tokens(item.body) for item in received]
    expected = units_of(sent, parameters.groups)
    assert {int(unit) for body in bodies for unit in body.units} == expected
    assert {body.sent_units for body in bodies} == {len(expected)}

    kept = [body for body in bodies if random.random() >= loss]
    arriving = kept + [body for body in kept if random.random() < 0.3]
    random.shuffle(arriving)
    reassembler = Reassembler(parameters)
    kinds = [reassembler.receive(body, 100, 1.0 + 1e-6 * index) for index, body in enumerate(arriving)]
    assert set(kinds) <= {None, 'duplicate', 'late'}
    reassembler.handle_timer(2.0)
    got = reassembler.next_frame()
    arrived = {int(unit) for body in kept for unit in body.units}
    if got is None:
        assert not kept
    else:
        assert got.complete == (arrived == expected)
        assert got.units_sent == len(expected)
        assert set(np.flatnonzero(got.received)) <= arrived
        assert (got.rows[got.received] == frame.rows[got.received]).all() and not got.rows[~got.received].any()


def test_all_tokens_named_take_the_bytes_of_all_tokens_unnamed():
    packetiser = Packetiser(PARAMETERS, patch_copies=2)
    frame = frame_of(PARAMETERS, 1)
    named = packetiser.packetise(replace(frame, sent=np.arange(PARAMETERS.tokens)))
    whole = packetiser.packetise(frame)
    assert sum(map(len, named)) == sum(map(len, whole)) and len(named) == len(whole)


def test_the_most_important_tokens_travel_in_more_packets():
    chosen = 1 + np.random.default_rng(0).permutation(196)[:80]
    sent = np.concatenate([[0], chosen])
    counts = np.zeros(197, int)
    for body in bodies_of(Packetiser(PARAMETERS, patch_copies=3).packetise(replace(frame_of(PARAMETERS, 1), sent=sent))):
        counts[body.units] += 1
    assert set(counts[chosen[:20]]) == {4} and set(counts[chosen[20:60]]) == {3} and set(counts[chosen[60:]]) == {2}
    assert counts[0] >= 24


def test_a_packet_of_a_subset_is_a_scatter_of_it():
    rank = np.argsort(scattered_order((14, 14)))
    sent = 1 + np.random.default_rng(1).permutation(196)[:98]
    for body in bodies_of(Packetiser(PARAMETERS).packetise(replace(frame_of(PARAMETERS, 1), sent=sent))):
        ranks = np.sort(rank[body.units[body.units > 0] - 1])
        assert ranks[-1] - ranks[0] < 40        # neighbours by key, which are far apart in the image


def test_whole_and_partly_sent_frames_alternate_without_leaking_into_one_another():
    packetiser = Packetiser(SMALL)
    some, others = np.array([0, 5, 9, 30]), np.array([0, 7, 8, 31])
    first = packetiser.packetise(replace(frame_of(SMALL, 1), sent=some))
    whole = packetiser.packetise(frame_of(SMALL, 1))
    packetiser.packetise(replace(frame_of(SMALL, 2), sent=others))
    assert packetiser.packetise(replace(frame_of(SMALL, 1), sent=some)) == first
    assert packetiser.packetise(frame_of(SMALL, 1)) == whole


@pytest.mark.parametrize('sent', [np.array([], int), np.array([0, 0]), np.array([50]), np.array([-1]), np.array([0.5]), [0, 1],
                                  np.array([[1]])])
def test_impossible_choices_are_refused(sent):
    with pytest.raises(ValueError, match='expected an array of 1 to 50 different tokens, 0 to 49'):
        Packetiser(SMALL).packetise(replace(frame_of(SMALL, 1), sent=sent))


def test_packets_that_disagree_on_how_much_was_sent_or_name_units_that_do_not_exist_are_dropped():
    bodies = bodies_of(Packetiser(SMALL).packetise(replace(frame_of(SMALL, 1), sent=np.arange(20))))
    reassembler = Reassembler(SMALL)
    assert reassembler.receive(bodies[0], 100, 0.0) is None
    assert reassembler.receive(bodies[1]._replace(sent_units=21), 100, 0.0) == 'inconsistent'
    assert reassembler.receive(bodies[1]._replace(sent_units=51), 100, 0.0) == 'inconsistent'
    assert reassembler.receive(bodies[1]._replace(units=np.full_like(bodies[1].units, 50)), 100, 0.0) == 'malformed'


@pytest.mark.parametrize('key', [None, Key(bytes(range(32)))])
def test_partly_sent_frames_are_answered_without_waiting_for_the_rest(key):
    run = Simulation(seed=1)
    run.add_bridge(keys=None if key is None else RobotKeys(default=key))
    edge = run.add_edge(key=key)
    run.run(1.0)
    sent = np.arange(0, PARAMETERS.tokens, 3)
    for number in range(5):
        assert run.send(edge, replace(frame_of(PARAMETERS, number), sent=sent))
        run.run(0.1)
    answers = run.of(AnswerArrived)
    assert [event.sent.tokens for event in answers] == [len(sent)] * 5
    for event, frame in zip(answers, run.received, strict=True):
        assert frame.complete and frame.ready_at - frame.first_arrival < 0.001
        assert np.array_equal(np.flatnonzero(event.answer.received), sent) and event.answer.tokens_expected == PARAMETERS.tokens

