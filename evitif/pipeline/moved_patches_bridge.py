"""The strategy `selection` off-board for robots without a model: the large model answers from the picture that is put together of patches.

Patches that did not come are those of earlier frames, as with `split`: this is its bridge at cut 0, but what comes are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from evitif.pipeline.coded_states import CodedStates
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.strategy import Outcome, blank_frame
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.coded import CodedPart, CodedTokens
from evitif.selection import EntropyPatchCode, PatchModel
from evitif.settings import SelectionBridgeSettings, SplitBridgeSettings
from evitif.vocabulary import Strategy

WARM_STEP = 16          # of the quantiser, of the frames that it warms up with


class MovedPatchesBridge(SplitBridge):
    """The large model, the code of its patches, and each robot's last patches."""

    name = Strategy.SELECTION

    def __init__(self, config: SelectionBridgeSettings):
        super().__init__(config.converted(SplitBridgeSettings, cut=0, quantisation='fp16'))
        code = EntropyPatchCode.beside(config.model, self.model.identity.native_fingerprint).seeing(config.input_size, config.fit)
        self.streams = (code.stream_parameters(),)
        self._patches = PatchModel(self.model.split)
        self._code, self._states = code.code, CodedStates(code.code, self.streams[0], config.max_robots)
        self.description = f'large model {self.parameters.model} on {self.placement.sentence}, for robots that send the patches that moved'

    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Outcome]:
        """As `SplitBridge.answer_batch`; prefix tokens do not travel."""
        prefix = self.parameters.prefix_tokens
        return [replace(outcome, received=outcome.received[prefix:],
                        remembered=None if outcome.remembered is None else outcome.remembered[prefix:])
                for outcome in super().answer_batch(frames)]

    @torch.inference_mode()
    def _decoded(self, frame: ReceivedFrame) -> tuple[np.ndarray, np.ndarray]:
        """The tokens float32 [N, D] at cut 0 of the patches that came of a frame, and which these are, bool [N]."""
        prefix = np.ones(self.parameters.prefix_tokens, bool)
        if frame.coded is None:
            raise ValueError('its patches are rows, and those of a robot without a model are entropy-coded')
        patches, received = self._states.decode(frame.session_id, frame.frame_id, frame.coded)
        placed = torch.from_numpy(patches)[None].to(self.placement.device, self.placement.dtype)
        return self._patches.embed(placed)[0].float().cpu().numpy(), np.concatenate([prefix, received])

    def warm_up(self, max_batch: int = 1) -> int:
        """As `SplitBridge.warm_up`."""
        batch = super().warm_up(max_batch)
        self.forget(0)
        return batch

    def _blank_frame(self, lost_tokens: int) -> ReceivedFrame:
        stream = self.streams[0]
        part = CodedPart(0, stream.tokens - lost_tokens, b'')
        plan = self._code.plan(np.zeros((stream.tokens, self._code.coefficients), np.int16), WARM_STEP)
        coded = CodedTokens(WARM_STEP, None, (part._replace(payload=self._code.pack(plan, tokens_of(part, stream))),))
        return replace(blank_frame(stream, np.ones(stream.tokens, bool)), coded=coded)
