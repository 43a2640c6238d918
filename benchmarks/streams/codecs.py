"""Codecs as contestants: the robot sends pictures, and the whole model answers on what was decoded.

In their favour: what the receiver says (key frames asked for, reports) was heard before the next frame is coded, if it is not lost; a
lost frame is noticed at once; an answer comes back in as many copies as the true loss needs; packets are not sealed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.link.images import decode, encode
from benchmarks.streams.clips import NO_ANSWER, Clip
from benchmarks.streams.contestant import Run
from benchmarks.streams.traces import Trace
from evitif.protocol.rate.copies import sufficient_copies
from evitif.transport.impairment import HEADER_BYTES
from evitif_lab.rivals.h264 import Coding, Decoder, Encoder, Unit, datagrams
from evitif_lab.rivals.parity import FAILURE
from evitif_lab.rivals.protection import Receiver, Report, as_told, cut

FEWEST_COPIES, MOST_COPIES = 3, 20      # of an answer, as evitif's


@dataclass(frozen=True)
class Parity:
    """:ivar adaptive: for the loss that the receiver reported, not for the true one
    :ivar small: in datagrams as small as makes the frame take the fewest bytes
    """

    adaptive: bool = False
    small: bool = False


class Sender:
    """Packets of one stream over a trace, with parity or without: who counts them, and what the receiver says of them."""

    def __init__(self, trace: Trace, parity: Parity | None):
        self._trace, self._parity = trace, parity
        self._receiver, self._report = Receiver(), None
        self.bytes: list[int] = []
        self.packets: list[int] = []

    def _send(self, frame: int, packets: int, total: int) -> np.ndarray:
        lost = self._trace.uplink.lost(frame, packets)
        self.bytes.append(total)
        self.packets.append(packets)
        self._heard: Report | None = self._receiver.take(lost) if self._parity and self._parity.adaptive else None
        return lost

    def send_whole(self, frame: int, size: int) -> bool:
        """Send a frame's bytes behind its parity; whether they arrived."""
        parity, link = self._parity, self._trace.link
        assert parity is not None
        loss, burst = as_told(self._report) if parity.adaptive else (link.loss, link.burst)
        k, n, total = cut(size, loss, burst, parity.small)
        return int((~self._send(frame, n, total)).sum()) >= k

    def send_slices(self, frame: int, unit: Unit) -> tuple[tuple[bytes, ...], bool]:
        """Send a frame's slices as they are; those that arrived, and whether all did."""
        parts = datagrams(unit)
        lost = self._send(frame, len(parts), sum(HEADER_BYTES + size for _, size in parts))
        return tuple(nal for (nals, _), gone in zip(parts, lost, strict=True) if not gone for nal in nals), not lost.any()

    def heard(self, frame: int) -> bool:
        """Whether what the receiver says after this frame is heard; its report counts from now on."""
        heard = not self._trace.downlink.lost(frame)[0]
        if heard and self._heard is not None:
            self._report = self._heard
        return heard

    def answered(self, frame: int) -> bool:
        """Whether a copy of the frame's answer comes back."""
        link = self._trace.link
        copies = sufficient_copies(link.loss, FAILURE, FEWEST_COPIES, MOST_COPIES, link.burst)
        return not self._trace.downlink.lost(frame, copies).all()

    def run(self, answers: np.ndarray) -> Run:
        """What became of the stream."""
        return Run(answers, np.array(self.bytes), np.array(self.packets))


@dataclass(frozen=True)
class Still:
    """Each frame a picture of its own: `codec` is JPEG or WEBP."""

    codec: str
    quality: int
    parity: Parity

    def __call__(self, clip: Clip, trace: Trace) -> Run:
        """Send the clip."""
        sizes, classes = stills(clip, self.codec, self.quality)
        sender, answered = Sender(trace, self.parity), []
        for number, size in enumerate(sizes):
            arrived = sender.send_whole(number, size)
            sender.heard(number)
            answered.append(sender.answered(number) and arrived)
        return sender.run(np.where(answered, classes, NO_ANSWER))


@functools.lru_cache(64)
def stills(clip: Clip, codec: str, quality: int) -> tuple[list[int], np.ndarray]:
    """The bytes of each frame as a picture, and the whole model's answers int [n]."""
    files = [encode(frame, codec, quality) for frame in clip.frames]
    return [len(file) for file in files], clip.classes([decode(file) for file in files])


@dataclass(frozen=True)
class Video:
    """H.264: without parity in slices, of which those that arrive are decoded; else whole or not at all.

    While the receiver's picture is damaged it asks for a key frame after each frame.
    """

    coding: Coding
    parity: Parity | None

    def __call__(self, clip: Clip, trace: Trace) -> Run:
        """Send the clip."""
        coding = replace(self.coding, sliced=self.parity is None)
        units, classes = undisturbed(clip, coding)
        sender, answered = Sender(trace.again(), self.parity), []
        for number, unit in enumerate(units):
            _, whole = self._send(sender, number, unit)
            if not whole:       # from here on both sides do something else
                return self._disturbed(coding, clip, trace)
            sender.heard(number)
            answered.append(sender.answered(number))
        return sender.run(np.where(answered, classes, NO_ANSWER))

    def _disturbed(self, coding: Coding, clip: Clip, trace: Trace) -> Run:
        encoder, sender = Encoder(coding, clip.frames.shape[1:3], clip.rate_hz), Sender(trace, self.parity)
        decoder, wanted, damaged = None, False, True
        shown: list[np.ndarray | None] = []
        for number, frame in enumerate(clip.frames):
            unit = encoder.encode(frame, wanted)
            if decoder is None:
                decoder = Decoder(encoder.parameter_sets)
            arrived, whole = self._send(sender, number, unit)
            damaged = not whole or damaged and not unit.key
            wanted = sender.heard(number) and damaged
            picture = decoder.decode(arrived)
            shown.append(picture if picture is not None and sender.answered(number) else None)
        return sender.run(clip.classes(shown))

    def _send(self, sender: Sender, number: int, unit: Unit) -> tuple[tuple[bytes, ...], bool]:
        """What arrives of a frame, and whether that is all of it."""
        if self.parity is None:
            return sender.send_slices(number, unit)
        whole = sender.send_whole(number, len(unit))
        return (unit.nals if whole else ()), whole


@functools.lru_cache(256)
def undisturbed(clip: Clip, coding: Coding) -> tuple[list[Unit], np.ndarray]:
    """The stream of a clip over a link that loses nothing: its frames, and the whole model's answers int [n]."""
    encoder = Encoder(coding, clip.frames.shape[1:3], clip.rate_hz)
    units = [encoder.encode(frame) for frame in clip.frames]
    decoder = Decoder(encoder.parameter_sets)
    return units, clip.classes([decoder.decode(unit.nals) for unit in units])


def last_answer(clip: Clip, trace: Trace) -> Run:
    """The answer of the frame before, at no bytes: what doing nothing for a frame costs."""
    nothing = np.zeros(len(clip.frames), int)
    return Run(np.concatenate(([NO_ANSWER], clip.answers[:-1])), nothing, nothing)
