"""What a directory knows of its fleet: which bridges there are, how they are, and so where a robot is to go.

A bridge is there as long as it reports. A robot goes to one that serves its parameters, by rendezvous hashing weighted with the room that
is left; so it comes back to the same one, and two directories send it to the same without asking each other. If it soon asks again, the
bridge that was named first has given it no session, whatever it reports: then another one is named first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from evitif.bounded import BoundedDict
from evitif.protocol.sealing.tickets import LIFETIME_S, FleetKey
from evitif.protocol.wire.datagram import Address
from evitif.protocol.wire.fleet_status import MOST_PEERS, SERVED_DIGITS, Peer, Status
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.link_names import group_of
from evitif.protocol.wire.parameters import StreamParameters
from evitif.protocol.wire.route import MOST_STOPS, Route, Stop, address_of
from evitif.rendezvous import ranked

SILENT_S = 2.0               # without a STATUS, after which a bridge is gone
FORGOTTEN_S = 600.0          # after which it is forgotten
MOST_BRIDGES = 4096
STEPS = 10                   # of the load, by which weights change: few robots are sent elsewhere for little
LEAST_ROOM = 0.05            # of a bridge that still takes robots
RETURNS_S = 5.0              # a robot that asks again so soon found no session
BAD_S = 20.0                 # that a bridge is named last to a robot that it gave none
ROBOTS_REMEMBERED = 65_536


@dataclass
class Bridge:
    """One bridge, as far as is known."""

    report: Status
    host: str
    port: int
    heard_at: float
    sent: int = 0                # robots that were sent there since its last STATUS
    drain: bool = False          # wished by the operator

    def clock(self, now: float) -> float:
        """What the bridge's own clock shows."""
        return self.report.clock + now - self.heard_at

    def is_there(self, now: float) -> bool:
        """Whether it has reported of late."""
        return now < self.heard_at + SILENT_S

    @property
    def leaving(self) -> bool:
        """Whether no robot is to be sent there."""
        return self.drain or self.report.draining

    @property
    def weight(self) -> float:
        """How well it can take another robot; 0: not at all."""
        robots = self.report.robots + self.sent
        if robots >= self.report.capacity:
            return 0.0
        load = max(self.report.load, robots / self.report.capacity)
        return self.report.capacity * max(LEAST_ROOM, 1.0 - int(STEPS * load) / STEPS)


class FleetTable:
    """:param key: the fleet's, for tickets"""

    def __init__(self, key: FleetKey):
        self._key = key
        self.bridges: dict[int, Bridge] = {}
        self.wanted_version = ''                # of the model, that robots are sent to where it is there; '': any
        # By robot: when it was sent somewhere, the first bridge that was named, and the instance of its HELLO.
        self._sent: BoundedDict[str, tuple[float, int, int]] = BoundedDict(ROBOTS_REMEMBERED)
        self._bad: BoundedDict[str, dict[int, float]] = BoundedDict(ROBOTS_REMEMBERED)      # bridges, until when

    # What bridges say

    def take_report(self, report: Status, address: Address, now: float) -> str:
        """Note a STATUS. Why it does not count, or ''."""
        known = self.bridges.get(report.bridge)
        host, port = (report.host or str(address[0]).partition('%')[0]), report.port or address[1]
        if known is not None and known.report.life != report.life and known.is_there(now) and (known.host, known.port) != (host, port):
            return (f'bridge number {report.bridge} is {known.report.name} at {known.host}:{known.port}, and {report.name} at '
                    f'{host}:{port} says so too; expected another number')
        if known is None and len(self.bridges) >= MOST_BRIDGES:
            return f'{report.name} is one bridge too many; expected at most {MOST_BRIDGES}'
        self.bridges[report.bridge] = Bridge(report, host, port, now, drain=known is not None and known.drain)
        for number in [number for number, bridge in self.bridges.items() if now >= bridge.heard_at + FORGOTTEN_S]:
            del self.bridges[number]
        return ''

    def peers_of(self, number: int, now: float) -> tuple[Peer, ...]:
        """The bridges that this one's robots can turn to."""
        own = self.bridges[number]
        served = set(own.report.serves)
        fit = {other: bridge for other, bridge in self._open(now).items() if other != number and served & set(bridge.report.serves)}
        best = ranked(f'peers of {number}', {other: bridge.weight for other, bridge in fit.items()})[:MOST_PEERS]
        return tuple(Peer(other, fit[other].host, fit[other].port, round(fit[other].weight, 2),
                          round(fit[other].clock(now) - own.clock(now), 3)) for other in best)

    def _open(self, now: float) -> dict[int, Bridge]:
        """The bridges that robots may be sent to; where a version is wanted and is there, those that have it."""
        there = {number: bridge for number, bridge in self.bridges.items() if bridge.is_there(now) and not bridge.leaving}
        wanted = {number: bridge for number, bridge in there.items() if bridge.report.version == self.wanted_version}
        return wanted or there

    # What robots ask

    def choose(self, hello: Hello, address: Address, now: float) -> tuple[Route, str]:
        """Where the robot at `address` is to go; without a bridge the reason."""
        digests = _digests(hello.parameters)
        there = [bridge for bridge in self.bridges.values() if bridge.is_there(now)]
        if not there:
            return (), f'fleet: none of its {len(self.bridges)} bridges has reported in the last {SILENT_S:g} s'
        fit = {number: bridge for number, bridge in self._all_open(now) if digests & set(bridge.report.serves)
               and hello.bridge in ('', bridge.report.name)}
        if not fit:
            return (), (f'fleet: none of its {len(there)} bridges serves this model, cut and code; they have version '
                        + ', '.join(sorted({bridge.report.version or '(none)' for bridge in there})))
        near = {number: bridge for number, bridge in fit.items() if self._stop(number, bridge, hello.robot, address, now)[1] is not None}
        if not near:
            one = next(iter(fit.values()))
            return (), (f'fleet: a robot at {address[0]} cannot reach bridge {one.report.name} at {one.host}; expected the bridge to '
                        'announce an address that it can')
        grouped = next(iter(near.values())).report.grouped
        device = hello.parameters.device if isinstance(hello.parameters, StreamParameters) else ''
        robot = group_of(hello.robot, device) if device else hello.robot.rpartition('.')[0] if grouped else hello.robot
        best = ranked(robot or hello.robot, {number: bridge.weight for number, bridge in near.items()})
        if not best:
            return (), f'fleet: its {len(near)} bridges that this robot can use are full'
        at, before, instance = self._sent.get(hello.robot, (-RETURNS_S, -1, -1))
        copy = instance == hello.instance
        best = self._without_bad(hello.robot, best, before if now < at + RETURNS_S and not copy else -1, now)
        if not copy or before != best[0]:
            self._sent[hello.robot] = now, best[0], hello.instance
            near[best[0]].sent += 1
        return tuple(self._stop(number, near[number], hello.robot, address, now)[0] for number in best[:MOST_STOPS]), ''

    def _all_open(self, now: float) -> Iterable[tuple[int, Bridge]]:
        """Those of the wanted version, and where none of them will do, the others."""
        open_now = self._open(now)
        rest = {number: bridge for number, bridge in self.bridges.items() if bridge.is_there(now) and not bridge.leaving}
        return [*open_now.items(), *((number, bridge) for number, bridge in rest.items() if number not in open_now)]

    def _stop(self, number: int, bridge: Bridge, robot: str, address: Address, now: float) -> tuple[Stop, Address | None]:
        stop = Stop(bridge.host, bridge.port, self._key.ticket(number, robot, bridge.clock(now) + LIFETIME_S))
        return stop, address_of(stop, address)

    def _without_bad(self, robot: str, best: list[int], worse: int, now: float) -> list[int]:
        """Name last who gave this robot no session of late, and `worse`, which gave it none now; -1: none."""
        bad = {other: until for other, until in self._bad.get(robot, {}).items() if now < until}
        if worse >= 0:
            bad[worse] = now + BAD_S
        if bad:
            self._bad[robot] = bad
        return sorted(best, key=lambda other: other in bad)

    # What the operator wishes, and what survives a restart

    def named(self, name: str) -> int:
        """The number of the bridge of this name. Raises KeyError where there is none."""
        found = [number for number, bridge in self.bridges.items() if bridge.report.name == name]
        if not found:
            raise KeyError(f'{name}: no bridge of this name; expected one of '
                           + (', '.join(sorted(bridge.report.name for bridge in self.bridges.values())) or 'none: no bridge has reported'))
        return found[0]

    def drain(self, number: int, on: bool = True) -> None:
        """Send a bridge's robots elsewhere, or no longer. Raises KeyError."""
        self.bridges[number].drain = on

    def state(self) -> dict[str, Any]:
        """What another life of the directory needs, for JSON."""
        return {'wanted_version': self.wanted_version, 'bridges': [
            {'report': asdict(bridge.report), 'host': bridge.host, 'port': bridge.port, 'drain': bridge.drain, 'clock': bridge.report.clock}
            for bridge in self.bridges.values()]}

    def restore(self, state: dict[str, Any], now: float) -> None:
        """Begin with what another life knew. Its bridges are believed until they should have reported. Raises ValueError, KeyError,
        TypeError for what `state` did not write."""
        for entry in state['bridges']:
            report = Status(**{**entry['report'], 'serves': tuple(entry['report']['serves'])})
            self.bridges[report.bridge] = Bridge(replace(report, nonce=''), entry['host'], entry['port'], now, drain=bool(entry['drain']))
        self.wanted_version = str(state['wanted_version'])


def _digests(parameters: StreamParameters | str) -> set[str]:
    """What a bridge may have reported that serves these."""
    full = parameters if isinstance(parameters, str) else parameters.digest
    bare = full if isinstance(parameters, str) else replace(parameters, heads=()).digest
    return {full[:SERVED_DIGITS], bare[:SERVED_DIGITS]}
