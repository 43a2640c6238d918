"""What one socket has done, and the errors that the network gave, of which the first of each kind is logged."""

from __future__ import annotations

import collections
import dataclasses
import errno
import logging
from collections.abc import Mapping

_ADVICE = {
    errno.EMSGSIZE: ' (a datagram is larger than the path takes whole, and is lost: expected a smaller max_datagram_bytes on both sides)',
    errno.ENETUNREACH: ' (there is no way to that network from here)',
    errno.EHOSTUNREACH: ' (nobody answers for that host)',
}


@dataclasses.dataclass(frozen=True)
class UdpStatistics:
    """What one socket has done since `start`; counts of datagrams, bytes of UDP payload."""

    sent: int
    bytes_sent: int
    received: int
    bytes_received: int
    foreign: int                        # not from the remote's port, dropped unread; only where `remote` is given
    send_errors: Mapping[str, int]      # by errno name (ENETUNREACH, EAGAIN, …); each is a datagram not sent
    receive_errors: Mapping[str, int]
    # Arrived while the receive buffer was full; None where the kernel does not tell. A run that it had put together
    # (UDP_GRO) is counted once.
    kernel_dropped: int | None


def error_name(error: OSError) -> str:
    """The errno's name: ENETUNREACH, EAGAIN, …"""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


class ErrorCounts(collections.Counter[str]):
    """Datagrams by errno name; `title` says in the log whose."""

    def __init__(self, log: logging.Logger, title: str = 'UDP'):
        super().__init__()
        self._log, self._title = log, title

    def note(self, error: OSError, datagrams: int = 1) -> None:
        """Count that an error cost so many datagrams."""
        name = error_name(error)
        self[name] += datagrams
        # The first of its kind tells the story; a bridge that is down would otherwise fill the log.
        if self[name] == datagrams:
            advice = _ADVICE.get(error.errno or 0, '')
            self._log.warning('%s %s: %s%s; counted, and logged once', self._title, name, error.strerror, advice)
