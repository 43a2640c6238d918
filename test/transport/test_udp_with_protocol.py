"""The real edge and bridge state machines over real sockets with the link simulator between; no model."""

import collections
import time

import numpy as np
import pytest

from evitif.protocol import Answer, BridgeEndpoint, EdgeConfig, EdgeConnection, StreamParameters, TokenFrame
from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, FrameReady, LinkLost
from evitif.transport import Impairment, LinkSimulator, UdpLoop

LOOPBACK = ('127.0.0.1', 0)
PARAMETERS = StreamParameters(
    model='vit_tiny_patch16_224', fingerprint='ab' * 32, cut=3, quantisation='int8', image_size=(224, 224), tokens=197,
    prefix_tokens=1, grid=(14, 14), channels=192, groups=1, row_bytes=196, classes=1000,
)


def answer_to(frame, now):
    return Answer(
        frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(frame.frame_id % 1000,),
        scores=(1.0,), strategy='split', recovery='omission', packets_received=frame.packets_received,
        packets_expected=frame.packets_expected, bytes_received=frame.bytes_received,
        tokens_received=int(frame.received.sum()), tokens_expected=PARAMETERS.tokens, received=frame.received,
        packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
        wait_s=frame.ready_at - frame.first_arrival, recovery_s=0.0, tail_s=0.0, hold_s=now - frame.first_arrival,
    )


class Bridge:
    """Answers each frame as soon as it is ready, within the callback."""

    def __init__(self, port=0):
        self.frames = []
        self.endpoint = BridgeEndpoint(PARAMETERS, 'bridge')
        self.loop = UdpLoop(self.endpoint, bind=('127.0.0.1', port), on_event=self.on_event)

    def on_event(self, event):
        if isinstance(event, FrameReady):
            frame = event.frame
            self.frames.append(frame)
            self.loop.call(lambda now: self.endpoint.send_answer(frame.session_id, answer_to(frame, now), now))

    def start(self):
        self.loop.start()

    def stop(self):
        self.loop.stop()


class Edge:
    """Sends frames and keeps the events by kind."""

    def __init__(self, remote):
        self.events = collections.defaultdict(list)
        # 100 frames of 51 kB a second at once: how fast a path is found out to be is tested in simulated time.
        self.connection = EdgeConnection(PARAMETERS, 'robot', EdgeConfig(congestion_control=False))
        self.loop = UdpLoop(self.connection, remote=remote, on_event=self.on_event)

    def on_event(self, event):
        self.events[type(event)].append(event)

    def start(self):
        self.loop.start()
        self.loop.call(self.connection.connect)

    def stop(self):
        self.loop.stop()

    def send(self, frame_id):
        rows = np.full((PARAMETERS.units, PARAMETERS.row_bytes), frame_id % 255 + 1, np.uint8)
        frame = TokenFrame(frame_id, 10**9 + frame_id, 'camera', rows)
        return self.loop.call(lambda now: self.connection.send_frame(frame, now))

    def fates(self):
        return len(self.events[AnswerArrived]) + len(self.events[FrameExpired])


@pytest.mark.parametrize(('impairment', 'least_answered'), [
    (Impairment(), 60),
    (Impairment(loss=0.6), 58),
    (Impairment(loss=0.3, burst_length=3, delay_s=0.005, jitter_s=0.005, reorder=0.1, duplicate=0.1, corrupt=0.05), 58),
])
def test_frames_are_answered_over_a_lossy_link(running, wait_until, impairment, least_answered):
    bridge = running(Bridge())
    link = running(LinkSimulator(
        LOOPBACK, bridge.loop.local_address, uplink=impairment, downlink=impairment, seed=11))
    edge = running(Edge(link.local_address))
    wait_until(lambda: edge.connection.connected)
    for frame_id in range(60):
        assert edge.send(frame_id)
        time.sleep(0.01)
    wait_until(lambda: edge.fates() == 60)

    answers = {event.answer.frame_id: event.answer for event in edge.events[AnswerArrived]}
    assert len(answers) >= least_answered
    for frame_id, answer in answers.items():
        assert answer.class_ids == (frame_id,) and answer.capture_stamp_ns == 10**9 + frame_id
    for frame in bridge.frames:
        assert (frame.rows[frame.received] == frame.frame_id % 255 + 1).all() and not frame.rows[~frame.received].any()
    expected = sum(frame.packets_expected for frame in bridge.frames)
    share = sum(frame.packets_received for frame in bridge.frames) / expected
    lost = link.counters('uplink').lost / link.counters('uplink').received
    assert share == pytest.approx((1 - impairment.loss) * (1 - impairment.corrupt), abs=0.08)
    assert lost == pytest.approx(impairment.loss, abs=0.08)


def test_a_bridge_that_is_started_again_answers_without_touching_the_edge(running, wait_until):
    bridge = running(Bridge())
    edge = running(Edge(bridge.loop.local_address))
    wait_until(lambda: edge.connection.connected)
    edge.send(1)
    wait_until(lambda: len(edge.events[AnswerArrived]) == 1)

    port = bridge.loop.local_address[1]
    bridge.endpoint.close = lambda now: None        # as if killed: it does not say goodbye
    bridge.stop()
    wait_until(lambda: edge.events[LinkLost])
    running(Bridge(port))
    began = time.monotonic()
    wait_until(lambda: len(edge.events[Connected]) == 2)
    assert time.monotonic() - began < 2.0
    assert edge.send(2)
    wait_until(lambda: len(edge.events[AnswerArrived]) == 2)
