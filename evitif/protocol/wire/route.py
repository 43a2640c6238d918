"""Where a robot is to go: the bodies of REDIRECT and MOVED. docs/protocol.md has them as tables.

A route names at most two bridges, the better one first, each by address and port and with the ticket that it asks for. It is read as
hostile input: whatever is not exactly as described raises `DatagramError('malformed')`.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from typing import NamedTuple

from evitif.protocol.wire.datagram import Address, Buffer, DatagramError

MOST_STOPS = 2
TICKET_BYTES = 26
_INSTANCE = struct.Struct('>Q')
_PORT = struct.Struct('>H')
_BYTES = {4: 4, 6: 16}               # of an address, by IP version
LATER, NOW = 0, 1                    # of MOVED: when this bridge falls silent, or at once
_SCOPES = ('loopback', 'link-local', 'private', 'global')


class Stop(NamedTuple):
    """A bridge on a route."""

    host: str                # an IPv4 or IPv6 address, without a zone
    port: int
    ticket: bytes            # that this bridge takes

    def to_bytes(self) -> bytes:
        """The stop as REDIRECT and MOVED carry it. Raises ValueError for what cannot be written."""
        address = ipaddress.ip_address(self.host)
        if not 1 <= self.port <= 65535 or len(self.ticket) != TICKET_BYTES:
            raise ValueError(f'port {self.port}, ticket of {len(self.ticket)} bytes; expected 1 to 65535 and {TICKET_BYTES}')
        return bytes((address.version,)) + address.packed + _PORT.pack(self.port) + self.ticket


Route = tuple[Stop, ...]


def route_bytes(route: Route) -> bytes:
    """A route as the datagrams carry it. Raises ValueError for more stops than it may have."""
    if len(route) > MOST_STOPS:
        raise ValueError(f'a route of {len(route)} bridges; expected at most {MOST_STOPS}')
    return bytes((len(route),)) + b''.join(stop.to_bytes() for stop in route)


def parse_route(body: Buffer) -> Route:
    """Read a route, which `body` is to its end. Raises DatagramError('malformed')."""
    data, stops = bytes(body), []
    if not data or data[0] > MOST_STOPS:
        raise DatagramError('malformed')
    at = 1
    for _ in range(data[0]):
        size = _BYTES.get(data[at], 0) if at < len(data) else 0
        end = at + 1 + size + _PORT.size + TICKET_BYTES
        if not size or end > len(data):
            raise DatagramError('malformed')
        (port,) = _PORT.unpack_from(data, at + 1 + size)
        if port == 0:
            raise DatagramError('malformed')
        stops.append(Stop(str(ipaddress.ip_address(data[at + 1:at + 1 + size])), port, data[end - TICKET_BYTES:end]))
        at = end
    if at != len(data):
        raise DatagramError('malformed')
    return tuple(stops)


def redirect_body(instance: int, route: Route) -> bytes:
    """The body of REDIRECT, the answer to the HELLO of this instance."""
    return _INSTANCE.pack(instance) + route_bytes(route)


def parse_redirect(body: Buffer) -> tuple[int, Route]:
    """The instance and the route of a REDIRECT, at least one stop. Raises DatagramError('malformed')."""
    if len(body) < _INSTANCE.size:
        raise DatagramError('malformed')
    route = parse_route(body[_INSTANCE.size:])
    if not route:
        raise DatagramError('malformed')
    return _INSTANCE.unpack_from(body)[0], route


def moved_body(when: int, route: Route) -> bytes:
    """The body of MOVED; `when`: LATER or NOW. Without a stop the robot has to ask a directory."""
    return bytes((when,)) + route_bytes(route)


def parse_moved(body: Buffer) -> tuple[int, Route]:
    """When to go, and where. Raises DatagramError('malformed')."""
    if not body or body[0] not in (LATER, NOW):
        raise DatagramError('malformed')
    return body[0], parse_route(body[1:])


@functools.lru_cache(maxsize=4096)
def scope_of(host: str) -> str:
    """How far an address reaches: 'loopback', 'link-local', 'private' (RFC 1918, 4193, 6598), 'global'; '' if it is no single host's."""
    address = ipaddress.ip_address(host.partition('%')[0])
    mapped = getattr(address, 'ipv4_mapped', None)
    address = mapped or address
    if address.is_unspecified or address.is_multicast or address.is_reserved or address == ipaddress.ip_address('255.255.255.255'):
        return ''
    if address.is_loopback:
        return 'loopback'
    if address.is_link_local:
        return 'link-local'
    return 'global' if address.is_global else 'private'


def address_of(stop: Stop, teller: Address) -> Address | None:
    """The socket address of a stop that the host at `teller` named; None if a robot that reaches the one may not reach the other.

    It has to be of the same IP version, and of no narrower scope: whoever is asked over the internet names no private address, and only
    this machine names its own loopback. A link-local address is taken on the interface that the teller is on.
    """
    host = str(teller[0]).partition('%')[0]
    if (':' in host) != (':' in stop.host):
        return None
    here, there = scope_of(host), scope_of(stop.host)
    if not here or not there or _SCOPES.index(there) < _SCOPES.index(here):
        return None
    return (stop.host, stop.port, *((0, teller[3] if there == 'link-local' else 0) if len(teller) == 4 else ()))
