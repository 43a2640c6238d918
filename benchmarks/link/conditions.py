"""How bad the link is while something is measured."""

from __future__ import annotations

from dataclasses import dataclass

from evitif.transport.impairment import Impairment

QUEUE_S = 0.1       # of the limited rate: what would wait longer is dropped
DEADLINE_MS = 200.0
MAIN, ANSWERED, PHOTOGRAPHS = 'loss', 'answered', 'photographs'      # groups of conditions


@dataclass(frozen=True)
class Condition:
    """The same in both directions. `loss` is independent and the kernel's where `burst` is 1, else the forwarder's."""

    loss: float = 0.0           # 0..1, of packets
    delay_ms: float = 0.0       # one way
    rate_mbit: float = 0.0      # Mbit/s with IP headers; 0: no limit
    burst: float = 1.0          # packets lost in a row on average

    @property
    def forwarded(self) -> bool:
        """Whether a forwarder has to stand in the way: the kernel by itself can only lose packets."""
        return bool(self.delay_ms or self.rate_mbit or self.burst > 1)

    @property
    def name(self) -> str:
        """In words, e.g. `20 % loss, 5 ms`."""
        parts = [f'{100 * self.loss:g} % loss' + (f' in bursts of {self.burst:g}' if self.burst > 1 else ''), f'{self.delay_ms:g} ms']
        return ', '.join(parts + ([f'{self.rate_mbit:g} Mbit/s'] if self.rate_mbit else []))

    def impairment(self, *, with_loss: bool) -> Impairment:
        """What a relay does; `with_loss` false leaves independent losses to the kernel."""
        loss = self.loss if with_loss or self.burst > 1 else 0.0
        return Impairment(loss=loss, burst_length=self.burst if loss else 1.0, delay_s=self.delay_ms / 1e3,
                          rate_bit_s=1e6 * self.rate_mbit, queue_s=QUEUE_S)
