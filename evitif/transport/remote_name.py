"""A host's address: its name is resolved when a loop starts, and again and again while the host is silent.

A name's address can change: the host moves, an interface with a link-local scope is made anew, and at boot there may be no name service
yet. A look-up can take many seconds, so it has a thread of its own.

A name can stand for several addresses, of which some lead nowhere. While the host is silent they take turns (compare RFC 8305), every
second turn being that of the address from which it was heard last.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
from collections.abc import Callable

from evitif.transport.addresses import SocketAddress, TransportError, UnresolvedHostError, format_address, resolve_remote

SILENT_S = 1.0      # of a host, before its name is looked up again
AGAIN_S = 2.0       # between two look-ups
STAY_S = 3.0        # of silence, before another address than the one from which the host was heard is tried
Found = tuple[int, SocketAddress]       # address family and address


class RemoteName:
    """The address to use of (host, port). `wake` is called in another thread when `take` has something."""

    def __init__(self, remote: tuple[str, int], wake: Callable[[], None], log: logging.Logger):
        self._remote, self._wake, self._log = remote, wake, log
        self._fixed = _is_literal(remote[0])
        self._thread: threading.Thread | None = None
        self._found: list[Found] = []
        self._used: Found | None = None     # what `take` or `resolve` returned last
        self._heard: SocketAddress = ()     # from which the host was heard last
        self._tried: list[Found] = []       # since then, the last one at the end
        self._asked_at = -math.inf
        self._heard_at = -math.inf
        self.problem = ''                   # why there is no address, as a sentence

    def heard(self, address: SocketAddress | None, now: float) -> None:
        """The host was heard at this address."""
        self._heard_at, self._heard = now, address or ()
        self._tried.clear()

    def resolve(self, now: float) -> Found | None:
        """(address family, socket address); None: it does not resolve now. Raises TransportError: it can be no host to send to."""
        self._asked_at = self._heard_at = now
        self._found = self._ask()
        return self.take(now)

    @property
    def ask_at(self) -> float:
        """When `ask_again` is due."""
        waits = self._fixed or self._thread is not None
        return math.inf if waits else max(self._heard_at + SILENT_S, self._asked_at + AGAIN_S)

    def ask_again(self, now: float) -> None:
        """Start a look-up if the host was silent for a while."""
        if now < self.ask_at:
            return
        self._asked_at = now
        self._thread = threading.Thread(target=self._ask_in_thread, name=f'resolve {self._remote[0]}', daemon=True)
        self._thread.start()

    def take(self, now: float) -> Found | None:
        """The address to use from now on, if a look-up has ended since the last call."""
        found, self._found = self._found, []
        if not found:
            return None
        chosen = self._choice(found, now)
        if self._used is not None and chosen not in (self._used, *self._tried) and chosen[1] != self._heard:
            others = f', or at another of its {len(found)} addresses' if len(found) > 1 else ''
            self._log.info('%s is at %s now%s', self._remote[0], format_address(chosen[1]), others)
        self._tried = [address for address in self._tried if address in found and address != chosen] + [chosen]
        self._used = chosen
        return chosen

    def _choice(self, found: list[Found], now: float) -> Found:
        others = [one for one in found if one[1] != self._heard]
        known = next((one for one in found if one[1] == self._heard), None)
        if known is not None and (self._used != known or now < self._heard_at + STAY_S or not others):
            return known
        return min(others, key=lambda one: self._tried.index(one) if one in self._tried else -1)

    def _ask(self) -> list[Found]:
        try:
            found = resolve_remote(self._remote)
        except UnresolvedHostError as error:
            if str(error) != self.problem:
                self._log.warning('%s; asking again every %.0f s', error, AGAIN_S)
            self.problem = str(error)
            return []
        if self.problem:
            self._log.info('host %r resolves: %s', self._remote[0], ', '.join(format_address(address) for _, address in found))
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
