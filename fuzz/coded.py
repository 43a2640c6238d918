"""Coded frames from an edge to its bridge: whatever is lost, damaged, repeated or answered late, both know the same of the bridge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evitif.pipeline.coded_choice import CodedChoice
from evitif.pipeline.coded_edge import CodedEdge
from evitif.pipeline.coded_states import CodedStates
from evitif.pipeline.coded_table import CodedTable
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.coded_frame import CodedFrame, coded_datagrams, tokens_of
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.rate.statistics import DROP_KINDS
from evitif.protocol.wire import datagram
from evitif.protocol.wire.coded import parse_coded
from evitif.protocol.wire.datagram import DatagramError
from fuzz.parsers import PARAMETERS, entropy_code
from fuzz.stream import Stream

CODED = replace(PARAMETERS, tokens=7, grid=(3, 2), channels=8, entropy_code='ef' * 32)
TABLE = CodedTable({'4': 0.0, '10': 0.01}, {'4': 60.0, '10': 20.0}, ((0.0, 0.0), (1.0, 0.5)))


def send_coded(data: bytes) -> None:
    """Frames over a link that loses, repeats and changes datagrams. The first bytes say how much the scene moves and how much is lost."""
    stream, code, session = Stream(data), entropy_code(), 1
    edge, bridge = CodedEdge(code, CODED, CodedChoice(TABLE, 90.0, 0.002), 150, 0), CodedStates(code, CODED, 2)
    scene, answers, now = np.zeros((7, 8), np.float32), [], 0.0
    for frame_id in range(12):
        if not stream:
            break
        kind = stream.number()
        scene[kind % 7] += stream.number() / 16 - 8
        coded = edge.encode(scene, frame_id, UplinkState(session_id=session, packet_error_rate=(kind >> 4) / 20, name_bytes=3))
        layout, reassembler, now = coded_datagrams(CodedFrame(frame_id, frame_id, 'cam', coded), CODED, 1200), Reassembler(CODED), now + 0.1
        for index, size in enumerate(layout.sizes):
            body, fate = bytes(layout.datagrams[index, datagram.HEADER.size:size]), stream.number()
            if fate % 4 == 1:
                continue
            if fate % 16 == 2:          # a side that sends what it should not: not a damaged datagram, which the checksum finds
                at = stream.number() % len(body)
                body = body[:at] + bytes([stream.number()]) + body[at + 1:]
                code_is_known = False
            else:
                code_is_known = True
            for _ in range(1 + (fate % 8 == 3)):
                try:
                    dropped = reassembler.receive_coded(parse_coded(body), len(body), now)
                except DatagramError as error:
                    assert error.kind in DROP_KINDS
                else:
                    assert dropped is None or dropped in DROP_KINDS
            if not code_is_known:
                return _read(reassembler, bridge, session, now)
        for received in _frames(reassembler, now):
            tokens, had = bridge.decode(session, frame_id, received.coded)
            expected = np.zeros(7, bool)
            for part in received.coded.parts:
                expected[tokens_of(part, CODED)] = True
            assert (had == expected).all() and (had == received.received).all() and np.isfinite(tokens).all()
            answers.append((session, frame_id, had))
        if answers and stream.number() % 3:
            edge.acknowledge(*answers[stream.number() % len(answers)])
        if kind == 255:
            session, bridge = session + 1, CodedStates(code, CODED, 2)
        known = edge._reference(session)  # noqa: SLF001
        if known is not None:
            state = bridge._states[session][known.frame_id]  # noqa: SLF001
            assert (state.known == known.state.known).all() and (state.levels == known.state.levels).all()
    return None


def _frames(reassembler: Reassembler, now: float) -> list:
    reassembler.handle_timer(now + 1.0)
    frame = reassembler.next_frame()
    return [] if frame is None else [frame]


def _read(reassembler: Reassembler, bridge: CodedStates, session: int, now: float) -> None:
    """What such a side sent is read, or counted as lost."""
    for frame in _frames(reassembler, now):
        tokens, had = bridge.decode(session, frame.frame_id, frame.coded)
        assert tokens.shape == (7, 8) and np.isfinite(tokens).all() and had.shape == (7,)


TARGETS = {'coded-frames': send_coded}
