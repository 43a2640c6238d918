"""The strategy `selection` off-board: the large model answers from the patches that arrived and leaves out the others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from evitif.heads.results import top_classes
from evitif.pipeline.coded_states import CodedStates
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.loading import entropy_patch_code
from evitif.pipeline.split_bridge import choose_recovery
from evitif.pipeline.strategy import BridgeStrategy, Outcome, blank_frame
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.selection import PatchCode, PatchModel, load_selection
from evitif.selection.robot import artifact_in
from evitif.settings import SelectionBridgeSettings, SplitBridgeSettings
from evitif.vocabulary import RecoveryName, Strategy

LEAST_FUSED = 5     # classes that travel, however few the robot publishes: it weighs them by its own answer


class SelectionBridge(BridgeStrategy):
    """The large model and the code of its patches; with `recovery` set, missing patches are recovered at cut 0."""

    name = Strategy.SELECTION

    def __init__(self, config: SelectionBridgeSettings):
        large = config.converted(SplitBridgeSettings, cut=0, quantisation='fp16')
        stream = CutModel.load(large)
        self.labels, self.placement = stream.labels, stream.placement
        identity = stream.identity.native_fingerprint
        self._code = PatchCode.beside(config.model, identity).seeing(config.input_size, config.fit)
        artifact = load_selection(artifact_in(config.light_model), large_fingerprint=identity)
        entropy = entropy_patch_code(config, config.model, identity)
        self._parameters = parameters = self._code.stream_parameters(artifact.settings.quantisation, artifact.light_fingerprint,
                                                                     entropy.code.agreement if entropy else '')
        self._states = CodedStates(entropy.code, parameters, config.max_robots) if entropy else None
        self.streams = (parameters,)
        recovery, self.recovery_sentence = None, 'missing patches are left out of the sequence'
        if config.recovery != 'auto' or config.recovery_artifact:
            recovery, self.recovery_sentence = choose_recovery(large, stream)
        self._recovery = RecoveryName.OMISSION if recovery is None else recovery.name
        self._model = PatchModel(stream.split, recovery)
        self.description = f'large model {parameters.model} on {stream.placement.sentence}, asked by {artifact.light}'
        self._top_k = config.top_k

    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Outcome]:
        began = time.monotonic()
        device = self.placement.device
        patches, received, sent = (np.stack(each) for each in zip(*map(self._read, frames), strict=True))
        decoded = time.monotonic()
        logits = self._model.answer(torch.from_numpy(patches).to(device, self.placement.dtype), torch.from_numpy(received).to(device),
                                    torch.tensor([frame.packet_error_rate for frame in frames], device=device))
        classified = [top_classes(probabilities, max(self._top_k, frame.top_k, LEAST_FUSED))
                      for frame, probabilities in zip(frames, logits.softmax(1).cpu().numpy(), strict=True)]
        recovery_s, tail_s = decoded - began, time.monotonic() - decoded
        return [Outcome(*most_likely, came, RecoveryName.NONE if came.all() else self._recovery, recovery_s, tail_s, sent=int(count))
                for most_likely, came, count in zip(classified, received, sent, strict=True)]

    def _read(self, frame: ReceivedFrame) -> tuple[np.ndarray, np.ndarray, int]:
        """The patches float32 [P, C * h * w] of what came of a frame, which these are, bool [P], and how many it has."""
        if frame.coded is None:
            return self._code.patches_from(frame.rows, self._parameters.quantisation)[0].numpy(), frame.received, frame.units_sent
        if self._states is None:
            raise ValueError('its patches are entropy-coded, and this model has no entropy code for them')
        patches, received = self._states.decode(frame.session_id, frame.frame_id, frame.coded)
        return patches, received, self._states.sent

    def forget(self, session_id: int) -> None:
        """As `BridgeStrategy.forget`."""
        if self._states is not None:
            self._states.forget(session_id)

    def warm_up(self, max_batch: int = 1) -> int:
        # Frames seldom have equally many patches, and then a CPU gains nothing from running them together.
        limit = 1 if self.placement.device.type == 'cpu' else max_batch
        self.answer_batch([blank_frame(self._parameters, np.arange(self._parameters.tokens) < 1)] * limit)
        return limit
