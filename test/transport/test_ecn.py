"""The ECN field of what arrives is told: datagram by datagram, in runs, and where marks change within a batch."""

import logging
import socket
import time

import pytest

from evitif.transport.addresses import open_udp_socket
from evitif.transport.udp_socket import UdpSocket

LOG = logging.getLogger(__name__)


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
@pytest.mark.parametrize('batching', [None, False])
def test_the_ecn_field_arrives_with_each_datagram(host, batching):
    receiver = UdpSocket(None, bind=(host, 0), receive_buffer_bytes=1 << 20, batching=batching, traffic_class=0, log=LOG)
    address = receiver.socket.getsockname()
    fields = [0] * 5 + [1] * 20 + [3] * 3 + [1] * 9 + [3]
    sender = open_udp_socket(receiver.socket.family, (host, 0), receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16)
    level, option = (socket.IPPROTO_IP, socket.IP_TOS) if host == '127.0.0.1' else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    for number, field in enumerate(fields):
        sender.setsockopt(level, option, 4 * 46 + field)
        sender.sendto(bytes([number]) * 1200, address)
    found, until = [], time.monotonic() + 5.0
    while len(found) < len(fields) and time.monotonic() < until:
        for one in receiver.receive()[0]:
            rows = [one.data] if isinstance(one.data, memoryview) else list(one.data)
            found += [(row[0], one.ecn) for row in rows]
    receiver.socket.close()
    sender.close()
    assert found == list(enumerate(fields))


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_a_socket_marks_from_now_on_and_keeps_its_dscp(host):
    receiver = UdpSocket(None, bind=(host, 0), receive_buffer_bytes=1 << 20, batching=None, traffic_class=0, log=LOG)
    sender = UdpSocket(receiver.socket.family, bind=None, receive_buffer_bytes=1 << 16, batching=None, traffic_class=4 * 46, log=LOG)
    sender.remote = receiver.socket.getsockname()
    for on in (False, True, True, False):
        sender.mark(on)
        sender.send([bytes([on]) * 100])
    found, until = [], time.monotonic() + 5.0
    while len(found) < 4 and time.monotonic() < until:
        found += [(one.data[0], one.ecn) for one in receiver.receive()[0]]
    level, option = (socket.IPPROTO_IP, socket.IP_TOS) if host == '127.0.0.1' else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    assert sender.socket.getsockopt(level, option) == 4 * 46
    receiver.socket.close()
    sender.socket.close()
    assert found == [(0, 0), (1, 1), (1, 1), (0, 0)]
