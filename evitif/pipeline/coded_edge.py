"""Entropy-coded tokens on the robot: what the bridge is known to have, and the parts of a frame."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from evitif.bounded import BoundedDict
from evitif.model.entropy_code import EntropyCode, Plan, State
from evitif.pipeline.coded_choice import CodedChoice, CodedSetting, Patches
from evitif.pipeline.coded_states import STATES, state_after, with_chosen
from evitif.pipeline.coded_table import FittedCode
from evitif.pipeline.loading import datagram_room
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.coded_frame import cut_by_bytes, payload_room, tokens_of
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.frames.packetiser import SOURCE_FRAME_RESERVE
from evitif.protocol.frames.reassembly import newer
from evitif.protocol.rate.pacing import IP_UDP_BYTES
from evitif.protocol.wire.coded import CodedPart, CodedTokens
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import EdgeSettings

_CODER_BYTES = 6                # of a payload, that the coder needs to end
_ROUNDS = 8                     # of cutting finer, where a part is larger than was expected


class _Sent(NamedTuple):
    session_id: int
    levels: np.ndarray          # int16 [N, K], what the bridge has of it where it arrived
    base: State | None          # what it refers to


class _Acknowledged(NamedTuple):
    session_id: int
    frame_id: int
    state: State


class CodedEdge:
    """Codes the frames of one edge.

    :param datagram_bytes: that a datagram may have, the seal included, where the path is not known yet
    :param seal: bytes of the seal
    """

    def __init__(self, code: EntropyCode, parameters: StreamParameters, choice: CodedChoice, datagram_bytes: int, seal: int):
        self._code, self._parameters, self._choice = code, parameters, choice
        self._datagram_bytes, self._seal = datagram_bytes, seal
        self._order = scattered_order(parameters.grid)
        self._lock = threading.Lock()
        self._sent: BoundedDict[int, _Sent] = BoundedDict(STATES)       # by frame id
        self._acknowledged: _Acknowledged | None = None
        self.setting: CodedSetting | None = None        # of the last frame
        self.copies = 0                                 # of its patches
        self._common_bytes = 0.0                        # of its patches' common motion, in each part

    def encode(self, tokens: np.ndarray, frame_id: int, uplink: UplinkState, chosen: np.ndarray | None = None) -> CodedTokens:
        """Tokens float32 [N, D] of a frame, in parts that fit into datagrams; of patches only the `chosen`, bool [N], or all."""
        prefix, levels = self._parameters.prefix_tokens, self._code.quantise(tokens)
        acknowledged = self._reference(uplink.session_id)
        base = None if acknowledged is None else acknowledged.state
        room = payload_room((uplink.datagram_bytes or self._datagram_bytes) - self._seal, uplink.name_bytes) - _CODER_BYTES
        step = self._choice.first_step if self.setting is None else self.setting.step
        plan, loss = self._plan(levels, step, base, chosen), (uplink.packet_error_rate, uplink.mean_burst)
        weights, sent = self._code.weights_of_patches(levels[prefix:]), slice(None) if chosen is None else chosen[prefix:]
        patches = patches_of(plan, levels, base, weights).at(sent)
        in_each = float(plan.bits[:prefix].sum()) / 8 + self._common_bytes + _CODER_BYTES
        self.setting = setting = self._choice.choose(step, patches, in_each, room, uplink.frame_bytes, *loss, self.setting)
        if setting.step != step:
            plan = self._plan(levels, setting.step, base, chosen)
            patches = patches_of(plan, levels, base, weights).at(sent)
        copies = np.ones(len(weights), int)
        copies[sent] = self._choice.copies(setting, patches, *loss)
        if base is not None and not copies.all():       # not worth their bits: the bridge keeps what it has of them
            copies, plan = np.maximum(copies, 1), self._code.hold(plan, base, prefix + np.flatnonzero(copies == 0))
        if base is not None and base.known.any():
            plan = self._code.with_common_motion(plan, levels, base)
            self._common_bytes = 0.0 if plan.common is None else float(plan.common.bits.sum()) / 8
        self.copies = round(float(copies[sent].mean())) if copies[sent].size else 1
        parts = self._parts(plan, copies, setting.packets, room + _CODER_BYTES, chosen)
        with self._lock:
            self._sent[frame_id] = _Sent(uplink.session_id, plan.levels, base)
        return CodedTokens(setting.step, None if acknowledged is None else acknowledged.frame_id, parts,
                           None if chosen is None else int(chosen.sum()))

    def _plan(self, levels: np.ndarray, step: int, base: State | None, chosen: np.ndarray | None) -> Plan:
        plan = self._code.plan(levels, step, base)
        if chosen is None:
            return plan
        bitmap = len(chosen) / max(int(chosen.sum()), 1)        # bits, that tell which they are
        return replace(plan, bits=np.where(chosen, plan.bits + bitmap, 0).astype(np.float32))

    def acknowledge(self, session_id: int, frame_id: int, received: np.ndarray) -> None:
        """The bridge has the tokens `received`, bool [N], of a frame."""
        with self._lock:
            sent, before = self._sent.pop(frame_id, None), self._acknowledged
            if sent is None or sent.session_id != session_id:
                return
            if not received.any():          # it could read nothing: it no longer has what the frame refers to
                self._acknowledged = None
            elif before is None or before.session_id != session_id or newer(frame_id, before.frame_id):
                self._acknowledged = _Acknowledged(session_id, frame_id, state_after(sent.levels, received, sent.base))

    def _reference(self, session_id: int) -> _Acknowledged | None:
        """What the bridge surely still has: it keeps the states of its last STATES answers."""
        with self._lock:
            found = self._acknowledged
            if found is None or found.session_id != session_id or not session_id:
                return None
            younger = sum(newer(frame_id, found.frame_id) for frame_id in self._sent)
            return found if younger < STATES - 1 else None

    def _parts(self, plan: Plan, copies: np.ndarray, packets: int, room: int, chosen: np.ndarray | None) -> tuple[CodedPart, ...]:
        sizes, copies = plan.bits[self._parameters.prefix_tokens:][self._order] / 8, copies[self._order]
        most = 2 * int(copies.sum())       # with more, none carries less
        for _ in range(_ROUNDS):
            bare = cut_by_bytes(sizes, copies, packets)
            places = [tokens_of(part, self._parameters) for part in bare]
            payloads = self._code.pack_parts(plan, places if chosen is None else [each[chosen[each]] for each in places])
            if chosen is not None:
                payloads = [with_chosen(packed, each, chosen) for packed, each in zip(payloads, places, strict=True)]
            parts = tuple(part._replace(payload=payload) for part, payload in zip(bare, payloads, strict=True))
            largest = max(len(part.chosen) + len(part.payload) for part in parts)
            if largest <= room:
                return parts
            packets = min(max(packets + 1, -(-packets * largest // max(room, 1))), most)
        raise ValueError(f'a part of a frame takes {largest} bytes, and a datagram has room for {room}: expected a larger '
                         'max_datagram_bytes')


def patches_of(plan: Plan, levels: np.ndarray, base: State | None, weights: np.ndarray) -> Patches:
    """What the choice has to know of a planned frame, levels int16 [N, K], where the bridge's state is `base`.

    :param weights: float32 [patches], how much the answer depends on each
    """
    prefix = len(levels) - len(weights)
    exact, known = levels[prefix:].astype(np.float32), plan.known[prefix:]
    energy, left = np.square(exact).sum(1), np.square(exact - plan.levels[prefix:]).sum(1)
    missed = energy if base is None else np.where(known, np.square(exact - base.levels[prefix:]).sum(1), energy)
    return Patches(plan.bits[prefix:], weights * missed, weights * np.minimum(left, missed), weights * energy, known)


def coded_edge(fitted: FittedCode, parameters: StreamParameters, config: EdgeSettings) -> CodedEdge:
    """How an edge codes its frames."""
    room = datagram_room(config)
    seal = config.max_datagram_bytes - room
    headers = IP_UDP_BYTES + seal + room - payload_room(room, SOURCE_FRAME_RESERVE)
    choice = CodedChoice(fitted.table, headers, config.accuracy_margin, config.patch_copies)
    return CodedEdge(fitted.code, parameters, choice, config.max_datagram_bytes, seal)
