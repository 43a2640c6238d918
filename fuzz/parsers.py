"""One input to one parser: what it may raise is named here, and whatever else happens is a fault.

Each target takes bytes and returns nothing. It passes where the parser takes them or refuses them as its docstring says;
what was taken has to survive being written and read again.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np

from evitif.heads.maps import DepthMap, Mask
from evitif.model.entropy_code import EntropyCode, State
from evitif.model.errors import CodeError
from evitif.model.quantise import TokenQuantiser, row_bytes
from evitif.model.transform_code import RATES
from evitif.pipeline.coded_states import STATES, CodedStates
from evitif.protocol.bridge.endpoint import BridgeConfig
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.rate.statistics import DROP_KINDS
from evitif.protocol.sealing.keys import Key, KeyFileError, read_key_file, read_robot_keys
from evitif.protocol.sealing.seal import BRIDGE_TO_EDGE, EDGE_TO_BRIDGE, Sealer, sign
from evitif.protocol.sealing.sealed_handshake import Cookies, EdgeHandshake, SealedHello, welcome
from evitif.protocol.wire import answer, datagram, map_part, runs
from evitif.protocol.wire.coded import CodedPart, CodedTokens
from evitif.protocol.wire.datagram import DatagramError, ReceiverReport
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.parameters import StreamParameters
from evitif.transport.addresses import TransportError, parse_address
from evitif.transport.impairment import ImpairedChannel, Impairment
from evitif.vocabulary import ROWS, Quantisation
from evitif_lab.training.entropy_code import classes_of, first_tables
from fuzz.stream import Stream

PARAMETERS = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=17,
                              prefix_tokens=1, grid=(4, 4), channels=8, groups=1, row_bytes=12, classes=10, formats=(('int4', 8),))
PATCHES = StreamParameters(model='small', fingerprint='cd' * 32, cut=0, quantisation='int8', image_size=(24, 16), tokens=6, prefix_tokens=0,
                           grid=(3, 2), channels=8, groups=1, row_bytes=1, classes=10, strategy='selection', entropy_code='ef' * 32)
KEY = Key(bytes(range(32)))
SCRATCH = Path(tempfile.mkdtemp(prefix='evitif-fuzz-'))


class Timed(Protocol):
    """A state machine with a timer."""

    def get_timer(self) -> float | None:
        """When to call `handle_timer`."""

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""


def handle_due(side: Timed, now: float, collect: Callable[[], None] = lambda: None) -> None:
    """Call a side's timer while it is due, and after each call `collect`, which takes what the side has to send: delivering a frame may
    shorten the wait of those beside it, so that once is not always enough, but it comes to rest."""
    for _ in range(8):
        timer = side.get_timer()
        if timer is None or timer > now:
            return
        side.handle_timer(now)
        collect()
    raise AssertionError(f'{type(side).__name__} does not come to rest')


def _parsed(parse: Callable[[Any], Any], data: object) -> Any:
    """What `parse` makes of `data`; None where it says that it is none."""
    try:
        return parse(data)
    except DatagramError as error:
        assert error.kind in DROP_KINDS, error.kind
        return None


def parse_datagram(data: bytes) -> None:
    """A datagram as it came, and again with the checksum that it should have had."""
    _parsed(datagram.parse, data)
    _parsed(datagram.parse, memoryview(data))
    if len(data) >= datagram.HEADER.size:
        whole = datagram.finish(bytearray(data), 7, 9)
        received = _parsed(datagram.parse, whole)
        if received is not None and not received.sealed:
            assert (received.session_id, received.sequence, received.size) == (7, 9, len(data))
            for parse in (datagram.parse_tokens, datagram.parse_ping, datagram.parse_pong, answer.decode, map_part.decode,
                          Hello.parse, Welcome.parse, Refuse.parse):
                _parsed(parse, received.body)


def parse_tokens(data: bytes) -> None:
    """The body of TOKENS, alone and in a run."""
    body = _parsed(datagram.parse_tokens, memoryview(data))
    if body is not None:
        assert len(body.units) == len(body.rows) and body.packet_index < body.packet_count and len(body.units) <= body.sent_units
    # The same thrice, with other packet indices: a run says what its datagrams say.
    bodies = np.frombuffer(bytearray(data * 3), np.uint8).reshape(3, len(data))
    if body is not None:
        runs.heads_of(bodies, runs.TOKENS_HEAD)['index'] = [(body.packet_index + step) % 65536 for step in (0, 1, 3)]
    run = _parsed(runs.parse_tokens, bodies)
    each = [_parsed(datagram.parse_tokens, row.data) for row in bodies]
    assert (run is None) == (body is None)
    if run is not None:
        assert len(run.indices) == next((k for k in range(3) if each[k] is None), 3) and run.first[:7] == each[0][:7]
        for index, units, rows, alone in zip(run.indices, run.units, run.rows, each, strict=False):
            assert index == alone.packet_index and (units == alone.units).all() and (rows == alone.rows).all()


def parse_reports(data: bytes) -> None:
    """The bodies of PING and PONG."""
    size = datagram.REPORT.size
    for parse, whole in ((datagram.parse_ping, datagram.PING_BODY.size + size), (datagram.parse_pong, datagram.PONG_BODY.size + size)):
        _parsed(parse, data)
        _parsed(parse, data[:whole].ljust(whole, b'\0'))
    report = _parsed(ReceiverReport.parse, data[:size].ljust(size, b'\0'))
    if report is not None:
        assert repr(ReceiverReport.parse(report.to_bytes())) == repr(report)          # NaN does not equal itself


def parse_handshake(data: bytes) -> None:
    """The bodies of HELLO, WELCOME and REFUSE."""
    for kind in (Hello, Welcome, Refuse):
        said = _parsed(kind.parse, data)
        if said is not None:
            if kind is not Refuse:
                assert kind.parse(said.to_bytes()) == said
            if isinstance(said, Hello) and isinstance(said.parameters, StreamParameters):
                assert bool(said.parameters.differences(PARAMETERS)) == (said.parameters != PARAMETERS)
    assert len(Refuse(1, 'bridge', (data.decode('latin-1')[:300],) * 3).to_bytes(900)) <= 900 or len(data) > 100


def parse_sealed_handshake(data: bytes) -> None:
    """What has the right signature and any content, and what has none."""
    edge = EdgeHandshake(KEY, 'robot', PARAMETERS, Random(1))
    cookies = Cookies()
    stream = Stream(data)
    session, instance, body = stream.number(2), stream.choice((True, False)), stream.rest()
    if instance:
        body = edge.instance.to_bytes(8, 'big') + body
    for key, kind, read in ((KEY.hello, datagram.HELLO, None), (KEY.reply, datagram.CHALLENGE, edge.take_challenge),
                            (KEY.reply, datagram.REFUSE, edge.take_refusal), (KEY.reply, datagram.WELCOME, edge.take_welcome)):
        received = _parsed(datagram.parse, sign(key, kind, session, 3, body))
        if read is not None:
            _parsed(read, received)
        elif (said := _parsed(SealedHello.parse, received)) is not None:
            assert said.is_from(KEY)
            cookie = cookies.of(said, ('10.0.0.1', 4000), 1.0)
            assert cookies.is_valid(said, ('10.0.0.1', 4000), 2.0) == (said.cookie == cookie)
            _parsed(lambda said: welcome(KEY, said, 5, 'bridge'), said)
    raw = _parsed(datagram.parse, b'EV\2' + data)
    if raw is not None:
        _parsed(SealedHello.parse, raw)
        for read in (edge.take_challenge, edge.take_welcome, edge.take_refusal):
            assert _parsed(read, raw) is None       # nobody guesses a signature


def open_seal(data: bytes) -> None:
    """A stranger's datagrams, mixed with those of the other side, some of them changed on the way: those that were changed do
    not open, and none opens twice."""
    edge, bridge = Sealer(bytes(32), bytes([1] * 32), EDGE_TO_BRIDGE), Sealer(bytes([1] * 32), bytes(32), BRIDGE_TO_EDGE)
    stream, sent, opened, sequence = Stream(data), [], set(), 0
    while stream and len(sent) < 32:
        action = stream.number() % 4
        if action == 0 or not sent:
            sequence += 1 + stream.number()
            sent.append(edge.finish(datagram.HEADER.pack(b'EV', 1, datagram.PING, 0, 0, 0) + stream.take(8), 7, sequence))
            continue
        if action == 1:
            came = b'EV\2' + stream.take(60)
        else:
            came = bytearray(stream.choice(sent))
            if action == 2:
                came[stream.number() % len(came)] ^= stream.number()
        received = _parsed(datagram.parse, bytes(came))
        if received is not None and received.sealed:
            plain = _parsed(bridge.open, received)
            if plain is not None:
                assert bytes(came) in sent and bytes(came) not in opened
                opened.add(bytes(came))


def decode_answer(data: bytes) -> None:
    """The body of ANSWER."""
    decoded = _parsed(answer.decode, data)
    if decoded is not None:
        again, copies = answer.decode(answer.encode(*decoded))
        assert copies == decoded[1] and again.frame_id == decoded[0].frame_id and np.array_equal(again.received, decoded[0].received)
        assert len(answer.with_hold(data, 1.5)) == len(data)


def decode_map(data: bytes) -> None:
    """The body of MAP, and parts of a mask and of a depth image."""
    decoded = _parsed(map_part.decode, data)
    if decoded is not None:
        assert map_part.encode(*decoded) == data
    for kind in (Mask, DepthMap):
        try:
            found = kind.join([data[1:], data[1:]] if data[:1] == b'\1' else [data[1:]])
        except ValueError as error:
            assert '\n' not in str(error)
        else:
            assert found.values.size <= 1 << 20


def read_keys(data: bytes) -> None:
    """A key file of any content; a folder of one."""
    path = SCRATCH / 'keys' / 'robot.key'
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(data)
    for read, of in ((read_key_file, path), (read_robot_keys, path.parent)):
        try:
            read(of)
        except KeyFileError as error:
            assert str(path) in str(error) and (len(data) < 12 or data.decode('latin-1') not in str(error))


def configure(data: bytes) -> None:
    """Configurations of any values, and addresses of any text."""
    stream = Stream(data)
    for kind in (EdgeConfig, BridgeConfig, Impairment):
        names = list(kind.__dataclass_fields__)
        try:
            kind(**{stream.choice(names): stream.value() for _ in range(stream.number() % 4)})
        except ValueError as error:
            assert any(name in str(error) for name in names), error
    text = stream.rest().decode('utf-8', 'replace')
    try:
        host, port = parse_address(text)
    except TransportError as error:
        assert 'expected' in str(error)
    else:
        assert isinstance(host, str) and 0 <= port <= 65535


def read_parameters(data: bytes) -> None:
    """Stream parameters of which some fields are anything."""
    stream, value = Stream(data), PARAMETERS.to_json()
    names = [*value, 'unknown']
    for _ in range(1 + stream.number() % 3):
        value[stream.choice(names)] = stream.choice((
            stream.value(), [stream.value(), stream.value()], [[stream.choice(Quantisation.values()), stream.value()]],
            stream.take(12).decode('latin-1')))
    try:
        parameters = StreamParameters.from_json(value)
    except ValueError:
        return
    assert StreamParameters.from_json(parameters.to_json()) == parameters and parameters.units <= datagram.MAX_UNITS


def read_trace(data: bytes) -> None:
    """Files of a link's losses, delays or rates: a sentence that names the file, or something that can be played."""
    stream = Stream(data)
    path = SCRATCH / f'trace-{stream.number() % 4}'
    words = (b'0', b'1', b'7', b'.5', b',', b'\n', b'-', b'4294967295', b'1e9', b'nan', b'#')
    text = b''.join(stream.choice(words) for _ in range(stream.number()))
    path.write_bytes(stream.choice((b'', b'sequence,arrived_s,bytes,sent_s\n', b'0\n')) + text + stream.rest())
    try:
        link = Impairment(trace=str(path), delay_s=0.01)
    except ValueError as error:
        assert str(path) in str(error), error
        return
    channel = ImpairedChannel(link, 1)
    for step in range(64):
        now = 0.37 * step
        assert all(now <= at < math.inf and delivered == b'x' for at, delivered in channel.offer(b'x', now))


def impair(data: bytes) -> None:
    """The link simulator's channel: nothing is invented, nothing is delivered before it came, the counters agree."""
    stream = Stream(data)
    try:
        link = Impairment(loss=stream.number() / 255, burst_length=1 + stream.number() / 8, delay_s=stream.number() / 50,
                          jitter_s=stream.number() / 50, reorder=stream.number() / 255, duplicate=stream.number() / 255,
                          corrupt=stream.number() / 255, rate_bit_s=stream.choice((0, 1000, 1e6, 1e9)))
    except ValueError:
        return
    channel, now = ImpairedChannel(link, stream.number()), 0.0
    while stream:
        now += stream.number() / 1000
        payload = stream.take(stream.number() % 32)
        for at, delivered in channel.offer(payload, now):
            assert at >= now and len(delivered) == len(payload) and math.isfinite(at)
    counters = channel.counters
    assert counters.received == counters.lost + counters.queue_dropped + counters.delivered - counters.duplicated


def reassemble(data: bytes) -> None:
    """Packets of any order and content at any times: frames have the stream's shape, each comes once, and few are in flight."""
    stream = Stream(data)
    reassembler, now, delivered = Reassembler(PARAMETERS, frames=4), 0.0, set()
    formats = {kind.number: size for kind, size in PARAMETERS.row_formats.items()}
    while stream:
        now += stream.number() / 2000
        quantisation = stream.choice(tuple(formats))
        row = formats[quantisation] if stream.number() else stream.number()
        units = sorted({stream.number() % 20 for _ in range(1 + stream.number() % 4)})
        header = datagram.TOKENS_HEADER.pack(stream.number() * 16777259 % (1 << 32) if stream.number() % 8 == 0 else stream.number() % 8,
                                             stream.number() % 6, 5, stream.number() % 3, quantisation, row, len(units),
                                             PARAMETERS.units, 0)
        body = _parsed(datagram.parse_tokens, header + np.array(units, '>u2').tobytes() + bytes(row * len(units)))
        if body is not None:
            kind = reassembler.receive(body, 100, now)
            assert kind is None or kind in DROP_KINDS
        timer = reassembler.get_timer()
        if timer is not None and (timer <= now or stream.number() % 4 == 0):
            now = max(now, timer)
            handle_due(reassembler, now)
        while (frame := reassembler.next_frame()) is not None:
            assert frame.rows.shape == (PARAMETERS.units, PARAMETERS.row_formats[frame.quantisation])
            assert frame.complete == (frame.received.sum() >= frame.units_sent) and 0 < frame.packets_received <= frame.packets_expected
            assert not frame.rows[~frame.received].any()
            assert 0 <= frame.ready_at - frame.first_arrival < 0.25        # the deadline, and the steps of this test
            delivered.add(frame.frame_id)
    assert sum(frame is not None for frame in reassembler._ring) <= 4  # noqa: SLF001


def dequantise(data: bytes) -> None:
    """Rows of any bytes become numbers."""
    stream = Stream(data)
    kind = stream.choice([kind for kind in ROWS if kind not in RATES])
    quantiser = TokenQuantiser(kind, 16, stream.choice((1, 2)))
    size = row_bytes(kind, quantiser.slice_channels)
    content = stream.rest()
    rows = np.frombuffer(content[:len(content) // (2 * size) * 2 * size], np.uint8).reshape(-1, size)
    if len(rows):
        tokens = quantiser.dequantise(rows)
        assert tokens.shape[1] == 16 and np.isfinite(tokens).all()
        if np.abs(tokens).max() < 60000:
            assert quantiser.quantise(tokens).shape == rows.shape


@functools.cache
def entropy_code() -> EntropyCode:
    """One whose tables are not fitted: a grid of 3 x 2 patches and a prefix token, 8 channels."""
    spread = np.stack([np.geomspace(400, 2, 8), np.geomspace(200, 0.5, 8)])
    base = classes_of(np.stack([spread, spread / 4]))
    factors = np.stack([np.zeros((2, 8), np.int16), np.full((2, 8), 240, np.int16)])
    turn = np.broadcast_to(np.eye(8, dtype=np.float32), (2, 8, 8))
    return EntropyCode(np.zeros((7, 8), np.float32), turn * 64, turn / 64, np.eye(5, 3, dtype=np.float32), first_tables(base, factors))


def unpack(data: bytes) -> None:
    """Coded tokens of any bytes become levels or are refused; what is planned of any levels comes back."""
    stream, code = Stream(data), entropy_code()
    step, places = stream.number() % 34, np.flatnonzero(np.unpackbits(np.array([stream.number() | 1], np.uint8))[1:])
    state = None
    if stream.number() & 1:
        levels = np.frombuffer(stream.take(112).ljust(112, b'\0'), '<i2').reshape(7, 8).astype(np.int16)
        state = State(levels, np.unpackbits(np.array([stream.number()], np.uint8))[1:].astype(bool))
        if step < 32:
            plan = code.plan(levels[::-1], step, state)
            assert np.array_equal(code.unpack(code.pack(plan, places), places, step, state), plan.levels[places])
    try:
        levels = code.unpack(stream.rest(), places, step, state)
    except CodeError as error:
        assert '\n' not in str(error)
        return
    assert levels.shape == (len(places), 8) and levels.dtype == np.int16


@functools.cache
def patch_code() -> EntropyCode:
    """The same for patches of pixels, which have no prefix token."""
    code = entropy_code()
    tables = first_tables(code.tables.base[:, 1:], code.tables.factors[:, 1:])
    return EntropyCode(code.mean[1:], code.analysis[1:], code.synthesis[1:], code.kernel, tables)


def decode_patches(data: bytes) -> None:
    """Coded patches of two robots, of any bytes and in reference to anything: what was coded in reference to a state comes back, and no
    state is another robot's."""
    stream, code = Stream(data), patch_code()
    states = CodedStates(code, PATCHES, 2)
    while stream:
        session, frame_id, step = 1 + stream.number() % 2, stream.number() % 32, stream.number() % 33
        reference = stream.number() % 32 or None
        part = CodedPart(stream.number() % 6, 1 + stream.number() % 6, b'')
        there = states._states.get(session, {})  # noqa: SLF001
        base, places, plan = there.get(reference), tokens_of(part, PATCHES), None
        if stream.number() & 1 and step < 32 and (reference is None or base is not None):
            plan = code.plan(np.frombuffer(stream.take(96).ljust(96, b'\0'), '<i2').reshape(6, 8).astype(np.int16), step, base)
            payload = code.pack(plan, places)
        else:
            payload = stream.take(stream.number())
        values, received = states.decode(session, frame_id, CodedTokens(step, reference, (part._replace(payload=payload),)))
        assert values.shape == (6, 8) and np.isfinite(values).all() and {*np.flatnonzero(received)} <= {*places}
        assert reference is None or base is not None or not received.any()
        if plan is not None:
            assert received[places].all() and np.array_equal(values[places], code.reconstruct(plan.levels)[places])
        assert len(there) <= STATES
        if stream.number() % 16 == 0:
            states.forget(session)


TARGETS = {
    'datagram': parse_datagram, 'tokens': parse_tokens, 'reports': parse_reports, 'handshake': parse_handshake,
    'sealed-handshake': parse_sealed_handshake, 'seal': open_seal, 'answer': decode_answer, 'keys': read_keys,
    'configuration': configure, 'parameters': read_parameters, 'impairment': impair, 'trace': read_trace, 'reassembly': reassemble,
    'rows': dequantise, 'coded': unpack, 'map': decode_map, 'patches': decode_patches,
}
