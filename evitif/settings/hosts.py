"""Hosts in a setting: one, or several, with or without a port of their own."""

from __future__ import annotations

MOST_HOSTS = 8


def hosts_of(text: str, port: int) -> list[tuple[str, int]]:
    """Each (host, port) in `HOST[:PORT],HOST[:PORT],…`; an IPv6 address that has a port is in brackets. Raises ValueError.

    >>> hosts_of('base, spare:7601, [fd00::1]:7602, fd00::2', 7600)
    [('base', 7600), ('spare', 7601), ('fd00::1', 7602), ('fd00::2', 7600)]
    """
    hosts = [_host(part.strip(), port, text) for part in text.split(',')]
    if len(hosts) > MOST_HOSTS:
        raise ValueError(f'{len(hosts)} hosts in {text!r}; expected at most {MOST_HOSTS}')
    return hosts


def check_hosts(text: str) -> None:
    """Raise ValueError for what `hosts_of` cannot read."""
    hosts_of(text, 1)


def _host(part: str, port: int, text: str) -> tuple[str, int]:
    host, separator, number = part.rpartition(':')
    if separator and (host.startswith('[') and host.endswith(']') or ':' not in host):
        if not number.isdecimal() or not 1 <= int(number) <= 65535:
            raise ValueError(f'port {number!r} in {text!r}; expected 1 to 65535')
        part, port = host, int(number)
    part = part.removeprefix('[').removesuffix(']')
    if not part:
        raise ValueError(f'a host is missing in {text!r}; expected HOST[:PORT], separated by commas')
    return part, port
