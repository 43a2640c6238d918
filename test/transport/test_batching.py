"""Runs of datagrams and single ones bring the same; what refuses runs costs no datagram."""

import collections
import errno
import logging
import math
import select
import socket
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.transport import TransportError, UdpLoop, batching
from evitif.transport.addresses import open_udp_socket
from evitif.transport.batching import (
    LARGEST_DATAGRAM,
    LEAST_OF_RUN,
    MAX_RUN_BYTES,
    MAX_SEGMENTS,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    DatagramReceiver,
    DatagramSender,
    RunReceiver,
    RunSender,
    choose_calls,
    runs,
)

LOOPBACK = ('127.0.0.1', 0)
LOG = logging.getLogger(__name__)


def udp_socket():
    return open_udp_socket(socket.AF_INET, LOOPBACK, receive_buffer_bytes=4 << 20, send_buffer_bytes=4 << 20)


def system_knows_runs():
    with udp_socket() as probe:
        try:
            choose_calls(probe, True, LOG)
        except TransportError:
            return False
        return True


needs_runs = pytest.mark.skipif(not system_knows_runs(), reason='this system has no UDP_SEGMENT or no UDP_GRO')


class Socket:
    """A real socket that refuses what it is told to and counts its calls; `refusals`: method or option to errno."""

    def __init__(self, udp, **refusals):
        self.udp = udp
        self.refusals = refusals
        self.calls = collections.Counter()

    def __getattr__(self, name):
        method = getattr(self.udp, name)

        def call(*arguments):
            self.calls[name] += 1
            options = {(SOL_UDP, UDP_SEGMENT): 'UDP_SEGMENT', (SOL_UDP, UDP_GRO): 'UDP_GRO'}
            what = options.get(arguments[:2]) if name == 'setsockopt' else name
            if what in self.refusals:
                raise OSError(self.refusals[what], 'made by the test')
            return method(*arguments)
        return call


def unexpected(error, datagrams):
    raise AssertionError(f'{datagrams} datagrams were not sent: {error}')


def everything(receiver, expected):
    """What arrives until `expected` datagrams are there, and whether anything follows: datagrams, senders, runs."""
    room = memoryview(bytearray(LARGEST_DATAGRAM))
    datagrams, addresses, pieces = [], [], []
    while True:
        wait_s = 2.0 if len(datagrams) < expected else 0.0
        if not select.select([receiver.socket.fileno()], [], [], wait_s)[0]:
            return datagrams, addresses, pieces
        size, segment, address = receiver.receive(room)
        piece = [bytes(room[at:min(at + segment, size)]) for at in range(0, size, segment)] if size else [b'']
        datagrams += piece
        addresses += [address] * len(piece)
        pieces.append(len(piece))


def numbered(sizes):
    """Datagrams of these sizes, told apart by what is in them where there is room."""
    return [(b'%d ' % number * (size // 2 + 1))[:size] for number, size in enumerate(sizes)]


sizes_of_datagrams = st.lists(
    st.tuples(st.sampled_from([0, 1, 100, 1130, 1158, 1184, 20_000]), st.integers(1, 70)), max_size=6,
).map(lambda parts: [size for size, count in parts for _ in range(min(count, 1 + 200_000 // (size + 1)))])


@given(sizes_of_datagrams | st.lists(st.integers(0, 65_507), max_size=20))
def test_runs_keep_every_datagram_and_the_order_within_the_kernels_limits(sizes):
    datagrams = numbered(sizes)
    found = list(runs(datagrams))
    assert [datagram for run in found for datagram in run] == datagrams
    for run in found:
        assert 1 <= len(run) <= MAX_SEGMENTS and sum(map(len, run)) <= MAX_RUN_BYTES
        assert len({len(datagram) for datagram in run[:-1]}) <= 1 and len(run[-1]) <= len(run[0])
        assert len(run) == 1 or run[-1]


@given(st.integers(1, 1200), st.integers(1, 300), st.integers(0, 1200))
def test_datagrams_of_one_size_take_as_few_runs_as_there_can_be(size, count, last):
    sizes = [size] * count + [last] * (0 < last < size)
    per_run = min(MAX_SEGMENTS, MAX_RUN_BYTES // size)
    assert math.ceil(count / per_run) <= len(list(runs(numbered(sizes)))) <= math.ceil(len(sizes) / per_run)


@needs_runs
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(sizes_of_datagrams, st.integers(0, 1)), max_size=3), st.sampled_from([RunSender, DatagramSender]),
       st.sampled_from([RunReceiver, DatagramReceiver]))
def test_the_same_datagrams_arrive_in_the_same_order_however_they_are_sent_and_received(parts, sending, receiving):
    with udp_socket() as source, udp_socket() as first, udp_socket() as second:
        sender = RunSender(source, LOG) if sending is RunSender else DatagramSender(source)
        receivers = [choose_calls(opened, receiving is RunReceiver, LOG)[1] for opened in (first, second)]
        for sizes, to in parts:
            datagrams = numbered(sizes)
            address = receivers[to].socket.getsockname()
            assert sender.send(datagrams, address, unexpected) == (len(sizes), sum(sizes))
            # One part at a time, since the system may not grant a buffer for all of them.
            arrived, senders, _ = everything(receivers[to], len(datagrams))
            assert arrived == datagrams
            assert set(senders) <= {source.getsockname()}


@needs_runs
def test_a_frame_takes_one_call_each_way():
    with udp_socket() as source, udp_socket() as target:
        counting = Socket(source)
        _, receiver = choose_calls(target, True, LOG)
        assert RunSender(counting, LOG).send(numbered([1158] * 32 + [744]), target.getsockname(), unexpected) == (33, 37_800)
        assert counting.calls == {'sendmsg': 1}
        assert everything(receiver, 33)[2] == [33]


@needs_runs
def test_datagrams_of_mixed_sizes_come_apart_where_they_were_put_together():
    sizes = [1130, 1184, 1184, 1130, 1184, 0, 5, 5, 3, 5]
    with udp_socket() as source, udp_socket() as target:
        _, receiver = choose_calls(target, True, LOG)
        RunSender(source, LOG).send(numbered(sizes), target.getsockname(), unexpected)
        datagrams, _, pieces = everything(receiver, len(sizes))
    assert datagrams == numbered(sizes)
    assert pieces == [1, 3, 1, 1, 3, 1]


@pytest.mark.parametrize('number', [errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP])
def test_an_interface_that_refuses_runs_costs_no_datagram_and_is_asked_once(caplog, number):
    with udp_socket() as source, udp_socket() as target:
        refusing = Socket(source, sendmsg=number)
        sender = RunSender(refusing, LOG)
        datagrams = numbered([100] * 70 + [50, 200, 200])
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert sender.send(datagrams, target.getsockname(), unexpected) == (73, 7450)
                assert everything(DatagramReceiver(target), 73)[0] == datagrams
    assert refusing.calls == {'sendmsg': 1, 'sendto': 3 * 73}
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert errno.errorcode[number] in caplog.text


def test_datagrams_too_large_for_the_path_are_counted_each_and_do_not_end_batching(caplog):
    """Linux says EINVAL or EMSGSIZE to the run, EMSGSIZE to the single datagram."""
    failures = []
    with udp_socket() as source, udp_socket() as target:
        tight = Socket(source, sendmsg=errno.EINVAL, sendto=errno.EMSGSIZE)
        sender = RunSender(tight, LOG)
        assert sender.send([b'large'] * 3, target.getsockname(), lambda *failure: failures.append(failure)) == (0, 0)
        assert [(error.errno, count) for error, count in failures] == [(errno.EMSGSIZE, 1)] * 3
        tight.refusals.clear()
        sender.send([b'small'] * 3, target.getsockname(), unexpected)
        assert tight.calls == {'sendmsg': 2, 'sendto': 3}
    assert not caplog.records


@pytest.mark.parametrize('number', [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
def test_a_run_that_the_kernel_cannot_take_now_is_lost_and_counted_by_datagram(number):
    failures = []
    with udp_socket() as source, udp_socket() as target:
        full = Socket(source, sendmsg=number)
        sender = RunSender(full, LOG)
        sent = sender.send([b'a' * 10] * 5 + [b'b' * 20], target.getsockname(), lambda *failure: failures.append(failure))
        assert sent == (1, 20)
        assert [(error.errno, count) for error, count in failures] == [(number, 5)]
        assert everything(DatagramReceiver(target), 1)[0] == [b'b' * 20]


@pytest.mark.parametrize(('refusals', 'sending', 'receiving'), [
    ({'UDP_SEGMENT': errno.ENOPROTOOPT}, DatagramSender, RunReceiver),
    ({'UDP_GRO': errno.ENOPROTOOPT}, RunSender, DatagramReceiver),
    ({'UDP_SEGMENT': errno.EINVAL, 'UDP_GRO': errno.ENOPROTOOPT}, DatagramSender, DatagramReceiver),
])
@needs_runs
def test_a_kernel_without_an_option_goes_without_it_and_says_so(caplog, refusals, sending, receiving):
    with udp_socket() as opened, caplog.at_level(logging.INFO):
        udp = Socket(opened, **refusals)
        sender, receiver = choose_calls(udp, None, LOG)
        assert (type(sender), type(receiver)) == (sending, receiving)
        record, = caplog.records
        for option, number in refusals.items():
            assert f'no {option}: {errno.errorcode[number]}' in record.message
        with pytest.raises(TransportError, match='batching = True, but this system cannot'):
            choose_calls(udp, True, LOG)


def test_an_option_that_is_taken_and_has_no_effect_is_not_relied_on():
    with udp_socket() as opened:
        udp = Socket(opened)
        udp.getsockopt = lambda *_: 0
        assert type(choose_calls(udp, None, LOG)[0]) is DatagramSender


def test_other_systems_send_one_datagram_a_call(monkeypatch, caplog):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    with udp_socket() as opened, caplog.at_level(logging.INFO):
        sender, receiver = choose_calls(opened, None, LOG)
    assert (type(sender), type(receiver)) == (DatagramSender, DatagramReceiver)
    assert 'no UDP_SEGMENT: darwin has none' in caplog.text


def one_by_one(received):
    """The datagrams and senders of a batch."""
    datagrams = [(piece if isinstance(piece, memoryview) else row, address) for piece, address, *_ in received
                 for row in (piece if not isinstance(piece, memoryview) else [piece])]
    return [(bytes(data), address) for data, address in datagrams]


@pytest.mark.parametrize('family', [socket.AF_INET, pytest.param(socket.AF_INET6, marks=pytest.mark.skipif(
    not socket.has_ipv6, reason='no IPv6'))])
@pytest.mark.parametrize('calls', ['one a batch', 'one a run', 'one a datagram'])
def test_a_batch_has_what_waits_from_whoever_sent_it(monkeypatch, family, calls):
    """Sizes and senders in turn, runs and single datagrams, more than one batch of them, and the address as the socket module writes it."""
    if calls != 'one a batch':
        monkeypatch.setattr(batching.message_batch, 'available', lambda: False)
    host = ('127.0.0.1', 0) if family == socket.AF_INET else ('::1', 0, 0, 0)
    try:
        opened = [open_udp_socket(family, host, receive_buffer_bytes=4 << 20, send_buffer_bytes=4 << 20) for _ in range(3)]
    except TransportError:
        pytest.skip('no IPv6')
    target, *sources = opened
    try:
        _, receiver = choose_calls(target, None if calls != 'one a datagram' else False, LOG)
        receiver.ask_for_stamps()
        assert receiver.receive_batch(unexpected) == ([], False)
        expected = []
        parts = [(0, 1040, 20), (1, 1040, 20), (0, 1040, 3), (0, 60, 5), (0, 0, 2), (1, 300, 90), (0, 700, 1)]
        for k, (which, size, count) in enumerate(parts):
            sender = choose_calls(sources[which], None if k % 2 else False, LOG)[0]
            datagrams = numbered([size] * count)
            assert sender.send(datagrams, target.getsockname(), unexpected)[0] == count
            expected += [(data, sources[which].getsockname()) for data in datagrams]
        arrived, more = [], True
        while more:
            received, more = receiver.receive_batch(unexpected)
            arrived += one_by_one(received)
            assert all(math.isnan(at) or abs(at - time.time()) < 60 for _, _, at, _ in received)
        assert arrived == expected
    finally:
        for udp in opened:
            udp.close()


@pytest.mark.skipif(not batching.message_batch.available(), reason='this system has no recvmmsg')
def test_datagrams_that_came_apart_are_handed_over_together_from_a_size_on():
    with udp_socket() as source, udp_socket() as target:
        _, receiver = choose_calls(target, None, LOG)
        for size in (LEAST_OF_RUN, LEAST_OF_RUN - 1):
            for data in numbered([size] * 30):
                source.sendto(data, target.getsockname())
        received, _ = receiver.receive_batch(unexpected)
        assert [piece.data.shape for piece in received] == [(30, LEAST_OF_RUN)] + [(LEAST_OF_RUN - 1,)] * 30


def test_a_run_in_one_array_is_sent_as_its_rows_are():
    with udp_socket() as source, udp_socket() as target:
        array = np.arange(70 * 1200, dtype=np.uint32).astype(np.uint8).reshape(70, 1200)
        for sender in (RunSender(source, LOG), DatagramSender(source)):
            assert sender.send(array, target.getsockname(), unexpected) == (70, 84_000)
            assert everything(DatagramReceiver(target), 70)[0] == [row.tobytes() for row in array]
        failures = []
        full = RunSender(Socket(source, sendmsg=errno.ENOBUFS), LOG)
        assert full.send(array, target.getsockname(), lambda *failure: failures.append(failure)) == (0, 0)
        assert [count for _, count in failures] == [54, 16]
        assert RunSender(Socket(source, sendmsg=errno.EIO), LOG).send(array, target.getsockname(), unexpected) == (70, 84_000)
        assert everything(DatagramReceiver(target), 70)[0] == [row.tobytes() for row in array]


# --- in the loop ---

@pytest.fixture(params=[None, False], ids=['batching', 'one call a datagram'])
def mode(request):
    return request.param


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 7, 100, 1184]), st.integers(0, 2)), max_size=150), st.booleans(), st.booleans())
def test_each_robot_gets_its_datagrams_in_order_whatever_is_sent_between_them(echo_protocol, traffic, sends, receives):
    """Of a bridge to three robots; `None` is runs where the system knows them."""
    events = [[], [], []]
    robots = [UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=own.append, batching=None if receives else False)
              for own in events]
    bridge = UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=print, batching=None if sends else False)
    for loop in (*robots, bridge):
        loop.start()
    try:
        expected = [[], [], []]

        def say(now):
            for (_, to), data in zip(traffic, numbered([size for size, _ in traffic])):
                bridge.protocol.say(data, robots[to].local_address)
                expected[to].append(data)
        bridge.call(say)
        for robot, own, sent in zip(robots, events, expected):
            deadline = time.monotonic() + 5.0
            while len(own) < len(sent):
                assert time.monotonic() < deadline, 'not all of it arrived in time'
                time.sleep(0.001)
            assert own == [('received', data) for data in sent]
            counted = robot.statistics()
            assert (counted.received, counted.bytes_received) == (len(sent), sum(map(len, sent)))
            assert not counted.receive_errors and counted.foreign == 0
        counted = bridge.statistics()
        assert (counted.sent, counted.bytes_sent) == (len(traffic), sum(size for size, _ in traffic))
        assert not counted.send_errors
    finally:
        for loop in (*robots, bridge):
            loop.stop()


def test_foreign_runs_are_dropped_and_counted_by_datagram(running, echo_protocol, wait_until, mode):
    with udp_socket() as bridge, udp_socket() as stranger:
        events = []
        edge = running(UdpLoop(echo_protocol(addressed=False), remote=bridge.getsockname(), on_event=events.append, batching=mode))
        address = ('127.0.0.1', edge.local_address[1])
        choose_calls(stranger, None, LOG)[0].send([b'not ours'] * 20 + [b''], address, unexpected)
        choose_calls(bridge, None, LOG)[0].send([b'ours'] * 20 + [b''], address, unexpected)
        wait_until(lambda: len(events) == 21)
        assert events == [('received', b'ours')] * 20 + [('received', b'')]
        counted = edge.statistics()
        assert (counted.foreign, counted.received, counted.bytes_received) == (21, 21, 80)


def test_more_than_a_batch_of_large_runs_is_received(running, echo_protocol, wait_until, mode):
    """Each run fills a quarter of the loop's room."""
    events = []
    bridge = running(UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=events.append, batching=mode))
    if bridge.granted_receive_buffer_bytes < 2 << 20:
        pytest.skip('the system grants too small a receive buffer')
    with udp_socket() as source:
        sender, _ = choose_calls(source, None, LOG)
        datagrams = numbered([1200] * 540)
        with bridge._lock:      # it waits while all of this arrives
            assert sender.send(datagrams, bridge.local_address, unexpected) == (540, 540 * 1200)
        wait_until(lambda: len(events) == 540)
    assert events == [('received', data) for data in datagrams]
    assert bridge.statistics().kernel_dropped in (0, None)


def test_a_refusal_while_running_costs_no_datagram(running, echo_protocol, wait_until, monkeypatch):
    monkeypatch.setattr('evitif.transport.udp_socket.open_udp_socket', lambda *given, **named: Socket(
        open_udp_socket(*given, **named), sendmsg=errno.EIO))
    events = []
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=LOOPBACK, on_event=print))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=bridge.local_address, on_event=events.append))
    edge.call(lambda now: [edge.protocol.say(b'%02d' % number) for number in range(33)])
    wait_until(lambda: len(events) == 33)
    assert events == [('received', b'%02d' % number) for number in range(33)]
    counted = edge.statistics()
    assert counted.sent == counted.received == 33 and not counted.send_errors


def test_batching_that_was_demanded_and_is_refused_fails_the_start(echo_protocol, monkeypatch):
    monkeypatch.setattr(batching, '_refusal', lambda udp, option: 'made by the test')
    loop = UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=print, batching=True)
    with pytest.raises(TransportError, match='made by the test'):
        loop.start()
    assert not loop.running
    loop.stop()
