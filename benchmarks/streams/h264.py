"""H.264 by libx264 and libavcodec (PyAV), as robots send it: no frame of delay, slices that each fit a datagram.

PyAV's wheels carry libx264, which is under the GPL: it is a rival in the benchmark alone (requirements/video.txt) and no part of
evitif. In the rival's favour: SEI messages are not sent, parameter sets are agreed beforehand (as SDP does), and a datagram takes several
NAL units where they fit (RFC 6184, STAP-A).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.link.parity import DATAGRAM_BYTES

try:
    import av
    from av.video.frame import PictureType
except ImportError:
    av = None

MISSING = 'PyAV is not installed: `pip install -r requirements/video.txt`'
INTRA = 1                           # key interval of a stream of key frames alone
RTP_BYTES = 12
AGGREGATION_BYTES = 1, 2            # of a datagram with several NAL units, and of each of them
SLICE_BYTES = DATAGRAM_BYTES - RTP_BYTES - 8        # libx264 may exceed it by a few bytes
_START = re.compile(rb'\x00{2,}\x01')
_IDR, _SEI, _SPS, _PPS = 5, 6, 7, 8                  # types of NAL units (H.264, table 7-1)


@dataclass(frozen=True)
class Coding:
    """How a stream is coded: `chroma` is 420 or 444, `crf` libx264's quality (less is better), `sliced` into what fits a datagram."""

    chroma: int
    crf: float
    key_interval: int
    sliced: bool = True


@dataclass(frozen=True)
class Unit:
    """A coded frame: its NAL units, without start codes, and whether it needs no frame before."""

    nals: tuple[bytes, ...]
    key: bool

    def __len__(self) -> int:
        return sum(map(len, self.nals)) + 4 * len(self.nals)


class Encoder:
    """libx264 for frames uint8 [h, w, 3] of one size, at `rate_hz`."""

    def __init__(self, coding: Coding, size: tuple[int, int], rate_hz: float):
        self._context = context = av.CodecContext.create('libx264', 'w')
        context.height, context.width = size
        context.pix_fmt = self._format = f'yuv{coding.chroma}p'
        context.framerate, context.time_base = Fraction(rate_hz), 1 / Fraction(rate_hz)
        context.gop_size, context.thread_count = coding.key_interval, 1
        slices = f':slice-max-size={SLICE_BYTES}' if coding.sliced else ''
        context.options = {'preset': 'veryfast', 'tune': 'zerolatency', 'crf': f'{coding.crf:g}', 'forced-idr': '1',
                           'x264-params': f'scenecut=0{slices}'}
        self._next = 0
        self.parameter_sets: tuple[bytes, ...] = ()     # once there was a frame

    def encode(self, frame: np.ndarray, key: bool = False) -> Unit:
        """The next frame, as a key frame where `key`."""
        picture = av.VideoFrame.from_ndarray(frame, format='rgb24').reformat(format=self._format)
        picture.pts, self._next = self._next, self._next + 1
        picture.pict_type = PictureType.I if key else PictureType.NONE
        data = b''.join(bytes(packet) for packet in self._context.encode(picture))
        nals = [nal for nal in _START.split(data) if nal and _type(nal) != _SEI]
        sets, slices = ([nal for nal in nals if (_type(nal) in (_SPS, _PPS)) == whether] for whether in (True, False))
        self.parameter_sets = tuple(sets) or self.parameter_sets
        return Unit(tuple(slices), any(_type(nal) == _IDR for nal in slices))


class Decoder:
    """libavcodec's decoder, which conceals what is missing of a picture from the one before (its own default)."""

    def __init__(self, parameter_sets: tuple[bytes, ...]):
        self._context = av.CodecContext.create('h264', 'r')
        self._context.extradata = _annex_b(parameter_sets)
        # Slices are not decoded side by side: libavcodec conceals errors only so. And damaged pictures are shown.
        self._context.thread_count = 1
        self._context.flags |= av.codec.context.Flags.output_corrupt
        self._context.flags |= av.codec.context.Flags.low_delay
        self._next = 0

    def decode(self, nals: Sequence[bytes]) -> np.ndarray | None:
        """What arrived of the next frame to a picture uint8 [h, w, 3]; None where there is none."""
        number, self._next = self._next, self._next + 1
        if not nals:
            return None
        packet = av.Packet(_annex_b(nals))
        packet.pts = packet.dts = number
        try:
            pictures = self._context.decode(packet)
        except av.FFmpegError:
            return None
        shown = [picture for picture in pictures if picture.pts == number]
        return shown[-1].to_ndarray(format='rgb24') if shown else None


def datagrams(unit: Unit) -> list[tuple[list[bytes], int]]:
    """A frame's NAL units by datagram, in order, with the bytes of UDP payload of each."""
    head, each = AGGREGATION_BYTES
    found: list[list[bytes]] = []
    room = 0
    for nal in unit.nals:
        if found and room >= len(nal) + each:
            found[-1].append(nal)
        else:
            found.append([nal])
            room = DATAGRAM_BYTES - RTP_BYTES - head
        room -= len(nal) + each
    return [(nals, RTP_BYTES + sum(map(len, nals)) + (head + each * len(nals) if len(nals) > 1 else 0)) for nals in found]


def _type(nal: bytes) -> int:
    return nal[0] & 31


def _annex_b(nals: Sequence[bytes]) -> bytes:
    return b''.join(b'\0\0\0\1' + nal for nal in nals)
