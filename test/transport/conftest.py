"""What the transport's tests share: an echoing protocol object without I/O, and waiting without sleeping blindly."""

import collections
import time

import pytest


class EchoProtocol:
    """Sends what `say` is told, echoes if asked to, and makes an event of each datagram and timer."""

    def __init__(self, *, addressed: bool, echo: bool = False):
        self.addressed = addressed
        self.echo = echo
        self.to_send = []
        self.events = collections.deque()
        self.timer = None
        self.times, self.arrivals = [], []
        self.closed_at = None

    def receive_datagram(self, data, *rest):
        self.times.append(rest[-2])
        self.arrivals.append(rest[-1])
        data = bytes(data)      # a view of the loop's buffer, which the next datagrams overwrite
        if data == b'fail':
            raise RuntimeError('a fault of the protocol')
        self.events.append(('received', data))
        if self.echo:
            self.to_send.append((data, rest[0]) if self.addressed else data)

    def say(self, data, address=None):
        self.to_send.append((data, address) if self.addressed else data)

    def datagrams_to_send(self, now):
        pending, self.to_send = self.to_send, []
        return pending

    def get_timer(self):
        return self.timer

    def handle_timer(self, now):
        self.times.append(now)
        self.events.append(('timer', now, self.timer))
        self.timer = None

    def next_event(self):
        return self.events.popleft() if self.events else None

    def close(self, now):
        self.closed_at = now
        self.events.append(('closed',))
        if not self.addressed:
            self.say(b'bye')


@pytest.fixture
def wait_until():
    """Poll a condition until it holds; fails after `timeout` seconds."""
    def wait(condition, timeout=5.0):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, 'the condition did not come true in time'
            time.sleep(0.001)
        return value
    return wait


@pytest.fixture
def running():
    """Start loops and simulators, and stop them after the test."""
    started = []

    def start(thing):
        thing.start()
        started.append(thing)
        return thing
    yield start
    for thing in reversed(started):
        thing.stop()


@pytest.fixture(scope='session')
def echo_protocol():
    return EchoProtocol
