"""UDP addresses: written as HOST:PORT, resolved, opened as a socket, each failure with a sentence that names the address."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys

# Linux numbers of <linux/in.h>, <linux/in6.h> and <asm-generic/socket.h>; CPython's socket module lacks some of them.
_IP_MTU_DISCOVER = getattr(socket, 'IP_MTU_DISCOVER', 10)
_IP_PMTUDISC_DO = getattr(socket, 'IP_PMTUDISC_DO', 2)
_IPV6_MTU_DISCOVER = getattr(socket, 'IPV6_MTU_DISCOVER', 23)
_SO_MEMINFO = 55
_MEMINFO_FIELDS = 9
_MEMINFO_DROPS = 8

_LINUX = sys.platform.startswith('linux')

SocketAddress = tuple       # as the socket module writes it: (host, port), for IPv6 with flow and scope behind


class TransportError(OSError):
    """An address that cannot be used, or a transport that is not running; the message says what was expected."""


class UnresolvedHostError(TransportError):
    """A host name that does not resolve now; later it may."""


def format_address(address: SocketAddress) -> str:
    """A socket address as text: `192.168.1.2:7600`, `[fe80::1]:7600`."""
    host, port = address[0], address[1]
    return f'[{host}]:{port}' if ':' in str(host) else f'{host}:{port}'


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT` or `[IPV6]:PORT`. Raises TransportError, also for a port above 65535."""
    host, separator, port = text.strip().rpartition(':')
    bracketed = host.startswith('[') and host.endswith(']')
    if not separator or not port.isdecimal() or (':' in host and not bracketed):
        raise TransportError(f'{text!r} is not an address: expected HOST:PORT or [IPV6]:PORT, like 192.168.1.2:7600')
    return check_address((host[1:-1] if bracketed else host, int(port)), text)


def check_address(address: tuple[str, int], what: str = 'the address') -> tuple[str, int]:
    """Check types and port range, resolving nothing. Raises TransportError, naming the value and the range."""
    try:
        host, port = address[0], address[1]
    except (TypeError, IndexError, KeyError):
        raise TransportError(f'{what}: expected (host, port), got {address!r}') from None
    if not isinstance(host, str):
        raise TransportError(f'{what}: expected a host name or IP address as text, got {host!r}')
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise TransportError(f'{what}: port {port!r} is out of range, expected a whole number from 0 to 65535')
    return host, port


def resolve(address: tuple[str, int], *, passive: bool = False) -> tuple[int, tuple]:
    """As `resolve_all`, the first one."""
    return resolve_all(address, passive=passive)[0]


def resolve_all(address: tuple[str, int], *, passive: bool = False) -> list[tuple[int, tuple]]:
    """Resolve a host name to each (address family, socket address) that it has, at least one.

    IPv4 ones come first: a bridge that listens on 0.0.0.0 would never hear an edge that was told `localhost` and took ::1. An
    IPv6 literal gives IPv6.

    :param passive: for binding; an empty host then means every IPv4 interface
    :raises TransportError: when the port is out of range or the name can be no host's
    :raises UnresolvedHostError: when the name does not resolve
    """
    host, port = check_address(address)
    flags = socket.AI_PASSIVE if passive else 0
    if not host and not passive:
        raise TransportError(f'no host to send to: expected a host name or IP address before port {port}, got none')
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise (UnresolvedHostError if isinstance(error, socket.gaierror) else TransportError)(
            f'host {host!r} (port {port}) does not resolve: {reason}; expected a host name known here or an IP address'
        ) from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys((family, resolved) for family, _, _, _, resolved in found))


def resolve_remote(address: tuple[str, int]) -> list[tuple[int, tuple]]:
    """As `resolve_all`, of addresses to send to: TransportError too if none is a single host's (port 0, 0.0.0.0, ::, a multicast group)."""
    if address[1] == 0:
        raise TransportError(f'{format_address(address)}: port 0 is no port to send to, expected 1 to 65535')
    found = [(family, resolved) for family, resolved in resolve_all(address) if _is_one_hosts(resolved[0])]
    if not found:
        raise TransportError(
            f'{format_address(address)} is no address to send to, expected one host\'s (127.0.0.1 for this one)'
        )
    return found


def _is_one_hosts(host: str) -> bool:
    literal = ipaddress.ip_address(host.partition('%')[0])
    return not (literal.is_unspecified or literal.is_multicast)


def open_udp_socket(family: int, address: tuple, *, receive_buffer_bytes: int, send_buffer_bytes: int,
                    traffic_class: int = 0) -> socket.socket:
    """Open a non-blocking UDP socket bound to `address`, whose datagrams are never fragmented (RFC 8899, section 3: DF
    set).

    :param address: a resolved socket address; port 0 takes a free one
    :param traffic_class: of what is sent, the DSCP times four (RFC 2474)
    :raises TransportError: naming the address when it is in use, is not this host's, or may not be bound
    """
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        if family == socket.AF_INET6 and address[0] == '::':
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _forbid_fragmentation(udp)
        if traffic_class:
            set_traffic_class(udp, traffic_class)
        udp.bind(address)
    except OSError as error:
        udp.close()
        raise _bind_error(error, address) from error
    return udp


def set_traffic_class(udp: socket.socket, traffic_class: int) -> None:
    """What is sent from now on has this traffic class: the DSCP times four (RFC 2474) and the ECN field (RFC 3168)."""
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
    if udp.family == socket.AF_INET or sys.platform.startswith('linux'):       # for IPv4 over an IPv6 socket
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)


def _bind_error(error: OSError, address: tuple) -> TransportError:
    where = format_address(address)
    if error.errno == errno.EADDRINUSE:
        return TransportError(error.errno, f'UDP {where} is already in use: expected a port where nobody listens yet')
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(
            error.errno, f'{where} is no address of this host: expected one of its own, or 0.0.0.0 or :: for all'
        )
    if error.errno == errno.EACCES:
        return TransportError(error.errno, f'{where}: this user may not listen there, expected a port of 1024 or above')
    return TransportError(error.errno, f'cannot listen on {where}: {error.strerror}')


def _forbid_fragmentation(udp: socket.socket) -> None:
    if not _LINUX:
        return
    # A dual-stack socket needs both. A kernel without the option fragments nothing at 1,200 bytes on any common path
    # either.
    for level, option in ((socket.IPPROTO_IP, _IP_MTU_DISCOVER), (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)):
        if level == socket.IPPROTO_IPV6 and udp.family != socket.AF_INET6:
            continue
        try:
            udp.setsockopt(level, option, _IP_PMTUDISC_DO)
        except OSError:
            pass


def granted_receive_buffer(udp: socket.socket) -> int:
    """Bytes of payload and bookkeeping that the kernel granted; Linux reports twice what was asked for (socket(7), SO_RCVBUF)."""
    granted = udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if _LINUX else granted


def kernel_drops(udp: socket.socket) -> int | None:
    """Datagrams that arrived and were dropped because the receive buffer was full; None where the kernel does not tell."""
    if not _LINUX:
        return None
    try:
        fields = udp.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * _MEMINFO_FIELDS)
        return struct.unpack(f'{_MEMINFO_FIELDS}I', fields)[_MEMINFO_DROPS]
    except (OSError, struct.error):
        return None
