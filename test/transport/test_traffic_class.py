"""The differentiated services code point of what is sent."""

import socket

import pytest

from evitif.transport.addresses import open_udp_socket

EXPEDITED = 4 * 46


@pytest.mark.parametrize('traffic_class', [0, EXPEDITED])
def test_datagrams_over_ipv4_carry_it(traffic_class):
    with open_udp_socket(socket.AF_INET, ('127.0.0.1', 0), receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16,
                         traffic_class=traffic_class) as sender, \
            open_udp_socket(socket.AF_INET, ('127.0.0.1', 0), receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16) as receiver:
        if not hasattr(socket, 'IP_RECVTOS') or not hasattr(receiver, 'recvmsg'):
            pytest.skip('this system does not tell the traffic class of what arrives')
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        receiver.settimeout(5.0)
        sender.sendto(b'x', receiver.getsockname())
        _, ancillary, _, _ = receiver.recvmsg(16, 64)
        assert [data[0] for level, kind, data in ancillary if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS)] == [traffic_class]


def test_a_socket_for_ipv6_has_it_for_both_kinds_of_address():
    try:
        udp = open_udp_socket(socket.AF_INET6, ('::1', 0), receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16,
                              traffic_class=EXPEDITED)
    except OSError as error:
        pytest.skip(f'no IPv6 here: {error}')
    with udp:
        assert udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == EXPEDITED
