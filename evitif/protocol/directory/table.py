"""What a directory knows of its fleet: which bridges there are, how they are, and so where a robot is to go.

A bridge is there as long as it reports. A robot goes to one that serves its parameters, by rendezvous hashing weighted with the room that
is left; so it comes back to the same one, and two directories send it to the same without asking each other. If it soon asks again, the
bridge that was named first has given it no session, whatever it reports: then another one is named first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from evitif.bounded import BoundedDict
from evitif.protocol.sealing.tickets import LIFETIME_S, FleetKey
from evitif.protocol.wire.datagram import Address
from evitif.protocol.wire.fleet_status import MOST_PEERS, SERVED_DIGITS, Peer, Status
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.link_names import group_of
from evitif.protocol.wire.parameters import StreamParameters
from evitif.protocol.wire.route import MOST_STOPS, Route, Stop, address_of, scope_of
from evitif.rendezvous import ranked

LOOK_S, PEERS_S = 0.1, 1.0   # that a look at the bridges holds: for robots, for a bridge
MOST_LOOKS = 1024
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
        self._wanted_version = ''
        self._looked: BoundedDict[tuple, tuple[float, dict[int, Bridge], str]] = BoundedDict(MOST_LOOKS)
        self._peers: dict[int, tuple[float, tuple[Peer, ...]]] = {}
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
        if known is None:
            self.bridges[report.bridge] = Bridge(report, host, port, now)
            self._looked.clear()
            for number in [number for number, bridge in self.bridges.items() if now >= bridge.heard_at + FORGOTTEN_S]:
                del self.bridges[number]
                self._peers.pop(number, None)
        else:
            known.report, known.host, known.port, known.heard_at, known.sent = report, host, port, now, 0
        return ''

    def peers_of(self, number: int, now: float) -> tuple[Peer, ...]:
        """The bridges that this one's robots can turn to."""
        at, peers = self._peers.get(number, (-PEERS_S, ()))
        if not at <= now < at + PEERS_S:
            peers = self._look_for_peers(number, now)
            self._peers[number] = now, peers
        return peers

    def _look_for_peers(self, number: int, now: float) -> tuple[Peer, ...]:
        own = self.bridges[number]
        served, fit = set(own.report.serves), {}
        for wanted in (True, False):
            fit = fit or {other: bridge for other, bridge in self._open(now, wanted).items()
                          if other != number and served & set(bridge.report.serves)}
        best = ranked(f'peers of {number}', {other: bridge.weight for other, bridge in fit.items()})[:MOST_PEERS]
        return tuple(Peer(other, fit[other].host, fit[other].port, round(fit[other].weight, 2),
                          round(fit[other].clock(now) - own.clock(now), 3)) for other in best)

    def _open(self, now: float, wanted: bool) -> dict[int, Bridge]:
        """The bridges that robots may be sent to; all of them, or those of the wanted version."""
        return {number: bridge for number, bridge in self.bridges.items() if bridge.is_there(now) and not bridge.leaving
                and (not wanted or self._wanted_version in ('', bridge.report.version))}

    # What robots ask

    def choose(self, hello: Hello, address: Address, now: float) -> tuple[Route, str]:
        """Where the robot at `address` is to go; without a bridge the reason."""
        near, reason = self._near(frozenset(_digests(hello.parameters)), hello.bridge, str(address[0]), now)
        if not near:
            return (), reason
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
        return tuple(self.stop(number, hello.robot, now) for number in best[:MOST_STOPS]), ''

    def _near(self, digests: frozenset[str], name: str, host: str, now: float) -> tuple[dict[int, Bridge], str]:
        """The bridges that a robot at `host` may be sent to, or why there are none; looked up again after LOOK_S."""
        key = digests, name, ':' in host, scope_of(host)
        at, near, reason = self._looked.get(key, (-LOOK_S, {}, ''))
        if not at <= now < at + LOOK_S:
            near, reason = self._look(digests, name, host, now)
            self._looked[key] = now, near, reason
        return near, reason

    def _look(self, digests: frozenset[str], name: str, host: str, now: float) -> tuple[dict[int, Bridge], str]:
        there = [bridge for bridge in self.bridges.values() if bridge.is_there(now)]
        if not there:
            return {}, f'fleet: none of its {len(self.bridges)} bridges has reported in the last {SILENT_S:g} s'
        fit: dict[int, Bridge] = {}
        for wanted in (True, False):             # the others only where none of the wanted version will do
            fit = fit or {number: bridge for number, bridge in self._open(now, wanted).items()
                          if digests & set(bridge.report.serves) and name in ('', bridge.report.name)}
        if not fit and any(digests & set(bridge.report.serves) for bridge in there):
            return {}, 'fleet: all of its bridges that serve this robot are being drained'
        if not fit:
            return {}, (f'fleet: none of its {len(there)} bridges serves this model, cut and code; they have version '
                        + ', '.join(sorted({bridge.report.version or '(none)' for bridge in there})))
        near = {number: bridge for number, bridge in fit.items()
                if address_of(Stop(bridge.host, bridge.port, b''), (host, 0, 0, 0) if ':' in host else (host, 0)) is not None}
        one = next(iter(fit.values()))
        return near, '' if near else (f'fleet: a robot at {host} cannot reach bridge {one.report.name} at {one.host}; expected the bridge '
                                      'to announce an address that it can')

    def stop(self, number: int, robot: str, now: float) -> Stop:
        """The bridge of this number, with a ticket for this robot."""
        bridge = self.bridges[number]
        return Stop(bridge.host, bridge.port, self._key.ticket(number, robot, bridge.clock(now) + LIFETIME_S))

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
        self._looked.clear()
        self._peers.clear()

    @property
    def wanted_version(self) -> str:
        """The version of the model that robots are sent to where it is there; '': any."""
        return self._wanted_version

    @wanted_version.setter
    def wanted_version(self, version: str) -> None:
        self._wanted_version = version
        self._looked.clear()
        self._peers.clear()

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
