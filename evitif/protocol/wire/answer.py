"""ANSWER: what the bridge made of a frame, small enough that many copies of it cost little.

No copy is asked for; enough are sent that one arrives. The first half leaves at once and the rest spaced, so that a burst of losses
does not take them all. Each copy says how long the answer was held until that copy was sent.
"""

import math
import struct
from dataclasses import dataclass, field, replace

import numpy as np

from evitif.protocol.wire.datagram import HEADER, SEAL_BYTES, Buffer, DatagramError
from evitif.protocol.wire.parameters import StreamParameters, check_word
from evitif.vocabulary import RecoveryName, Strategy

_STRATEGIES, _RECOVERIES = tuple(Strategy), tuple(RecoveryName)

# frame id u32, capture stamp i64 ns, strategy u8, recovery u8, copies u8, k u8, packets received u16, packets expected
# u16, bytes received u32, tokens received u16, tokens expected u16, packet error rate f32, wait f32, recovery f32, tail
# f32, memory age f32, motion f32, first arrival f64, hold f64
BODY = struct.Struct('>IqBBBBHHIHHffffffdd')
HOLD = struct.Struct('>d')
HOLD_AT = BODY.size - HOLD.size
TOP = struct.Struct('>If')      # class id u32, score f32
HEAD = struct.Struct('>BH')     # which head u8, bytes of what it says u16
MAX_TOP_K = 255


@dataclass(frozen=True, eq=False)
class Answer:
    """The bridge's prediction for one frame, and how it was made. Unknown durations are NaN."""

    frame_id: int
    capture_stamp_ns: int
    class_ids: tuple[int, ...]         # top-k, best first
    scores: tuple[float, ...]          # the same, descending
    strategy: Strategy
    recovery: RecoveryName
    packets_received: int
    packets_expected: int
    bytes_received: int                # of the frame's datagrams, UDP payload
    tokens_received: int
    tokens_expected: int
    received: np.ndarray               # bool [tokens]
    packet_error_rate: float           # of the uplink, 0..1, NaN when unknown
    first_arrival: float               # of the frame's packets, seconds on the bridge's clock
    wait_s: float                      # first packet to delivery by the reassembly
    recovery_s: float
    tail_s: float
    hold_s: float                      # first packet to the answer sent
    # Tokens that did not arrive and were remembered from earlier frames: bool [tokens], None: none of them.
    remembered: np.ndarray | None = None
    memory_age_s: float = math.nan     # their mean age by the capture stamps; NaN where `remembered` is None, and only there
    motion: float = math.nan           # 1/s, how fast the scene changes (`evitif.recovery.memory`), NaN unknown
    # What other heads say (`evitif.heads.results`), by their place among those of the robot's parameters; ascending.
    heads: dict[int, bytes] = field(default_factory=dict)

    def is_of(self, stream: StreamParameters) -> bool:
        """Whether this can be the answer to a frame of a stream."""
        return self.tokens_expected == stream.tokens and max(self.class_ids) < stream.classes and \
            max(self.heads, default=-1) < len(stream.heads)

    def fates(self, sent: int) -> dict[str, int]:
        """What became of the `sent` tokens of the frame: received, remembered from earlier frames, estimated or left out."""
        remembered = 0 if self.remembered is None else int(self.remembered.sum())
        return {'received': self.tokens_received, 'remembered': remembered,
                'estimated': max(0, sent - self.tokens_received - remembered)}


def encode(answer: Answer, copies: int) -> bytes:
    """The body of an ANSWER that is sent `copies` times. Raises ValueError naming a field that cannot be written."""
    received = np.asarray(answer.received)
    if received.dtype != np.bool_ or received.shape != (answer.tokens_expected,):
        raise ValueError(f'received is {received.dtype} {list(received.shape)}; '
                         f'expected bool [{answer.tokens_expected}]')
    remembered = None if answer.remembered is None else np.asarray(answer.remembered)
    if remembered is not None and (remembered.dtype != np.bool_ or remembered.shape != received.shape):
        raise ValueError(f'remembered is {remembered.dtype} {list(remembered.shape)}; expected bool [{answer.tokens_expected}]')
    if len(answer.class_ids) != len(answer.scores) or not 1 <= len(answer.scores) <= MAX_TOP_K:
        raise ValueError(f'{len(answer.class_ids)} class_ids and {len(answer.scores)} scores; '
                         f'expected 1 to {MAX_TOP_K} of both')
    strategy, recovery = check_word('strategy', answer.strategy, Strategy), check_word('recovery', answer.recovery, RecoveryName)
    # The receiver drops impossible values silently, so raise here.
    if wrong := _impossible(answer):
        raise ValueError(f'{wrong} is {getattr(answer, wrong)}, which cannot be')
    try:
        fixed = BODY.pack(
            answer.frame_id, answer.capture_stamp_ns, strategy.number, recovery.number, copies, len(answer.scores), answer.packets_received,
            answer.packets_expected, answer.bytes_received, answer.tokens_received, answer.tokens_expected,
            answer.packet_error_rate, answer.wait_s, answer.recovery_s, answer.tail_s, answer.memory_age_s, answer.motion,
            answer.first_arrival, answer.hold_s)
        top = b''.join(TOP.pack(int(c), float(s)) for c, s in zip(answer.class_ids, answer.scores, strict=True))
        heads = b''.join(HEAD.pack(index, len(said)) + said for index, said in sorted(answer.heads.items()))
    except (struct.error, OverflowError) as error:
        raise ValueError(f'an answer cannot be written: {error}') from None
    return fixed + top + b''.join(np.packbits(places).tobytes() for places in (received, remembered) if places is not None) + heads


def size_of(classes: int, tokens: int, *, sealed: bool) -> int:
    """Bytes of an ANSWER datagram."""
    return HEADER.size + BODY.size + classes * TOP.size + (tokens + 7) // 8 + (SEAL_BYTES if sealed else 0)


def fit_classes(answer: Answer, room: int) -> Answer:
    """The answer with as many of its heads as fit into a body of `room` bytes, the first ones first, and then of its classes; at least
    one."""
    bitmaps, heads = 1 if answer.remembered is None else 2, {}
    left = room - BODY.size - bitmaps * ((answer.tokens_expected + 7) // 8)
    for index, said in sorted(answer.heads.items()):
        if HEAD.size + len(said) + TOP.size <= left:
            left -= HEAD.size + len(said)
            heads[index] = said
    fitted = best(answer, max(1, min(left // TOP.size, MAX_TOP_K)))
    return fitted if len(heads) == len(answer.heads) else replace(fitted, heads=heads)


def best(answer: Answer, k: int) -> Answer:
    """The answer with its `k` most likely classes."""
    return answer if len(answer.scores) <= k else replace(answer, class_ids=answer.class_ids[:k], scores=answer.scores[:k])


def decode(body: Buffer) -> tuple[Answer, int]:
    """An `Answer`, and how many copies of it are sent. Raises `DatagramError`: 'truncated' (shorter than it says), 'malformed'."""
    if len(body) < BODY.size:
        raise DatagramError('truncated')
    (frame_id, stamp, strategy, recovery, copies, k, packets_received, packets_expected, bytes_received,
     tokens_received, tokens_expected, packet_error_rate, wait, recovery_s, tail, memory_age, motion, first_arrival,
     hold) = BODY.unpack_from(body)
    bitmap_at, bitmap_bytes = BODY.size + k * TOP.size, (tokens_expected + 7) // 8
    second_at = bitmap_at + bitmap_bytes
    end = second_at + (0 if math.isnan(memory_age) else bitmap_bytes)
    if len(body) < end:
        raise DatagramError('truncated')
    top = list(TOP.iter_unpack(body[BODY.size:bitmap_at]))
    received, remembered = (_places(body[at:at + bitmap_bytes], tokens_expected) for at in (bitmap_at, second_at))
    if k == 0 or copies == 0 or strategy >= len(_STRATEGIES) or recovery >= len(_RECOVERIES):
        raise DatagramError('malformed')
    answer = Answer(frame_id, stamp, tuple(c for c, _ in top), tuple(s for _, s in top), _STRATEGIES[strategy],
                    _RECOVERIES[recovery], packets_received, packets_expected, bytes_received, tokens_received,
                    tokens_expected, received, packet_error_rate, first_arrival, wait, recovery_s, tail, hold,
                    None if math.isnan(memory_age) else remembered, memory_age, motion, _heads(body[end:]))
    if _impossible(answer):
        raise DatagramError('malformed')
    return answer, copies


def _heads(body: Buffer) -> dict[int, bytes]:
    """What each head says. Raises DatagramError('malformed')."""
    found, at = {}, 0
    while at < len(body):
        if at + HEAD.size > len(body):
            raise DatagramError('malformed')
        index, length = HEAD.unpack_from(body, at)
        at += HEAD.size + length
        if at > len(body) or not length or found and index <= max(found):
            raise DatagramError('malformed')
        found[index] = bytes(body[at - length:at])
    return found


def _places(bitmap: Buffer, tokens: int) -> np.ndarray:
    """bool [tokens] from bits, the most significant first; those that are not there are false."""
    return np.unpackbits(np.frombuffer(bytes(bitmap), np.uint8), count=tokens).astype(np.bool_)


def _impossible(answer: Answer) -> str | None:
    """The first field whose value is impossible, if any."""
    if not all(math.isfinite(score) for score in answer.scores):
        return 'scores'
    if answer.packets_received > answer.packets_expected:
        return 'packets_received'
    if answer.tokens_received > answer.tokens_expected:
        return 'tokens_received'
    if not (math.isnan(answer.packet_error_rate) or 0.0 <= answer.packet_error_rate <= 1.0):
        return 'packet_error_rate'
    if not math.isfinite(answer.first_arrival):
        return 'first_arrival'
    if not 0.0 <= answer.hold_s < math.inf:
        return 'hold_s'
    if (answer.remembered is None) != math.isnan(answer.memory_age_s) or (
            answer.remembered is not None and bool((answer.remembered & answer.received).any())):
        return 'remembered'
    for name in ('wait_s', 'recovery_s', 'tail_s', 'memory_age_s', 'motion'):
        if getattr(answer, name) < 0.0 or math.isinf(getattr(answer, name)):
            return name
    return None


def with_hold(body: bytes, hold_s: float) -> bytes:
    """An ANSWER's body with another `hold_s`."""
    return body[:HOLD_AT] + HOLD.pack(hold_s) + body[BODY.size:]
