"""What both sides know that the bridge has of a session's frames, and how the bridge reads coded frames with it.

After each answered frame the bridge has a state: for each token what came, else what the frame referred to had there. The answer says
which tokens came, so the edge can work out the same state, and a later frame may refer to it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict

import numpy as np

from evitif.bounded import BoundedDict
from evitif.model.entropy_code import EntropyCode, State
from evitif.model.errors import CodeError
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.protocol.wire.coded import CodedTokens
from evitif.protocol.wire.parameters import StreamParameters

STATES = 16         # of the last frames that were answered; the edge refers to none that may be older


def state_after(levels: np.ndarray, received: np.ndarray, base: State | None) -> State:
    """What the bridge has after a frame of which the tokens `received`, bool [N], came with `levels`, int16 [N, K]."""
    if base is None:
        return State(np.where(received[:, None], levels, 0).astype(np.int16), received.copy())
    return State(np.where(received[:, None], levels, base.levels).astype(np.int16), received | base.known)


def with_chosen(payload: bytes, places: np.ndarray, chosen: np.ndarray) -> bytes:
    """The payload of a part of a frame of which only some patches are sent: how many these are (u16), a bit for each of the part's
    `places`, int [n], and what was packed of those that are `chosen`, bool [N]."""
    return int(chosen.sum()).to_bytes(2, 'big') + np.packbits(chosen[places]).tobytes() + payload


def chosen_of(payload: bytes, places: np.ndarray) -> tuple[bytes, np.ndarray, int]:
    """What `with_chosen` was given: the packed bytes, the chosen ones of `places`, and how many the frame has. Raises CodeError."""
    bitmap, patches = payload[2:2 + (len(places) + 7) // 8], int.from_bytes(payload[:2], 'big')
    if 8 * len(bitmap) < len(places):
        raise CodeError(f'{len(payload)} bytes of chosen patches: expected 2 and a bit for each of {len(places)}')
    chosen = places[np.unpackbits(np.frombuffer(bitmap, np.uint8), count=len(places)).astype(bool)]
    return payload[2 + len(bitmap):], chosen, max(patches, len(chosen))


class CodedStates:
    """The bridge's states of at most `sessions` robots.

    :ivar sent: how many patches the last frame had, as far as that is known
    """

    def __init__(self, code: EntropyCode, parameters: StreamParameters, sessions: int):
        self._code, self._parameters = code, parameters
        self.sent = 0
        self._states: BoundedDict[int, OrderedDict[int, State]] = BoundedDict(sessions)      # by session, then by frame id

    def decode(self, session_id: int, frame_id: int, coded: CodedTokens) -> tuple[np.ndarray, np.ndarray]:
        """Tokens float32 [N, D] of what arrived of a frame, and which were read, bool [N].

        None was read where the frame refers to a state that is not here. A part that cannot be read counts as lost.
        """
        p, received = self._parameters, np.zeros(self._parameters.tokens, bool)
        levels = np.zeros((p.tokens, self._code.coefficients), np.int16)
        states = self._states.get(session_id, OrderedDict())
        base = None if coded.reference is None else states.get(coded.reference)
        payloads, parts = self._taken_apart(coded)
        if coded.reference is None or base is not None:
            found = self._code.unpack_parts(payloads, parts, coded.step, base)
            for places, read in zip(parts, found, strict=True):
                if not isinstance(read, CodeError):
                    levels[places], received[places] = read, True
        if received.any():
            states[frame_id] = state_after(levels, received, base)
            while len(states) > STATES:
                states.popitem(last=False)
            self._states[session_id] = states
        return self._code.reconstruct(levels), received

    def _taken_apart(self, coded: CodedTokens) -> tuple[list[bytes], list[np.ndarray]]:
        """The packed bytes of each part, and its tokens."""
        parts = [(part.payload, tokens_of(part, self._parameters)) for part in coded.parts]
        self.sent = self._parameters.tokens
        if self._parameters.light and parts:
            read, self.sent = [], 0
            for payload, places in parts:
                with contextlib.suppress(CodeError):
                    packed, chosen, sent = chosen_of(payload, places)
                    read.append((packed, chosen))
                    self.sent = max(self.sent, sent)
            parts = read
        return [payload for payload, _ in parts], [places for _, places in parts]

    def forget(self, session_id: int) -> None:
        """The session has ended."""
        self._states.pop(session_id, None)
