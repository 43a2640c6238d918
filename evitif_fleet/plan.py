"""How many bridges there should be, and what an update does next. Nothing here starts or ends anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evitif_fleet.configuration import BridgesPlan, UpdateCheck

CALM_S = 300.0               # that the load has to be low before a bridge goes
READY_S = 180.0              # that bridges of a new version have to report
NUMBERS = 1000               # of an older version's bridges and the next one's, apart


class Size:
    """How many bridges follow the load: more at once, fewer after a calm while."""

    def __init__(self, plan: BridgesPlan):
        self._plan, self._calm_since = plan, math.inf

    def wanted(self, bridges: Sequence[dict[str, Any]], now: float) -> int:
        """From `DirectoryRuntime.status()['bridges']` that are there, the number that there should be."""
        plan, serving = self._plan, [bridge for bridge in bridges if bridge['state'] == 'serving']
        count = max(len(serving), 1)
        load = sum(max(bridge['load'], bridge['robots'] / bridge['capacity']) for bridge in serving)
        if load / count > plan.down_load or count <= plan.least:
            self._calm_since = math.inf
        elif math.isinf(self._calm_since):
            self._calm_since = now
        if load / count > plan.up_load:
            return min(plan.most, max(count + 1, math.ceil(load / plan.up_load)))
        if now >= self._calm_since + CALM_S and load / max(count - 1, 1) < plan.up_load:
            self._calm_since = now
            return max(plan.least, count - 1)
        return min(max(count, plan.least), plan.most)

    @staticmethod
    def least_used(bridges: Sequence[dict[str, Any]]) -> str:
        """The bridge that goes first, by name."""
        return min((bridge for bridge in bridges if bridge['state'] == 'serving'),
                   key=lambda bridge: (bridge['robots'], -bridge['number']))['name']


@dataclass
class Update:
    """An update to another version: the new bridges start, are checked, get the robots, and are watched; else all goes back.

    `step` says what to do next: 'start', 'wait', 'check', 'move', 'watch', 'finish' or 'back'; `reason` why it goes back.
    """

    version: str
    former: str
    began: float
    check: UpdateCheck
    step: str = 'start'
    moved_at: float = math.inf
    reason: str = ''
    agreed: float | None = field(default=None)

    def on_status(self, bridges: Sequence[dict[str, Any]], wanted: int, now: float) -> str:
        """The next step, from the directory's status."""
        new = [bridge for bridge in bridges if bridge['version'] == self.version and bridge['state'] != 'gone']
        if self.step == 'start':
            self.step = 'wait'
        elif self.step == 'wait':
            if len(new) >= wanted:
                self.step = 'check'
            elif now >= self.began + READY_S:
                self._back(f'{len(new)} of {wanted} bridges of version {self.version} report after {READY_S:.0f} s')
        elif self.step == 'watch':
            late = [bridge for bridge in new if bridge['wait_ms'] > self.check.late_ms]
            if len(new) < wanted:
                self._back(f'{wanted - len(new)} bridges of version {self.version} are gone')
            elif late:
                self._back(f'frames wait {late[0]["wait_ms"]:.0f} ms for {late[0]["name"]}; expected at most {self.check.late_ms:.0f}')
            elif now >= self.moved_at + self.check.watch_s:
                self.step = 'finish'
        return self.step

    def on_check(self, agreed: float | None, reason: str, now: float) -> str:
        """The next step, from the share of kept frames that old and new answer alike; None: none could be asked."""
        self.agreed = agreed
        if reason:
            self._back(reason)
        elif agreed is not None and agreed < self.check.agree:
            self._back(f'version {self.version} agrees with {self.former} on {100 * agreed:.0f} % of the kept frames; expected at least '
                       f'{100 * self.check.agree:.0f}')
        else:
            self.step, self.moved_at = 'move', now
        return self.step

    def on_moved(self) -> None:
        """Robots are sent to the new version."""
        self.step = 'watch'

    def _back(self, reason: str) -> None:
        self.step, self.reason = 'back', reason
