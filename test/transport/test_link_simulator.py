"""The relay over real sockets on loopback, and its command line."""

import errno
import signal
import socket
import subprocess
import sys
import time
import unittest.mock

import pytest

from evitif.transport import Impairment, LinkSimulator, TransportError
from evitif_cli.main import main

LOOPBACK = ('127.0.0.1', 0)


def udp_socket(timeout=5.0):
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind(LOOPBACK)
    opened.settimeout(timeout)
    return opened


@pytest.fixture
def bridge():
    with udp_socket() as opened:
        yield opened


@pytest.fixture
def robot():
    with udp_socket() as opened:
        yield opened


@pytest.fixture
def relay(running, bridge):
    """Start a link simulator in front of the bridge's socket."""
    return lambda **arguments: running(LinkSimulator(LOOPBACK, bridge.getsockname(), **arguments))


def received(opened, quiet_s=0.2):
    """Every datagram that arrives until none did for `quiet_s` seconds."""
    opened.settimeout(quiet_s)
    result = []
    try:
        while True:
            result.append(opened.recv(65535))
    except TimeoutError:
        return result


def test_stopping_amid_traffic_is_clean(bridge, robot):
    # The thread may see that it is to end before it is woken for it, because a datagram woke it first.
    simulator = LinkSimulator(LOOPBACK, bridge.getsockname())
    simulator.start()
    send = simulator._waker.send

    def woken_late(data):
        robot.sendto(b'first', simulator.local_address_before)
        time.sleep(0.2)
        return send(data)
    simulator.local_address_before = simulator.local_address
    simulator._waker = unittest.mock.Mock(wraps=simulator._waker, send=woken_late)
    simulator.stop()
    simulator.stop()


def test_a_perfect_link_relays_both_ways(relay, bridge, robot):
    simulator = relay()
    robot.sendto(b'up', simulator.local_address)
    data, seen_as = bridge.recvfrom(100)
    assert data == b'up' and seen_as != robot.getsockname()
    bridge.sendto(b'down', seen_as)
    data, answered_from = robot.recvfrom(100)
    assert data == b'down' and answered_from == simulator.local_address
    assert simulator.counters('uplink').delivered == simulator.counters('downlink').delivered == 1


def test_robots_are_kept_apart(relay, bridge):
    simulator = relay()
    robots = [udp_socket() for _ in range(5)]
    try:
        for number, robot in enumerate(robots):
            robot.sendto(b'%d' % number, simulator.local_address)
        senders = set()
        for _ in robots:
            data, address = bridge.recvfrom(100)
            senders.add(address)
            bridge.sendto(b'for ' + data, address)
        assert len(senders) == simulator.robots == 5
        assert [robot.recv(100) for robot in robots] == [b'for %d' % number for number in range(5)]
    finally:
        for robot in robots:
            robot.close()


def test_the_same_seed_loses_the_same_datagrams_in_each_direction_by_itself(relay, bridge, robot):
    heard = []
    for seed in (1, 1, 2):
        simulator = relay(uplink=Impairment(loss=0.5), seed=seed)
        for number in range(200):
            robot.sendto(b'%d' % number, simulator.local_address)
        heard.append(received(bridge))
        counters = simulator.counters('uplink')
        assert counters.received == 200 and counters.delivered == len(heard[-1]) == 200 - counters.lost
    assert heard[0] == heard[1] != heard[2]
    assert 60 <= len(heard[0]) <= 140


def test_the_downlink_has_its_own_impairment_and_both_change_while_it_runs(relay, bridge, robot):
    simulator = relay(downlink=Impairment(loss=1.0))
    robot.sendto(b'hello', simulator.local_address)
    _, address = bridge.recvfrom(100)
    for _ in range(20):
        bridge.sendto(b'lost', address)
    assert received(robot) == []
    simulator.set_impairment('downlink', Impairment(duplicate=1.0))
    simulator.set_impairment('uplink', Impairment(loss=1.0))
    assert simulator.impairment('downlink').duplicate == 1.0
    bridge.sendto(b'heard', address)
    robot.sendto(b'lost', simulator.local_address)
    assert received(robot) == [b'heard', b'heard']
    assert received(bridge) == []
    counters = simulator.counters('downlink')
    assert (counters.received, counters.lost, counters.duplicated, counters.delivered) == (21, 20, 1, 2)
    for use in (lambda: simulator.set_impairment('sideways', Impairment()), lambda: simulator.counters('sideways')):
        with pytest.raises(ValueError, match="'sideways': expected one of uplink, downlink"):
            use()


def test_delay_is_kept_and_does_not_hold_up_what_needs_none(relay, bridge, robot):
    simulator = relay(uplink=Impairment(delay_s=0.1))
    start = time.monotonic()
    robot.sendto(b'late', simulator.local_address)
    time.sleep(0.01)
    simulator.set_impairment('uplink', Impairment(reorder=1.0, reorder_delay_s=0.0))
    assert bridge.recv(100) == b'late'
    assert 0.1 <= time.monotonic() - start < 0.3


def test_throughput_is_thousands_of_datagrams_a_second_and_nothing_is_lost(relay, bridge, robot):
    simulator = relay()
    payload, window, count = bytes(1200), 40, 4000      # a window, so that no receive buffer can overflow
    start = time.monotonic()
    for _ in range(count // window):
        for _ in range(window):
            robot.sendto(payload, simulator.local_address)
        for _ in range(window):
            assert len(bridge.recv(2000)) == 1200
    assert simulator.counters('uplink').delivered == count
    assert count / (time.monotonic() - start) > 2000     # a loaded machine; tens of thousands on an idle one


def test_a_bridge_that_is_down_harms_nothing(running, robot, wait_until):
    with udp_socket() as probe:
        address = probe.getsockname()
    simulator = running(LinkSimulator(LOOPBACK, address))
    for _ in range(20):
        robot.sendto(b'nobody hears', simulator.local_address)
    wait_until(lambda: simulator.counters('uplink').received == 20)
    assert set(simulator.errors) <= {'ECONNREFUSED'}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bridge:
        bridge.bind(address)
        bridge.settimeout(5)
        robot.sendto(b'somebody hears', simulator.local_address)
        assert bridge.recv(100) == b'somebody hears'


def test_an_earlier_datagrams_refusal_does_not_take_the_next_one(bridge):
    simulator = LinkSimulator(LOOPBACK, bridge.getsockname())
    sent = []

    class RefusedOnce:
        def send(self, data):
            if not sent:
                sent.append('refused')
                raise ConnectionRefusedError(errno.ECONNREFUSED, 'about an earlier datagram')
            sent.append(data)
    simulator._send(RefusedOnce(), None, b'data')
    assert sent == ['refused', b'data'] and not simulator.errors


def test_the_number_of_robots_is_bounded_and_idle_ones_make_room(relay, bridge, robot, wait_until):
    now = [0.0]
    simulator = relay(max_robots=2, idle_s=10.0, clock=lambda: now[0])
    with udp_socket() as second, udp_socket() as third:
        robot.sendto(b'first', simulator.local_address)
        second.sendto(b'second', simulator.local_address)
        assert {bridge.recv(100), bridge.recv(100)} == {b'first', b'second'}
        third.sendto(b'refused', simulator.local_address)
        wait_until(lambda: simulator.robots_refused == 1)
        now[0] = 5.0
        robot.sendto(b'first', simulator.local_address)
        assert bridge.recv(100) == b'first'
        now[0] = 12.0           # the second robot has been idle for 12 s, the first for 7 s
        third.sendto(b'admitted', simulator.local_address)
        assert bridge.recv(100) == b'admitted'
        assert simulator.robots == 2
        robot.sendto(b'still here', simulator.local_address)
        assert bridge.recv(100) == b'still here'


def test_a_robot_that_moves_is_seen_at_another_address_and_answers_to_the_former_one_are_lost(relay, bridge, robot):
    simulator = relay(uplink=Impairment(delay_s=0.05))
    robot.sendto(b'here', simulator.local_address)
    time.sleep(0.02)
    simulator.move_robots()              # what is in flight from the former address stays there
    robot.sendto(b'there', simulator.local_address)
    data, address = bridge.recvfrom(100)
    assert data == b'there'
    bridge.sendto(b'answer', address)
    assert received(robot) == [b'answer']
    simulator.move_robots()
    bridge.sendto(b'too late', address)
    robot.sendto(b'elsewhere', simulator.local_address)
    data, moved = bridge.recvfrom(100)
    assert data == b'elsewhere' and moved != address
    assert received(robot) == []


def test_start_and_stop(running, bridge):
    simulator = running(LinkSimulator(LOOPBACK, bridge.getsockname()))
    port = simulator.local_address[1]
    with pytest.raises(TransportError, match='started already'):
        simulator.start()
    with pytest.raises(TransportError, match=f'127.0.0.1:{port} is already in use'):
        LinkSimulator(('127.0.0.1', port), bridge.getsockname()).start()
    thread = simulator._thread
    simulator.stop()
    assert not thread.is_alive()
    simulator.stop()
    with pytest.raises(TransportError, match='not running'):
        _ = simulator.local_address
    simulator.start()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_command_relays_until_a_signal_and_prints_its_counters(bridge, robot, number):
    command = [
        sys.executable, '-m', 'evitif_cli', 'link', '--listen', '127.0.0.1:0',
        '--forward', '{}:{}'.format(*bridge.getsockname()), '--loss', '1', '--uplink-loss', '0', '--seed', '3',
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            ready = process.stdout.readline()
            assert ready.startswith('link simulator: 127.0.0.1:')
            robot.sendto(b'up', ('127.0.0.1', int(ready.split()[2].rpartition(':')[2])))
            data, address = bridge.recvfrom(100)
            assert data == b'up'
            bridge.sendto(b'lost', address)
            time.sleep(0.05)
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0 and errors == ''
    uplink, downlink = output.splitlines()
    assert uplink.startswith('uplink: received 1,') and 'delivered 1,' in uplink
    assert downlink.startswith('downlink: received 1,') and 'lost 1,' in downlink


@pytest.mark.parametrize(('arguments', 'expected'), [
    (['--loss', '1.5'], "argument --loss: '1.5': expected a probability from 0 to 1"),
    (['--loss', 'much'], "argument --loss: 'much': expected a probability"),
    (['--downlink-rate-bit-s', '5'], 'expected bits per second, 0 for unlimited'),
    (['--listen', '127.0.0.1'], 'expected HOST:PORT'),
    (['--listen', '127.0.0.1:70000'], 'port 70000 is out of range'),
    (['--loss', '0.6', '--downlink-burst-length', '1.2'], 'downlink: burst_length = 1.2 with loss = 0.6'),
    (['--forward', 'no-such-host.invalid:1'], 'does not resolve'),
])
def test_wrong_arguments_are_refused_with_a_sentence(capsys, arguments, expected):
    command = ['link', '--listen', '127.0.0.1:0', '--forward', '127.0.0.1:7600', *arguments]
    try:
        status = main(command)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert expected in capsys.readouterr().err
