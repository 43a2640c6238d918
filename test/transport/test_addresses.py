"""Addresses as text."""

import socket

import pytest

from evitif.transport.addresses import TransportError, format_address, parse_address, resolve


@pytest.mark.parametrize(('text', 'address'), [
    ('127.0.0.1:7600', ('127.0.0.1', 7600)),
    ('bridge.local:1', ('bridge.local', 1)),
    ('[::1]:65535', ('::1', 65535)),
    (':7600', ('', 7600)),
])
def test_an_address_is_read_and_written_back(text, address):
    assert parse_address(text) == address
    assert format_address(address) == text


@pytest.mark.parametrize('text', ['', '7600', 'host', 'host:', 'h:port', 'h:-1', 'h:65536', '::1:7600', '1:2:3'])
def test_what_is_not_an_address_is_refused_showing_it(text):
    with pytest.raises(TransportError) as error:
        parse_address(text)
    assert repr(text)[1:-1] in str(error.value)


def test_a_name_with_both_kinds_of_address_gives_the_ipv4_one(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, '', ('::1', 7600, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, '', ('127.0.0.1', 7600)),
    ]
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: list(found))
    assert resolve(('localhost', 7600)) == (socket.AF_INET, ('127.0.0.1', 7600))
