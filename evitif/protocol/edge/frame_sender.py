"""A frame becomes datagrams that leave one after the other at the allowed rate.

A frame is cut when it begins, but its datagrams are numbered and sealed only as they leave. The rest of a frame is never sent
once the next one comes, and leaves no gap in the numbers that the other side would take for loss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evitif.bounded import BoundedDict
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.marking import Marking
from evitif.protocol.edge.path_size import PathSize
from evitif.protocol.edge.pings import Sent
from evitif.protocol.events import DatagramSize, MarksDropped, SentFrame
from evitif.protocol.frames.coded_frame import CodedFrame, coded_datagrams
from evitif.protocol.frames.frame_datagrams import FrameDatagrams
from evitif.protocol.frames.packetiser import LEAST_DATAGRAM_BYTES, SOURCE_FRAME_RESERVE, Packetiser, TokenFrame, row_capacity
from evitif.protocol.rate.congestion import TARGET_S, CongestionControl
from evitif.protocol.rate.pacing import IP_UDP_BYTES, LEAST_BURST_BYTES, MIN_BURST_BYTES, Pacer
from evitif.protocol.rate.report import Report
from evitif.protocol.wire.datagram import SEAL_BYTES, UNIT_INDEX
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Quantisation, SendingState

RUN_DATAGRAMS = 50           # made ready together: about as many of 1,200 bytes as the kernel takes in one call (UDP_SEGMENT)
UNREPORTED_S = 0.5           # more than two intervals between PINGs
_PACKETISERS = 24            # kept, by quantisation, copies and fewest packets
_RATE_GAIN = 1 / 8           # of the frame rate's and the used rate's smoothing
_LONGEST_INTERVAL_S = 2.0    # between two frames that the frame rate is learnt from


@dataclass(frozen=True)
class UplinkState:
    """The uplink, as far as it decides how the next frame is sent. Rates in bit/s with IP and UDP headers."""

    state: SendingState = SendingState.OPEN
    allowed_bit_s: float = math.inf
    used_bit_s: float = 0.0
    frame_bytes: float = math.inf           # that a frame may take, IP and UDP headers included
    name_bytes: int = SOURCE_FRAME_RESERVE  # of the source frame's name in each datagram of the last frame
    queueing_delay_s: float = math.nan
    packet_error_rate: float = math.nan     # of the uplink, as an answer or a report said last, and
    mean_burst: float = math.nan
    datagram_bytes: int = 0                 # that a datagram may take (`path_size`), UDP payload; 0: not known yet
    session_id: int = 0                     # 0: there is none


class FrameSender:
    """Packetisers, pacing and the allowed rate of one edge.

    :param max_datagram_bytes: what a seal leaves of the configured size
    :param say: takes an event
    """

    def __init__(self, parameters: StreamParameters, config: EdgeConfig, max_datagram_bytes: int,
                 say: Callable[[DatagramSize | MarksDropped], None] = lambda event: None):
        self._parameters, self._config, self._seal = parameters, config, config.max_datagram_bytes - max_datagram_bytes
        least = max(parameters.row_formats.values()) + UNIT_INDEX.itemsize - row_capacity(0) + self._seal
        self.path = PathSize(config.max_datagram_bytes, max(least, LEAST_DATAGRAM_BYTES + SEAL_BYTES), say)
        self.marking = Marking(config.ecn, config.link_timeout_s, say)
        self._own: dict[int, dict[Quantisation, Packetiser]] = {}          # by size of the datagrams
        self._own_of(config.max_datagram_bytes)
        self._others: BoundedDict[tuple[Quantisation, int, int, int], Packetiser] = BoundedDict(_PACKETISERS)
        self._pacer = Pacer(config.rate_limit_bit_s)
        self._control = CongestionControl(self._pacer.ceiling_bit_s, config.congestion_control)
        self._waiting: FrameDatagrams | None = None
        self._next = 0                       # of the datagrams of what waits
        self._waiting_bytes = 0
        self._frame_id = -1                  # of what waits
        self._frame_at = math.nan            # when the last frame began
        self._interval = math.nan            # between frames, smoothed
        self._used, self._used_at = 0.0, math.nan
        self._name_bytes = SOURCE_FRAME_RESERVE
        self._beside = self._beside_smoothed = 0.0              # bytes since the last frame that were no frame's; smoothed
        self._burst = self._loss = math.nan
        self._reported_at = math.inf         # when the last report came
        self._informed_at = math.nan         # when something was last learnt of the path
        self._session_id = 0
        self._held = False                   # until more is learnt of it
        self.sent_bytes = 0                  # on the wire, IP and UDP headers included
        self._small = self._small_bytes = 0      # datagrams of these that were no frame's, and their bytes
        self.frames_cut = 0                  # not sent to their end, because a newer one came
        self.uplink = UplinkState()             # replaced whole, so that it may be read without a lock

    @property
    def longest_name(self) -> int:
        """The bytes that the name of a frame's source may take, whatever the quantisation, in datagrams of the present size."""
        return min(packetiser.longest_name for packetiser in self._own_of(self.path.size).values())

    def restart(self, session_id: int, now: float) -> None:
        """A session begins, or is back after a silence: forget the path."""
        self._session_id = session_id
        self._control = CongestionControl(self._pacer.ceiling_bit_s, self._config.congestion_control)
        self._burst = self._loss = math.nan
        self._learnt(now)
        self._drop_waiting()
        self.path.restart(now)
        self.marking.restart(now)
        self._pacer.begin(self._control.rate_bit_s, now)
        self._update_uplink(now)

    def stop(self) -> None:
        """There is no session, or nothing is heard in it."""
        self._drop_waiting()
        self.uplink = UplinkState(SendingState.BREAKER, 0.0, 0.0, 0.0)

    def on_round_trip(self, seconds: float, now: float) -> None:
        """Take a measured round trip."""
        self._learnt(now)
        self._control.on_round_trip(seconds)
        self._pacer.set_rate(self._control.rate_bit_s, now, LEAST_BURST_BYTES if self._control.marked else MIN_BURST_BYTES)

    def on_answer(self, sent: SentFrame, packet_error_rate: float, round_trip: float, now: float) -> None:
        """Take what an answer says; it has the same rate as a report (NaN: an older one's), and there are more of them."""
        self.path.on_answered(sent, now)
        self.on_round_trip(round_trip, now)
        if not math.isnan(packet_error_rate):
            self._loss = packet_error_rate
            self._update_uplink(now)

    def on_report(self, report: Report, packet_error_rate: float, mean_burst: float, now: float) -> None:
        """Take a report of the bridge."""
        self._loss, self._burst = packet_error_rate, mean_burst
        self._reported_at = now
        self._learnt(now)
        self._control.on_report(report, mean_burst, now)
        self.path.on_report(report, now)
        self.marking.on_report(report, now)
        self._pacer.set_rate(self._control.rate_bit_s, now, LEAST_BURST_BYTES if self._control.marked else MIN_BURST_BYTES)
        self._update_uplink(now)

    def spend(self, payload: int, now: float) -> None:
        """Note a datagram that is sent whatever the rate."""
        self.sent_bytes += payload + IP_UDP_BYTES
        self._beside += payload + IP_UDP_BYTES
        self._small += 1
        self._small_bytes += payload + IP_UDP_BYTES
        self._pacer.spend(payload, now)

    def sent_before(self, now: float) -> Sent:
        """What was sent before a PING that goes out now: `sent_bytes` to `small_bytes` of `Report`."""
        self.marking.on_ping(now)
        return self.sent_bytes, self._pacer.ahead_bytes(now), self.path.large, self._small, self._small_bytes

    def asks_first(self, now: float) -> bool:
        """Whether a PING goes ahead of a frame: there was a queue, or no report comes, as if PINGs behind frames find it full."""
        return self._control.last_queueing_s > TARGET_S / 2 or now > self._reported_at + UNREPORTED_S

    def begin(self, frame: TokenFrame | CodedFrame, now: float) -> tuple[int, int, int]:
        """Cut a frame, drop the rest of the one before. Its datagrams, their bytes, unsealed, and its tokens. Raises ValueError, see
        `Packetiser` and `coded_datagrams`."""
        layout = self._datagrams_of_coded(frame, now) if isinstance(frame, CodedFrame) else self._layout_of(frame, now)
        if self._waiting:
            self.frames_cut += 1
        self._waiting, self._next, self._frame_id = layout, 0, frame.frame_id
        self._waiting_bytes = layout.bytes + IP_UDP_BYTES * layout.packets
        if now - self._frame_at <= _LONGEST_INTERVAL_S:
            interval = now - self._frame_at
            self._interval = interval if math.isnan(self._interval) else self._interval + _RATE_GAIN * (interval - self._interval)
            self._beside_smoothed += _RATE_GAIN * (self._beside - self._beside_smoothed)
        self._frame_at, self._beside, self._name_bytes = now, 0.0, len(frame.source_frame.encode())
        self._update_uplink(now)
        chosen = frame.tokens.sent if isinstance(frame, CodedFrame) else None if frame.sent is None else len(frame.sent)
        tokens = self._parameters.tokens if chosen is None else chosen
        return layout.packets, layout.bytes, tokens

    def _layout_of(self, frame: TokenFrame, now: float) -> FrameDatagrams:
        kind = frame.quantisation or self._parameters.quantisation
        if kind not in self._parameters.row_formats:
            raise ValueError(f'frame {frame.frame_id} is in {kind!r}; expected one of {", ".join(self._parameters.row_formats)}')
        size = self.path.next_size(now)
        layout = self._packetiser_for(frame, kind, size).prepare(frame)
        filled = layout.bytes / layout.packets + UNIT_INDEX.itemsize + self._parameters.row_formats[kind] + self._seal
        if size > self.path.size and not self.path.tries(frame.frame_id, filled, now):
            layout = self._packetiser_for(frame, kind, self.path.size).prepare(frame)
        return layout

    def _datagrams_of_coded(self, frame: CodedFrame, now: float) -> FrameDatagrams:
        """The strategy has cut it to `UplinkState.datagram_bytes`; a frame that tries a larger size is filled up to that."""
        size = self.path.next_size(now)
        if size > self.path.size and self.path.tries(frame.frame_id, size, now):
            return coded_datagrams(frame, self._parameters, size - self._seal, padded=True)
        return coded_datagrams(frame, self._parameters, self._config.max_datagram_bytes - self._seal)

    def release(self, finish: Callable[[np.ndarray], np.ndarray], now: float) -> np.ndarray | None:
        """The next run that may leave now, uint8 [n, size], after `finish`; None: no more may."""
        if self._waiting is None:
            return None
        self._held = self._is_futile(now)
        if self._held:
            return None
        layout = self._waiting
        run = layout.run(self._next, RUN_DATAGRAMS)
        run = run[:self._pacer.take(*run.shape, self._seal, now)]
        if not len(run):
            return None
        finished = finish(run)
        self._next += len(run)
        self._waiting_bytes -= run.size + IP_UDP_BYTES * len(run)
        if self._next == layout.packets:
            self._drop_waiting()
        wire = finished.size + IP_UDP_BYTES * len(run)
        self.sent_bytes += wire
        self._control.sent(len(run), wire)
        self.path.left(len(run), finished.shape[1])
        self._use(wire, now)
        return finished

    def get_timer(self) -> float:
        """When more may leave; infinite where nothing waits."""
        return self._pacer.ready_at(self._waiting_bytes) if self._waiting and not self._held else math.inf

    def _is_futile(self, now: float) -> bool:
        """Whether no frame may leave now; PINGs go on, and what they bring ends it.

        Either the queue is longer than an answer may take: a frame behind it comes too late and only makes it longer. Or nothing was
        learnt of the path for as long as a link may be silent (the circuit breaker for media, RFC 8083, section 4.1).
        """
        return (self._control.last_queueing_s > self._config.answer_deadline_s or now > self._informed_at + self._config.link_timeout_s)

    def abandon(self, frame_id: int) -> None:
        """Nobody waits for this frame's answer any more."""
        if self._waiting and frame_id == self._frame_id:
            self.frames_cut += 1
            self._drop_waiting()

    def _learnt(self, now: float) -> None:
        self._informed_at, self._held = now, False

    def _drop_waiting(self) -> None:
        self._waiting, self._waiting_bytes = None, 0

    def _use(self, wire: int, now: float) -> None:
        """Average the used rate over about a second."""
        if not math.isnan(self._used_at):
            self._used *= math.exp(self._used_at - now)
        self._used, self._used_at = self._used + 8 * wire, now

    def _update_uplink(self, now: float) -> None:
        rate = self._control.rate_bit_s
        # A frame has to leave before the next one comes, and while there is time for its answer.
        longest = self._config.answer_deadline_s / 2
        interval = longest if math.isnan(self._interval) else min(self._interval, longest)
        used = 0.0 if math.isnan(self._used_at) else self._used * math.exp(self._used_at - now)
        state = SendingState.BREAKER if self._is_futile(now) else self._control.state
        # Smaller datagrams have more headers; whoever fills the frame counts with the configured size.
        headers = self._rows_share(self.path.size) / self._rows_share(self._config.max_datagram_bytes)
        self.uplink = UplinkState(state, rate, used, max(headers * (rate / 8 * interval - self._beside_smoothed), 0.0), self._name_bytes,
                                  self._control.queueing_delay_s, self._loss, self._burst, self.path.size, self._session_id)

    def _rows_share(self, size: int) -> float:
        """The share of a datagram's bytes that rows take."""
        return row_capacity(size - self._seal, self._name_bytes) / (size + IP_UDP_BYTES)

    def _own_of(self, size: int) -> dict[Quantisation, Packetiser]:
        if size not in self._own:
            self._own[size] = {kind: self._packetiser(kind, self._config.patch_copies, self._config.min_packets, size)
                               for kind in self._parameters.row_formats}
        return self._own[size]

    def _packetiser_for(self, frame: TokenFrame, kind: Quantisation, size: int) -> Packetiser:
        own = self._own_of(size)[kind]
        key = kind, frame.patch_copies or own.patch_copies, frame.min_packets or own.min_packets, size
        if key[1:3] == (own.patch_copies, own.min_packets):
            return own
        self._others[key] = packetiser = self._others.get(key) or self._packetiser(*key)
        return packetiser

    def _packetiser(self, kind: Quantisation, copies: int, min_packets: int, size: int) -> Packetiser:
        return Packetiser(self._parameters.in_format(kind), max_datagram_bytes=size - self._seal, min_packets=min_packets,
                          prefix_copies=self._config.prefix_copies, patch_copies=copies)
