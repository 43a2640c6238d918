"""A directory or a bridge of the fleet's benchmark, in a process of its own. The bridge has no model and answers each frame at once, so
what is measured is the fleet. SIGTERM drains it."""

from __future__ import annotations

import argparse
import signal
import threading
import time

import numpy as np

from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.bridge.fleet_place import FleetPlace
from evitif.protocol.events import FrameReady
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.sealing.keys import read_robot_keys, read_secret
from evitif.protocol.sealing.tickets import FleetKey
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.parameters import StreamParameters
from evitif.transport import UdpLoop
from evitif_fleet.directory import DirectoryRuntime, DirectorySettings

HOST = '127.0.0.1'
PARAMETERS = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=50,
                              prefix_tokens=1, grid=(7, 7), channels=16, groups=1, row_bytes=20, classes=10)
LEAVE_S = 10.0


def answer_to(frame: ReceivedFrame, now: float) -> Answer:
    """An answer that says nothing."""
    return Answer(frame.frame_id, frame.capture_stamp_ns, (3, 1), (0.75, 0.25), 'split', 'omission', frame.packets_received,
                  frame.packets_expected, frame.bytes_received, int(frame.received.sum()), len(frame.received), frame.received,
                  frame.packet_error_rate, frame.first_arrival, frame.ready_at - frame.first_arrival, 0.0, 0.0, now - frame.first_arrival)


class Bridge:
    """One bridge; it answers after `tail_s`."""

    def __init__(self, number: int, port: int, directories: list[tuple[str, int]], folder: str, tail_s: float = 0.0, robots: int = 4096):
        key = FleetKey(read_secret(f'{folder}/fleet.key', 'fleet_key'))
        self.place = FleetPlace(number, key, int.from_bytes(np.random.default_rng().bytes(8), 'big'),
                                clock_ahead_s=time.time() - time.monotonic())
        self.place.set_directories(directories)
        self.endpoint = BridgeEndpoint(PARAMETERS, f'bridge {number}', BridgeConfig(max_sessions=robots),
                                       keys=read_robot_keys(f'{folder}/robots.key'), place=self.place)
        self.loop = UdpLoop(self.endpoint, bind=(HOST, port), on_event=self._handle)
        self._tail_s = tail_s

    def _handle(self, event: object) -> None:
        if isinstance(event, FrameReady):
            frame = event.frame
            if self._tail_s:
                threading.Timer(self._tail_s, self._answer, (frame,)).start()
            else:
                self._answer(frame)

    def _answer(self, frame: ReceivedFrame) -> None:
        self.loop.call(lambda now: self.endpoint.send_answer(frame.session_id, answer_to(frame, now), now))

    def drain(self) -> None:
        """Let the robots go."""
        self.loop.call(lambda now: setattr(self.place, 'told_to_drain', True))
        end = time.monotonic() + LEAVE_S
        while self.endpoint.sessions and time.monotonic() < end:
            time.sleep(0.02)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('--port', type=int, required=True)
    parser.add_argument('--number', type=int, help='of a bridge; without, it is the directory')
    parser.add_argument('--directory', type=int, help="the directory's port")
    parser.add_argument('--tail', type=float, default=0.0, help='seconds')
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if options.number is None:
        directory = DirectoryRuntime(DirectorySettings(f'{options.folder}/fleet.key', f'{options.folder}/robots.key', bind_host=HOST,
                                                       port=options.port, state=f'{options.folder}/state.json'))
        directory.start()
        print('ready', flush=True)
        ended.wait()
        directory.stop()
        return
    bridge = Bridge(options.number, options.port, [(HOST, options.directory)], options.folder, options.tail)
    bridge.loop.start()
    print('ready', flush=True)
    ended.wait()
    bridge.drain()
    bridge.loop.stop()


if __name__ == '__main__':
    main()
