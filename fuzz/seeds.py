"""Genuine inputs, from which the fuzzer begins: what edge and bridge say to one another, and files as they should be."""

from __future__ import annotations

import base64
import json
from random import Random

import numpy as np

from evitif.heads.maps import DepthMap, Mask
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.wire import answer, datagram, map_part
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.datagram import HEADER, ReceiverReport
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.map_part import MapPart
from evitif.protocol.wire.parameters import StreamParameters
from evitif.protocol.wire.route import Stop, moved_body, redirect_body, route_bytes
from fuzz import parsers, pictures

_PARAMETERS = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=17,
                               prefix_tokens=1, grid=(4, 4), channels=8, groups=1, row_bytes=12, classes=10)
_REPORT = ReceiverReport(100, 90, 0.1, 1.5)


def genuine(target: str) -> list[bytes]:
    """Inputs for a target; none where any bytes are a good beginning."""
    frame = TokenFrame(3, 1000, 'camera', np.ones((17, 12), np.uint8))
    tokens = [data[HEADER.size:] for data in Packetiser(_PARAMETERS, min_packets=4).packetise(frame)]
    received = np.ones(17, bool)
    answered = answer.encode(Answer(3, 1000, (3, 1), (0.75, 0.25), 'split', 'omission', 3, 4, 500, 17, 17, received, 0.1, 5.0, 0.01,
                                    0.0, 0.02, 0.03, heads={0: b'\0\0\0\1\x3f\0\0\0', 2: b'other'}), 3)
    reports = [datagram.ping_body(1.5, _REPORT, 5), datagram.pong_body(1.5, 2.0, 2.5, _REPORT)]
    handshake = [said.to_bytes() for said in (Hello('robot', 5, _PARAMETERS), Welcome(5, 'bridge'), Refuse(5, 'bridge', ('no', 'never')),
                                              Hello('robot', 5, _PARAMETERS.digest))]
    kinds = {datagram.TOKENS: tokens[:1], datagram.ANSWER: [answered], datagram.PING: reports[:1], datagram.PONG: reports[1:],
             datagram.HELLO: handshake[:1], datagram.WELCOME: handshake[1:2], datagram.REFUSE: handshake[2:3]}
    return {
        'datagram': [datagram.build(kind, 7, 9, body) for kind, bodies in kinds.items() for body in bodies],
        'tokens': tokens, 'answer': [answered], 'reports': [*reports, _REPORT.to_bytes()], 'handshake': handshake,
        'sealed-handshake': [b'\0\1\0' + bytes(48) + handshake[0], b'\0\1\0' + bytes(24), b'\0\1\0' + handshake[2],
                             b'\0\1\0' + bytes(32) + handshake[1], b'\0\1\0' + bytes(48) + handshake[3]],
        'keys': [base64.b64encode(bytes(range(32))) + b'\n', base64.b64encode(bytes(31))],
        'artifacts': [b'\0' + json.dumps({'format': 1, 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {}, 'pretrained_cfg': {},
                                         'class_names': ['a']}).encode()],
        **dict.fromkeys(('link', 'sealed-link'), [Random(seed).randbytes(400) for seed in range(16)]),
        **dict.fromkeys(('two-robots', 'sealed-two-robots'), [Random(seed).randbytes(200) for seed in range(4)]),
        'fleet': [Random(seed).randbytes(300) for seed in range(8)],
        'fleet-parsers': [route_bytes((Stop('10.0.0.1', 7600, bytes(26)), Stop('fd00::1', 7600, bytes(26)))),
                          moved_body(1, ()), redirect_body(5, (Stop('10.0.0.1', 7600, bytes(26)),))],
        'configuration': [b'\0\0\0[::1]:7600', b'\0\0\0robot:7600'],
        'pictures': pictures.genuine(),
        'patches': [bytes(8) + Random(seed).randbytes(300) for seed in range(4)],
        'map': [map_part.encode(MapPart(3, 1000, 0, 0, 1, b'mask'), 3), *(b'\0' + part for part in _maps())],
        'coded-frames': [Random(seed).randbytes(160) for seed in range(4)],
        'coded': [bytes((step, 255, 0)) + _coded(step) for step in (2, 10, 18)],
    }.get(target, [])


def _maps() -> list[bytes]:
    y, x = np.mgrid[:24, :32]
    sure = np.full((6, 8), 200, np.uint8)
    return Mask((x > y + 6).astype(np.uint8), sure).parts(1000) + DepthMap((50 + x + y).astype(np.uint8), sure).parts(300)


def _coded(step: int) -> bytes:
    code = parsers.entropy_code()
    levels = np.random.default_rng(step).normal(0, 100, (code.tokens, code.coefficients)).astype(np.int16)
    return code.pack(code.plan(levels, step), np.arange(code.tokens))
