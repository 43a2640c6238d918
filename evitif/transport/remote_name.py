"""A host's address: its name is resolved when a loop starts, and again and again while the host is silent.

A name's address can change: the host moves, an interface with a link-local scope is made anew, and at boot there may be no name service
yet. A look-up can take many seconds, so it has a thread of its own.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
from collections.abc import Callable

from evitif.transport.addresses import TransportError, UnresolvedHostError, format_address, resolve_remote

SILENT_S = 1.0      # of a host, before its name is looked up again
AGAIN_S = 2.0       # between two look-ups


class RemoteName:
    """The last resolved address of (host, port). `wake` is called in another thread when `take` has something."""

    def __init__(self, remote: tuple[str, int], wake: Callable[[], None], log: logging.Logger):
        self._remote, self._wake, self._log = remote, wake, log
        self.fixed = _is_literal(remote[0])
        self._thread: threading.Thread | None = None
        self._found: tuple[int, tuple] | None = None
        self._asked_at = -math.inf
        self.heard_at = -math.inf           # for the owner to set
        self.problem = ''                   # why there is no address, as a sentence

    def resolve(self, now: float) -> tuple[int, tuple] | None:
        """(address family, socket address); None: it does not resolve now. Raises TransportError: it can be no host to send to."""
        self._asked_at = self.heard_at = now
        return self._ask()

    @property
    def ask_at(self) -> float:
        """When `ask_again` is due."""
        waits = self.fixed or self._thread is not None
        return math.inf if waits else max(self.heard_at + SILENT_S, self._asked_at + AGAIN_S)

    def ask_again(self, now: float) -> None:
        """Start a look-up if the host was silent for a while."""
        if now < self.ask_at:
            return
        self._asked_at = now
        self._thread = threading.Thread(target=self._ask_in_thread, name=f'resolve {self._remote[0]}', daemon=True)
        self._thread.start()

    def take(self) -> tuple[int, tuple] | None:
        """The address found since the last call."""
        found, self._found = self._found, None
        return found

    def _ask(self) -> tuple[int, tuple] | None:
        try:
            found = resolve_remote(self._remote)
        except UnresolvedHostError as error:
            if str(error) != self.problem:
                self._log.warning('%s; asking again every %.0f s', error, AGAIN_S)
            self.problem = str(error)
            return None
        if self.problem:
            self._log.info('host %r resolves: %s', self._remote[0], format_address(found[1]))
        self.problem = ''
        return found

    def _ask_in_thread(self) -> None:
        try:
            self._found = self._ask()
        except TransportError as error:     # the name resolves to an address that no host can have
            self.problem = str(error)
        finally:
            self._thread = None
        self._wake()


def _is_literal(host: str) -> bool:
    """Whether the host is a fixed address; one with a link-local scope can change."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return '%' not in host
