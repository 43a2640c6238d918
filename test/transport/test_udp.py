"""`UdpLoop` over real sockets on loopback, with an echoing protocol object."""

import collections
import errno
import logging
import socket
import sys
import threading
import time

import pytest

from evitif.transport import TransportError, UdpLoop, message_batch, remote_name
from evitif.transport.addresses import open_udp_socket
from evitif.transport.arrival_clock import ArrivalClock
from evitif.transport.batching import DatagramReceiver, RunReceiver

LOOPBACK = ('127.0.0.1', 0)


@pytest.fixture(params=[None, False], ids=['batching', 'one call a datagram'])
def pair(running, echo_protocol, request):
    """An echoing bridge and an edge that talks to it: (edge loop, edge's events, bridge loop, bridge's events)."""
    bridge_events, edge_events = [], []
    bridge = running(UdpLoop(
        echo_protocol(addressed=True, echo=True), bind=LOOPBACK, on_event=bridge_events.append, batching=request.param))
    edge = running(UdpLoop(
        echo_protocol(addressed=False), remote=bridge.local_address, on_event=edge_events.append, batching=request.param))
    return edge, edge_events, bridge, bridge_events


@pytest.fixture
def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(LOOPBACK)
        yield taken.getsockname()[1]


def ipv6_works():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(('::1', 0))
        return True
    except OSError:
        return False


def system_stamps():
    with open_udp_socket(socket.AF_INET, LOOPBACK, receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16) as probe:
        return DatagramReceiver(probe).ask_for_stamps()


STAMPS = system_stamps()


def test_datagrams_go_both_ways_and_events_keep_their_order(pair, wait_until):
    edge, edge_events, bridge, bridge_events = pair
    expected = [('received', b'%d' % number) for number in range(300)]
    for number in range(300):
        edge.call(lambda now, number=number: edge.protocol.say(b'%d' % number))
    wait_until(lambda: len(edge_events) == len(bridge_events) == 300)
    assert bridge_events == expected
    assert edge_events == expected
    sent, echoed = edge.statistics(), bridge.statistics()
    assert sent.sent == echoed.received == echoed.sent == sent.received == 300
    assert sent.bytes_sent == echoed.bytes_received == sum(len(data) for _, data in expected)
    assert not sent.send_errors and not sent.receive_errors and sent.kernel_dropped in (0, None)


def test_call_sends_before_it_returns_and_gives_back_the_result(running, echo_protocol):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(LOOPBACK)
        receiver.setblocking(False)
        edge = running(UdpLoop(echo_protocol(addressed=False), remote=receiver.getsockname(), on_event=print))
        before = time.monotonic()
        now = edge.call(lambda now: edge.protocol.say(b'at once') or now)
        assert before <= now <= time.monotonic()
        assert receiver.recv(100) == b'at once'


def test_what_a_failing_call_made_to_send_is_sent_and_its_exception_reaches_the_caller(pair, wait_until):
    edge, edge_events, _, _ = pair

    def fail(now):
        edge.protocol.say(b'said before failing')
        raise KeyError('fault')
    with pytest.raises(KeyError, match='fault'):
        edge.call(fail)
    wait_until(lambda: edge_events == [('received', b'said before failing')])


def test_a_timer_set_by_call_fires_on_time_although_the_loop_was_waiting_without_one(pair, wait_until):
    edge, edge_events, _, _ = pair
    for _ in range(5):
        edge_events.clear()
        edge.call(lambda now: setattr(edge.protocol, 'timer', now + 0.02))
        (_, fired_at, due), = wait_until(lambda: list(edge_events))
        assert due <= fired_at < due + 0.05     # a loaded machine; the loop itself is within a millisecond


def test_a_timer_that_stays_in_the_past_does_not_spin(running, echo_protocol):
    protocol = echo_protocol(addressed=False)
    calls = []
    protocol.get_timer = lambda: 0.0
    protocol.handle_timer = calls.append
    running(UdpLoop(protocol, remote=('127.0.0.1', 9), on_event=print))
    time.sleep(0.1)
    assert 1 <= len(calls) <= 150


def test_a_due_timer_waits_for_what_had_arrived_before_it(running, echo_protocol, wait_until, monkeypatch):
    monkeypatch.setattr('evitif.transport.udp.TIMER_PATIENCE_S', 10.0)
    busy, events = threading.Event(), []

    def on_event(event):
        events.append(event)
        if event == ('received', b'wait'):
            busy.wait(5)
    bridge = running(UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=on_event))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b'wait', bridge.local_address)
        wait_until(lambda: events)
        for _ in range(150):        # more than two batches
            sender.sendto(b'arrived before', bridge.local_address)
        bridge.call(lambda now: setattr(bridge.protocol, 'timer', now))
        busy.set()
        wait_until(lambda: len(events) == 152)
    assert [event[0] for event in events] == ['received'] * 151 + ['timer']


def test_time_never_goes_backwards_for_the_protocol(pair, wait_until):
    edge, edge_events, _, _ = pair
    for number in range(500):
        edge.call(lambda now, number=number: (edge.protocol.times.append(now), edge.protocol.say(b'%d' % number)))
    wait_until(lambda: len(edge_events) == 500)

    def overtake(now):      # a datagram that arrived before, handled after this call
        edge.protocol.times.append(now)
        edge._handle(edge._udp, [(b'late', ('127.0.0.1', 9), now - 1.0, 0)], now - 1.0)
    edge.call(overtake)
    assert edge.protocol.times == sorted(edge.protocol.times)


@pytest.mark.skipif(not STAMPS, reason='this system does not say when a datagram arrived')
@pytest.mark.parametrize('host', ['127.0.0.1', pytest.param('::1', marks=pytest.mark.skipif(not ipv6_works(), reason='no IPv6'))])
@pytest.mark.parametrize('batching', [None, False], ids=['batching', 'one call a datagram'])
def test_the_protocol_is_told_when_datagrams_arrived_although_the_loop_was_busy(running, echo_protocol, wait_until, host, batching):
    events = []

    def on_event(event):
        if event == ('received', b'busy'):
            time.sleep(0.2)
        events.append(event)
    bridge = running(UdpLoop(echo_protocol(addressed=True), bind=(host, 0), on_event=on_event, batching=batching))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=bridge.local_address, on_event=print, batching=batching))
    sent = []
    for message in (b'first', b'busy', b'1', b'2', b'3', b'4'):
        sent.append(edge.call(lambda now, message=message: edge.protocol.say(message) or now))
        time.sleep(0.02)
    wait_until(lambda: len(events) == 6)
    told, arrived = bridge.protocol.times, bridge.protocol.arrivals
    assert told == sorted(told) and arrived == sorted(arrived)
    assert all(at <= now for at, now in zip(arrived, told))
    assert min(now - at for at, now in zip(sent[2:], told[2:])) > 0.08          # of 0.2 s, 20 ms a datagram and a busy machine
    assert max(at - now for now, at in zip(sent[2:], arrived[2:])) < 0.05
    assert min(at - now for now, at in zip(sent, arrived)) > -0.001


def test_stamps_that_are_missing_or_nonsense_leave_the_time_of_reading():
    arrivals = ArrivalClock(time.monotonic)
    assert arrivals.arrived_at(float('nan'), 5.0) == 5.0
    assert arrivals.arrived_at(7.0, 6.0) == 6.0          # not after it was read
    assert arrivals.arrived_at(2.0, 7.0) == 6.0          # not backwards
    assert arrivals.arrived_at(6.5, 7.0) == 6.5


def test_a_system_clock_that_is_set_costs_one_batch_its_stamps(monkeypatch):
    arrivals = ArrivalClock(lambda: 50.0)
    system = [1000.0, 1000.0, 4600.0, 4600.0]
    monkeypatch.setattr('evitif.transport.arrival_clock.time.time', lambda: system.pop(0))
    ahead = [arrivals.offset() for _ in range(4)]
    assert ahead[1] == -950.0 and ahead[3] == -4550.0
    assert ahead[0] != ahead[0] and ahead[2] != ahead[2]


def test_a_callback_may_call_and_stop(running, echo_protocol, wait_until, caplog):
    seen = []

    def on_event(event):
        seen.append((event, threading.current_thread().name))
        if event == ('received', b'ping'):
            bridge.call(lambda now: bridge.protocol.events.append('made by a call within a callback'))
        if event == ('received', b'stop'):
            bridge.stop()
    bridge = running(UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=on_event))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=bridge.local_address, on_event=print))
    edge.call(lambda now: edge.protocol.say(b'ping'))
    wait_until(lambda: len(seen) == 2)
    edge.call(lambda now: edge.protocol.say(b'stop'))
    wait_until(lambda: seen[-1][0] == ('closed',))
    assert [event for event, _ in seen] == [
        ('received', b'ping'), 'made by a call within a callback', ('received', b'stop'), ('closed',),
    ]
    assert len({name for _, name in seen}) == 1
    assert not bridge.running
    assert not caplog.records


def test_an_event_made_by_a_call_is_handed_out_in_the_loops_thread(pair, wait_until):
    edge = pair[0]
    threads = []
    time.sleep(0.02)        # the loop is waiting, without a timer
    edge._on_event = lambda event: threads.append(threading.current_thread())
    edge.call(lambda now: edge.protocol.events.append('made by a call'))
    wait_until(lambda: threads)
    assert threads == [edge._thread]


def test_faults_of_callback_and_protocol_are_logged_and_end_nothing(running, echo_protocol, wait_until, caplog):
    seen = []

    def on_event(event):
        seen.append(event)
        if len(seen) == 1:
            raise RuntimeError('a fault of the callback')
    bridge = running(UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=on_event))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=bridge.local_address, on_event=print))
    with caplog.at_level(logging.ERROR, 'evitif.transport.udp'):
        for data in (b'one', b'fail', b'two'):
            edge.call(lambda now, data=data: edge.protocol.say(data))
        wait_until(lambda: len(seen) == 2)
    assert seen == [('received', b'one'), ('received', b'two')]
    assert 'a fault of the callback' in caplog.text and 'a fault of the protocol' in caplog.text


def test_many_threads_may_call(pair, wait_until):
    edge, edge_events, _, _ = pair

    def talk(name):
        for number in range(50):
            edge.call(lambda now, number=number: edge.protocol.say(b'%d %d' % (name, number)))
    threads = [threading.Thread(target=talk, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    wait_until(lambda: len(edge_events) == 400)
    assert collections.Counter(data.split()[0] for _, data in edge_events) == {b'%d' % name: 50 for name in range(8)}
    for name in range(8):       # each thread's own order is kept
        own = [int(data.split()[1]) for _, data in edge_events if data.split()[0] == b'%d' % name]
        assert own == list(range(50))


def test_a_peer_that_is_down_harms_nothing_and_is_heard_when_it_comes_up(running, echo_protocol, wait_until):
    events = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(LOOPBACK)
        port = probe.getsockname()[1]
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=('127.0.0.1', port), on_event=events.append))
    for _ in range(20):
        edge.call(lambda now: edge.protocol.say(b'nobody hears'))
    assert edge.running and events == []
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=('127.0.0.1', port), on_event=print))
    edge.call(lambda now: edge.protocol.say(b'somebody hears'))
    wait_until(lambda: events == [('received', b'somebody hears')])

    bridge.stop()
    for _ in range(20):
        edge.call(lambda now: edge.protocol.say(b'nobody hears'))
    bridge.start()
    edge.call(lambda now: edge.protocol.say(b'again'))
    wait_until(lambda: events[-1] == ('received', b'again'))


@pytest.mark.parametrize('number', [
    errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE,
    errno.EPERM,
])
def test_errors_of_sending_and_receiving_are_counted_and_end_nothing(pair, wait_until, caplog, number):
    edge, edge_events, _, _ = pair
    udp, name = edge._udp.socket, errno.errorcode[number]
    receive = 'recvmsg_into' if isinstance(edge._udp._receiver, RunReceiver) or STAMPS else 'recvfrom_into'
    whole = edge._udp._receiver.receive_batch

    class FailingSocket:
        def __init__(self):
            self.failures = {'sendto': 3, receive: 0 if name == 'EAGAIN' else 2}

        def __getattr__(self, attribute):
            return getattr(udp, attribute)

        def _maybe_fail(self, which, *arguments):
            if self.failures[which]:
                self.failures[which] -= 1
                raise OSError(number, 'made by the test')
            return getattr(udp, which)(*arguments)

        def sendto(self, *arguments):
            return self._maybe_fail('sendto', *arguments)

        def recvfrom_into(self, *arguments):
            return self._maybe_fail('recvfrom_into', *arguments)

        def recvmsg_into(self, *arguments):
            return self._maybe_fail('recvmsg_into', *arguments)

    def receive_batch(failed):      # of a receiver whose call is not one of the socket's
        if failing.failures[receive]:
            failing.failures[receive] -= 1
            failed(OSError(number, 'made by the test'), 1)
            return [], True
        return whole(failed)
    edge._udp._sender.socket = edge._udp._receiver.socket = failing = FailingSocket()
    if isinstance(edge._udp._receiver, RunReceiver) and message_batch.available():
        edge._udp._receiver.receive_batch = receive_batch
    with caplog.at_level(logging.WARNING):
        for count in range(6):
            edge.call(lambda now, count=count: edge.protocol.say(b'%d' % count))
        wait_until(lambda: edge_events and edge_events[-1] == ('received', b'5'))
    statistics = edge.statistics()
    assert statistics.send_errors == {name: 3} and statistics.sent == 3
    assert statistics.receive_errors.get(name, 0) == (0 if name == 'EAGAIN' else 2)
    assert 1 <= sum('logged once' in record.message for record in caplog.records) <= 2


def test_a_datagram_too_large_for_udp_is_counted_and_said(pair, caplog):
    edge, _, _, _ = pair
    edge.call(lambda now: edge.protocol.say(bytes(70_000)))
    assert edge.statistics().send_errors == {'EMSGSIZE': 1}
    assert 'larger than the path takes whole' in caplog.text and 'smaller max_datagram_bytes' in caplog.text


def test_the_edge_drops_what_does_not_come_from_the_bridge(pair, wait_until):
    edge, edge_events, _, _ = pair
    edge.call(lambda now: edge.protocol.say(b'ours'))
    wait_until(lambda: edge_events)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b'not ours', ('127.0.0.1', edge.local_address[1]))
        wait_until(lambda: edge.statistics().foreign == 1)
    assert edge_events == [('received', b'ours')]


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the option is known for Linux only')
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='elsewhere 127.0.0.2 is no address of this host')
def test_a_bridge_with_several_addresses_may_answer_from_another_one(echo_protocol, running, wait_until):
    events = []
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=('0.0.0.0', 0), on_event=lambda event: None))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=('127.0.0.2', bridge.local_address[1]), on_event=events.append))
    edge.call(lambda now: edge.protocol.say(b'hello'))      # from 127.0.0.1, which is also what the way back begins at
    wait_until(lambda: ('received', b'hello') in events)
    assert edge.statistics().foreign == 0


def test_datagrams_are_never_fragmented(pair):
    edge, _, bridge, _ = pair
    for loop in (edge, bridge):
        assert loop._udp.socket.getsockopt(socket.IPPROTO_IP, 10) == 2      # IP_MTU_DISCOVER is IP_PMTUDISC_DO


@pytest.mark.skipif(not ipv6_works(), reason='this host has no IPv6 loopback')
@pytest.mark.parametrize(('listen', 'target'), [('::1', '::1'), ('::', '::1'), ('::', '127.0.0.1'), ('', 'localhost')])
def test_ipv6_and_dual_stack(running, echo_protocol, wait_until, listen, target):
    events = []
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=(listen, 0), on_event=print))
    remote = (target, bridge.local_address[1])
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=remote, on_event=events.append))
    edge.call(lambda now: edge.protocol.say(b'hello'))
    wait_until(lambda: events == [('received', b'hello')])


def test_a_port_in_use_is_refused_naming_the_address(echo_protocol, free_port):
    loop = UdpLoop(echo_protocol(addressed=True), bind=('127.0.0.1', free_port), on_event=print)
    with pytest.raises(TransportError, match=f'127.0.0.1:{free_port} is already in use') as error:
        loop.start()
    assert error.value.errno == errno.EADDRINUSE
    assert not loop.running
    loop.stop()


@pytest.mark.parametrize(('address', 'expected'), [
    (('', 7600), 'no host to send to'),
    (('127.0.0.1', 0), 'port 0 is no port to send to'),
    (('0.0.0.0', 7600), r'0.0.0.0:7600 is no address to send to'),
    (('a' * 70 + '.invalid', 7600), 'does not resolve'),
])
def test_a_remote_that_cannot_be_sent_to_is_refused_by_start(echo_protocol, address, expected):
    with pytest.raises(TransportError, match=expected):
        UdpLoop(echo_protocol(addressed=False), remote=address, on_event=print).start()


def names(monkeypatch, known):
    """Names that stand for other addresses as the test says; none where there is none."""
    asked = []

    def getaddrinfo(host, port, *more, **options):
        asked.append(host)
        if host not in known:
            return real(host, port, *more, **options)
        if not known[host]:
            raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')
        return [entry for address in known[host].split() for entry in real(address, port, *more, **options)]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return asked


@pytest.mark.parametrize(('first', 'then'), [('', '127.0.0.1'), ('127.0.0.2', '127.0.0.1'), ('127.0.0.2', '::1'), ('::1', '127.0.0.1')])
def test_a_name_that_stands_for_another_address_by_now_is_followed(echo_protocol, running, wait_until, monkeypatch, caplog, first, then):
    known, events = {'base-station': first}, []
    asked = names(monkeypatch, known)
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=(then, 0), on_event=lambda event: None))
    port = bridge.local_address[1]
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=('base-station', port), on_event=events.append))
    edge.call(lambda now: edge.protocol.say(b'lost'))
    assert ('does not resolve: Temporary failure' in edge.remote_problem) == (not first)
    known['base-station'] = then

    def said():
        edge.call(lambda now: edge.protocol.say(b'hello'))
        return ('received', b'hello') in events
    wait_until(said, timeout=20.0)
    assert edge.remote_problem == ''
    count = len(asked)
    for number in range(100):           # what answers is not asked for
        edge.call(lambda now, number=number: edge.protocol.say(b'again %d' % number))
        wait_until(lambda number=number: ('received', b'again %d' % number) in events)
    assert len(asked) <= count + 1


@pytest.mark.parametrize('stands_for', ['127.0.0.2 127.0.0.1', '127.0.0.2 127.0.0.3 ::1'])
def test_of_a_name_with_several_addresses_one_that_answers_is_found(
        echo_protocol, running, wait_until, monkeypatch, caplog, stands_for):
    caplog.set_level(logging.INFO)
    events, answers = [], stands_for.split()[-1]
    names(monkeypatch, {'base-station': stands_for})
    monkeypatch.setattr(remote_name, 'SILENT_S', 0.1)
    monkeypatch.setattr(remote_name, 'AGAIN_S', 0.2)
    bridge = running(UdpLoop(echo_protocol(addressed=True, echo=True), bind=(answers, 0), on_event=lambda event: None))
    edge = running(UdpLoop(echo_protocol(addressed=False), remote=('base-station', bridge.local_address[1]), on_event=events.append))

    def said():
        edge.call(lambda now: edge.protocol.say(b'hello'))
        return ('received', b'hello') in events
    wait_until(said)
    count = len([record for record in caplog.records if ' is at ' in record.message])
    assert count == len(stands_for.split()) - 1


def test_the_addresses_of_a_silent_host_take_turns_and_every_second_one_is_the_last_that_answered(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    names(monkeypatch, {'base-station': '127.0.0.1 127.0.0.2 127.0.0.3'})
    found = threading.Event()
    name, now = remote_name.RemoteName(('base-station', 7600), found.set, logging.getLogger('test')), 0.0

    def turns(count):
        nonlocal now
        for _ in range(count):
            now = name.ask_at
            name.ask_again(now)
            assert found.wait(5.0)
            found.clear()
            yield name.take(now)[1][0]
    assert name.resolve(now)[1] == ('127.0.0.1', 7600)
    assert ' '.join(turns(4)) == '127.0.0.2 127.0.0.3 127.0.0.1 127.0.0.2'
    name.heard(('127.0.0.2', 7600), now)
    assert ' '.join(turns(2)) == '127.0.0.2 127.0.0.1' and now == pytest.approx(13.0, abs=3.0)
    assert ' '.join(turns(4)) == '127.0.0.2 127.0.0.3 127.0.0.2 127.0.0.1'
    assert len([record for record in caplog.records if ' is at ' in record.message]) <= 4


@pytest.mark.parametrize(('address', 'expected'), [
    (('127.0.0.1', 65536), 'port 65536 is out of range'),
    (('127.0.0.1', -1), 'port -1 is out of range'),
    (('127.0.0.1', '7600'), "port '7600' is out of range"),
    ((None, 7600), 'expected a host name'),
    ('127.0.0.1', 'expected a host name|out of range'),
    (5, r'expected \(host, port\)'),
])
def test_an_address_of_the_wrong_form_is_refused_at_once(echo_protocol, address, expected):
    for side in ('remote', 'bind'):
        with pytest.raises(TransportError, match=expected):
            UdpLoop(echo_protocol(addressed=False), **{side: address}, on_event=print)


def test_other_addresses_that_cannot_be_bound_are_refused(echo_protocol):
    with pytest.raises(TransportError, match=r'192.0.2.1:7600 is no address of this host'):
        UdpLoop(echo_protocol(addressed=True), bind=('192.0.2.1', 7600), on_event=print).start()
    with pytest.raises(TransportError, match='expected remote='):
        UdpLoop(echo_protocol(addressed=True), on_event=print)


def test_stop_says_goodbye_hands_out_the_last_event_and_joins(pair, wait_until):
    edge, edge_events, _, bridge_events = pair
    thread = edge._thread
    edge.stop()
    assert not thread.is_alive() and not edge.running
    assert edge.protocol.closed_at is not None
    assert edge_events == [('closed',)]
    wait_until(lambda: bridge_events == [('received', b'bye')])
    edge.stop()
    for use in (lambda: edge.call(print), edge.statistics, lambda: edge.local_address):
        with pytest.raises(TransportError, match='not running'):
            use()


def test_it_may_be_started_again_but_not_twice(pair, wait_until):
    edge, edge_events, _, _ = pair
    with pytest.raises(TransportError, match='started already'):
        edge.start()
    edge.stop()
    edge.start()
    edge.call(lambda now: edge.protocol.say(b'back'))
    wait_until(lambda: edge_events[-1] == ('received', b'back'))


def test_a_receive_buffer_smaller_than_asked_for_is_reported(running, echo_protocol, caplog):
    with caplog.at_level(logging.WARNING):
        loop = running(UdpLoop(
            echo_protocol(addressed=True), bind=LOOPBACK, on_event=print, receive_buffer_bytes=1 << 30
        ))
    if loop.granted_receive_buffer_bytes < 1 << 30:
        assert f'granted {loop.granted_receive_buffer_bytes}' in caplog.text
    else:
        assert caplog.text == ''
    modest = running(UdpLoop(echo_protocol(addressed=True), bind=LOOPBACK, on_event=print, receive_buffer_bytes=65536))
    assert modest.granted_receive_buffer_bytes == 65536
