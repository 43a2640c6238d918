"""The strategy `selection` on the robot: a light model answers if it is sure, else the patches that matter are sent.

Im et al., arXiv 2404.07217; what is computed is `evitif.selection.Selector`'s. Entropy-coded patches refer to what the bridge is known to
have: of one that did not move next to nothing is sent.
"""

from __future__ import annotations

import math
import time

import numpy as np

from evitif.pipeline.coded_edge import coded_edge
from evitif.pipeline.coded_table import CodedTable, FittedCode
from evitif.pipeline.loading import entropy_patch_code, labels_of, placement_of
from evitif.pipeline.strategy import NO_ROWS, EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.rate.pacing import IP_UDP_BYTES
from evitif.protocol.wire.datagram import HEADER, SEAL_BYTES, TOKENS_HEADER, UNIT_INDEX
from evitif.selection import Selector
from evitif.selection.sending import copies_for, packets_for
from evitif.settings import SelectionEdgeSettings
from evitif.vocabulary import Quantisation, Strategy


class SelectionEdge(EdgeStrategy):
    """Light model, gate and selection; without the bridge, the light model."""

    name = Strategy.SELECTION
    answers_alone = True

    def __init__(self, config: SelectionEdgeSettings):
        self.placement = placement_of(config)
        self._selector = selector = Selector.load(config.light_model, large=config.model, delta=config.delta, eta=config.eta,
                                                  device=str(self.placement.device), precision=config.precision,
                                                  size=config.input_size, fit=config.fit)
        settings, code = selector.settings, selector.patch_code
        entropy = entropy_patch_code(config, config.model, code.pixels.fingerprint)
        self.parameters = code.stream_parameters(settings.quantisation, selector.light_fingerprint,
                                                 entropy.code.agreement if entropy else '')
        self._coded = None if entropy is None else coded_edge(
            FittedCode(entropy.code, CodedTable.of(entropy.description)), self.parameters, config)
        self.labels = labels_of(config, code.pixels.labels, self.parameters.classes)
        self.description = (f'light model {config.light_model} on {self.placement.sentence}: it answers where its {settings.gate_rule} is '
                            f'below {settings.eta:g}, else {code.pixels.model} gets the patches with {100 * settings.delta:g} % of the '
                            'scores')
        self._large_view = code.pixels.preprocessor()
        self._copies = config.patch_copies
        self._header_bytes = IP_UDP_BYTES + HEADER.size + TOKENS_HEADER.size + (SEAL_BYTES if config.key_file else 0)

    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation:
        began = time.monotonic()
        decision = self._selector.decide(pixels, self._budget(uplink))
        return Observation(self._large_view.crop(*pixels.shape[:2]), math.nan, time.monotonic() - began, decision,
                     decision.glance.probabilities if decision.sure else None)

    def encode(self, observation: Observation, uplink: UplinkState) -> Encoded:
        chosen, patches = observation.content.chosen, observation.content.patches
        if self._coded is not None:
            mask = np.zeros(self.parameters.tokens, bool)
            mask[chosen] = True
            coded = self._coded.encode(patches, observation.frame_id, uplink, mask)
            return Encoded(NO_ROWS, Quantisation.CODED, chosen, self._coded.copies, coded=coded)
        copies = self._copies or copies_for(uplink.packet_error_rate, uplink.mean_burst, len(chosen))
        rows = self._selector.patch_code.rows_of(patches, self.parameters.quantisation)
        return Encoded(rows, self.parameters.quantisation, chosen, copies,
                       packets_for(copies, uplink.packet_error_rate, uplink.mean_burst))

    def acknowledge(self, session_id: int, frame_id: int, received: np.ndarray) -> None:
        if self._coded is not None:
            self._coded.acknowledge(session_id, frame_id, received)

    def answer_alone(self, observation: Observation) -> np.ndarray:
        return observation.content.glance.probabilities

    def refine(self, observation: Observation, class_ids: tuple[int, ...],
               scores: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        fused_ids, fused = self._selector.fuse(observation.content.glance, np.array(class_ids), np.array(scores))
        return tuple(fused_ids.tolist()), tuple(fused.tolist())

    def warm_up(self) -> None:
        height, width = self.parameters.image_size
        self.observe(np.zeros((height, width, 3), np.uint8), UplinkState())

    def _budget(self, uplink: UplinkState) -> int | None:
        """Patches that fit into a frame of rows, headers included; None: no limit, or it is the step that makes the frame fit."""
        if math.isinf(uplink.frame_bytes) or self._coded is not None:
            return None
        copies = self._copies or copies_for(uplink.packet_error_rate, uplink.mean_burst)
        row = copies * (UNIT_INDEX.itemsize + self.parameters.row_bytes)
        packets = packets_for(copies, uplink.packet_error_rate, uplink.mean_burst)
        spread = (uplink.frame_bytes - packets * self._header_bytes) / row
        return int(spread if spread >= packets else uplink.frame_bytes / (row + copies * self._header_bytes))
