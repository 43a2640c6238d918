"""A robot that sends frames of nothing in particular, and a bridge that answers each at once: the real link and sockets, without a model.

Each is a process (`processes`) in a network namespace; times are the machine's monotonic ones, which all of its processes share.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time

import numpy as np

from benchmarks.link.processes import serve
from evitif.protocol import BridgeEndpoint, EdgeConnection, StreamParameters, TokenFrame
from evitif.protocol.events import AnswerArrived, FrameReady
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.transport import UdpLoop

# 33 datagrams of 1,200 bytes a frame.
PARAMETERS = StreamParameters(model='none', fingerprint='ab' * 32, cut=3, quantisation='int8', image_size=(224, 224), tokens=197,
                              prefix_tokens=1, grid=(14, 14), channels=192, groups=1, row_bytes=196, classes=10)


def answer_to(frame: ReceivedFrame, now: float) -> Answer:
    """An answer that says what arrived."""
    return Answer(frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(1,), scores=(1.0,), strategy='split',
                  recovery='omission', packets_received=frame.packets_received, packets_expected=frame.packets_expected,
                  bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()), tokens_expected=len(frame.received),
                  received=frame.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
                  wait_s=frame.ready_at - frame.first_arrival, recovery_s=0.0, tail_s=0.0, hold_s=now - frame.first_arrival)


class Bridge:
    """:param settings: `bind`: host and port"""

    def __init__(self, settings: dict):
        self._endpoint = BridgeEndpoint(PARAMETERS, 'bridge')
        self._loop = UdpLoop(self._endpoint, bind=tuple(settings['bind']), on_event=self._on_event)
        self._loop.start()

    def _on_event(self, event: object) -> None:
        if isinstance(event, FrameReady):
            frame = event.frame
            self._loop.call(lambda now: self._endpoint.send_answer(frame.session_id, answer_to(frame, now), now))


class Robot:
    """:param settings: `remote`: host and port; `rate`: frames a second"""

    def __init__(self, settings: dict):
        self._said = _Said()
        log = logging.getLogger('robot')
        log.addHandler(self._said)
        log.setLevel(logging.INFO)
        self._answers: list[tuple[float, float]] = []
        self._edge = EdgeConnection(PARAMETERS, 'robot')
        self._loop = UdpLoop(self._edge, remote=tuple(settings['remote']), on_event=self._on_event, log=log)
        self._loop.start()
        self._loop.call(self._edge.connect)
        self._rate = settings['rate']
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        rows = np.ones((PARAMETERS.units, PARAMETERS.row_bytes), np.uint8)
        began = time.monotonic()
        for number in range(1 << 31):
            time.sleep(max(0.0, began + number / self._rate - time.monotonic()))
            self._loop.call(lambda now, number=number: self._edge.send_frame(TokenFrame(number, number, 'camera', rows), now))

    def _on_event(self, event: object) -> None:
        if isinstance(event, AnswerArrived):
            self._answers.append((time.monotonic(), event.round_trip_s))
        else:
            self._said.lines.append((time.monotonic(), type(event).__name__))

    def answers(self) -> dict:
        """When the answers since the last call came and how long after their frames; events and log; state and rate."""
        answers, self._answers = self._answers, []
        lines, self._said.lines = self._said.lines, []
        uplink = self._edge.uplink
        return {'answers': answers, 'said': [line for line in lines if line[1] not in ('FrameExpired', 'FrameOverdue')],
                'state': str(self._edge.state),
                'problem': self._loop.remote_problem, 'sending': str(uplink.state), 'allowed_mbit_s': uplink.allowed_bit_s / 1e6,
                'datagram_bytes': uplink.datagram_bytes}


class _Said(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((time.monotonic(), record.getMessage()))


def main() -> int:
    """Be the side that the settings name."""
    settings = json.loads(sys.argv[1])
    if settings['side'] == 'robot':
        serve({'answers': Robot(settings).answers})
    else:
        kept = Bridge(settings)
        serve({'ready': lambda: {'sealed': kept is None}})
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
