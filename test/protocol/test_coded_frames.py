"""Frames of entropy-coded tokens on the wire: cut by bytes, each part with a range of the patches, put together by what arrives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.frames.coded_frame import CodedFrame, coded_datagrams, cut_by_bytes, patches_of, payload_room
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.wire import datagram
from evitif.protocol.wire.coded import CodedPart, CodedTokens, parse_coded
from evitif.protocol.wire.datagram import DatagramError
from evitif.vocabulary import Quantisation

from .simulated_link import SMALL, Impairment, Simulation

PARAMETERS = replace(SMALL, entropy_code='ef' * 32)
PATCHES = 49


def coded_frame(frame_id: int = 5, reference: int | None = 3, parts: tuple[tuple[int, int], ...] = ((0, 20), (20, 29))) -> CodedFrame:
    """A frame whose payloads say which part they are of."""
    return CodedFrame(frame_id, 1000 + frame_id, 'camera', CodedTokens(
        7, reference, tuple(CodedPart(first, count, bytes([first, count]) * (1 + count)) for first, count in parts)))


def bodies_of(frame: CodedFrame, parameters=PARAMETERS, room: int = 1200):
    layout = coded_datagrams(frame, parameters, room)
    return [parse_coded(datagram.parse(datagram.finish(layout.datagrams[index, :size].copy().data, 1, index)).body)
            for index, size in enumerate(layout.sizes)]


def ranks_of(part: CodedPart, patches: int) -> np.ndarray:
    """As `patches_of`, where patches are numbered by rank."""
    chosen = np.unpackbits(np.frombuffer(part.chosen, np.uint8), count=part.count) if part.chosen else np.ones(part.count)
    return (part.first + np.flatnonzero(chosen)) % patches


@given(st.lists(st.tuples(st.floats(0.0, 40.0), st.integers(0, 5)), min_size=1, max_size=200), st.integers(1, 40))
def test_each_patch_is_in_as_many_parts_as_it_has_copies(patches, packets):
    sizes, copies = (np.array(part) for part in zip(*patches, strict=True))
    parts, covered = cut_by_bytes(sizes, copies, packets), np.zeros(len(sizes), int)
    for part in parts:
        assert 0 <= part.first < len(sizes) and 1 <= part.count <= len(sizes) and len(part.chosen) in (0, -(-part.count // 8))
        ranks = ranks_of(part, len(sizes))
        assert len(ranks)
        covered[ranks] += 1
    assert len(parts) <= packets and (covered == np.minimum(copies, packets)).all()


def test_copies_travel_far_apart_in_parts_of_nearly_equal_bytes():
    generator = np.random.default_rng(3)
    sizes, copies = generator.uniform(5, 15, 196), generator.integers(1, 5, 196)
    parts = cut_by_bytes(sizes, copies, 12)
    where = [[index for index, part in enumerate(parts) if rank in ranks_of(part, 196)] for rank in range(196)]
    assert len(parts) == 12
    for rank, places in enumerate(where):
        assert len(places) == copies[rank]
        assert all(after - before >= 12 // copies[rank] for before, after in zip(places, places[1:]))
    loads = [sizes[ranks_of(part, 196)].sum() for part in parts]
    assert max(loads) < 1.3 * np.mean(loads)


def test_patches_that_travel_once_are_ranges_without_a_bitmap():
    parts = cut_by_bytes(np.full(196, 10.0), np.ones(196, int), 6)
    assert all(part.chosen == b'' for part in parts) and sum(part.count for part in parts) == 196
    assert [part.first for part in parts] == np.cumsum([0, *(part.count for part in parts[:-1])]).tolist()


def test_what_a_datagram_says_is_what_was_sent():
    frame = coded_frame()
    for index, body in enumerate(bodies_of(frame)):
        assert body[:5] == (5, index, 2, 1005, 7)
        assert (body.reference, body.source_frame, body.part) == (3, b'camera', frame.tokens.parts[index])


def test_a_part_with_some_of_its_ranks_says_which():
    chosen = np.packbits([1, 0, 0, 1, 0, 0, 0, 1, 1, 0]).tobytes()
    part = CodedPart(45, 10, b'some bytes', chosen)
    frame = CodedFrame(5, 1005, 'camera', CodedTokens(7, 3, (part, CodedPart(0, 49, b'all'))))
    body, _ = bodies_of(frame)
    assert body.part == part
    assert [*patches_of(body.part, (7, 7))] == [patches_of(CodedPart(0, 49, b''), (7, 7))[rank] for rank in (45, 48, 3, 4)]
    assembler = Reassembler(PARAMETERS)
    assert assembler.receive_coded(body, 100, 1.0) is None and assembler.next_frame() is None
    assembler.handle_timer(2.0)
    received = assembler.next_frame()
    assert sorted(np.flatnonzero(received.received)) == [0, *sorted(1 + patches_of(part, (7, 7)))]
    with pytest.raises(ValueError, match='a bitmap of 3 bytes .* expected .* none or 2 bytes of bitmap'):
        bodies_of(CodedFrame(5, 1005, 'camera', CodedTokens(7, 3, (part._replace(chosen=chosen + b'x'),))))


def test_frame_ids_wrap_and_a_reference_that_is_too_far_back_is_refused():
    assert bodies_of(coded_frame(1, 2**32 - 2))[0].reference == 2**32 - 2
    with pytest.raises(ValueError, match='frame 300 refers to frame 3; expected one of the 255 before it'):
        bodies_of(coded_frame(300, 3))


def test_a_part_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='takes 112 bytes; expected at most 100'):
        bodies_of(coded_frame(), room=100)
    assert len(bodies_of(coded_frame(), room=112)) == 2
    assert payload_room(112, len('camera')) == max(len(part.payload) for part in coded_frame().tokens.parts)


def test_a_padded_frame_has_datagrams_of_one_size_and_says_the_same():
    frame = coded_frame()
    layout = coded_datagrams(frame, PARAMETERS, 548, padded=True)
    assert layout.sizes == [548, 548] and layout.run(0, 9).shape == (2, 548)
    body = parse_coded(datagram.parse(datagram.finish(layout.datagrams[1].copy().data, 1, 1)).body)
    assert body.part == frame.tokens.parts[1]


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data):
    try:
        body = parse_coded(data)
    except DatagramError as error:
        assert error.kind in ('truncated', 'malformed')
    else:
        assert body.packet_index < body.packet_count and body.part.count


def test_what_arrives_is_put_together_and_says_which_patches_it_has():
    frame, assembler = coded_frame(parts=((0, 20), (20, 20), (40, 9))), Reassembler(PARAMETERS)
    for index in (2, 0):
        assert assembler.receive_coded(bodies_of(frame)[index], 100, 1.0) is None
    assembler.handle_timer(2.0)
    received = assembler.next_frame()
    assert received.quantisation == Quantisation.CODED and not received.complete and received.packets_received == 2
    expected = np.concatenate([[0], 1 + patches_of(CodedPart(40, 9, b''), (7, 7)), 1 + patches_of(CodedPart(0, 20, b''), (7, 7))])
    assert sorted(np.flatnonzero(received.received)) == sorted(expected)
    assert received.coded.parts == (frame.tokens.parts[2], frame.tokens.parts[0])
    assert (received.coded.step, received.coded.reference) == (7, 3)


def test_a_frame_is_complete_once_every_patch_has_come_in_whichever_copy():
    parts = ((0, 25), (25, 24), (12, 25), (37, 24))
    assembler, bodies = Reassembler(PARAMETERS), bodies_of(coded_frame(parts=parts))
    assert assembler.receive_coded(bodies[0], 100, 1.0) is None and assembler.next_frame() is None
    assert assembler.receive_coded(bodies[2], 100, 1.0) is None and assembler.next_frame() is None
    assert assembler.receive_coded(bodies[3], 100, 1.0) is None
    assert assembler.next_frame().complete


@pytest.mark.parametrize('change, kind', [
    ({'step': 8}, 'inconsistent'), ({'reference': 2}, 'inconsistent'), ({'packet_count': 3}, 'inconsistent'),
    ({'part': CodedPart(49, 1, b'x')}, 'inconsistent'), ({'part': CodedPart(0, 50, b'x')}, 'inconsistent'), ({}, 'duplicate')])
def test_a_packet_that_contradicts_its_frame_is_counted_and_not_used(change, kind):
    assembler, body = Reassembler(PARAMETERS), bodies_of(coded_frame())[0]
    assert assembler.receive_coded(body, 100, 1.0) is None
    assert assembler.receive_coded(body._replace(**change), 100, 1.0) == kind


def test_a_stream_without_an_entropy_code_takes_no_coded_frame():
    assert Reassembler(SMALL).receive_coded(bodies_of(coded_frame())[0], 100, 1.0) == 'inconsistent'


def test_what_a_frame_may_hold_is_bounded():
    assembler, kept = Reassembler(PARAMETERS), 0
    for index in range(PATCHES - 1):      # one new patch each, in parts as large as a datagram may be
        body = bodies_of(coded_frame(parts=tuple((k, 1) for k in range(PATCHES))), room=1 << 16)[index]
        kept += assembler.receive_coded(body._replace(part=CodedPart(index, 1, bytes(60_000))), 60_000, 1.0) is None
    assert 60_000 * kept <= 4 * PARAMETERS.tokens * PARAMETERS.channels or kept == 0


def test_a_part_that_brings_nothing_new_is_not_kept():
    assembler, bodies = Reassembler(PARAMETERS), bodies_of(coded_frame(parts=((0, 20), (5, 10), (20, 28))))
    for body in bodies:
        assert assembler.receive_coded(body, 100, 1.0) is None
    frame = assembler.next_frame()
    assert len(frame.coded.parts) == 2 and frame.packets_received == 3


@pytest.mark.parametrize('loss', [0.0, 0.3])
def test_coded_frames_cross_a_link_and_are_answered(loss):
    simulation = Simulation(seed=1, uplink=Impairment(loss=loss), downlink=Impairment(loss=loss))
    simulation.add_bridge(PARAMETERS)
    edge = simulation.add_edge(PARAMETERS)
    simulation.run(1.0)
    frames = [coded_frame(number, None, parts=tuple((7 * k, 7) for k in range(7))) for number in range(20)]

    def send(frame):
        edge.send_frame(frame, simulation.now)

    for number, frame in enumerate(frames):
        simulation.at(simulation.now + number / 10, lambda frame=frame: send(frame))
    simulation.run(3.0)
    assert len(simulation.received) >= 19
    for received in simulation.received:
        sent = frames[received.frame_id]
        assert set(received.coded.parts) <= set(sent.tokens.parts) and (loss or received.complete)
    assert edge.statistics.frames['answered'] >= 19
    assert edge.uplink.session_id == edge.session_id
