"""The strategy `selection` on the robot: a light model answers if it is sure, else the patches that matter are sent.

Im et al., arXiv 2404.07217; what is computed is `evitif.selection.Selector`'s.
"""

from __future__ import annotations

import math
import time

import numpy as np

from evitif.pipeline.loading import labels_of, placement_of
from evitif.pipeline.strategy import EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.rate.pacing import IP_UDP_BYTES
from evitif.protocol.wire.datagram import HEADER, SEAL_BYTES, TOKENS_HEADER, UNIT_INDEX
from evitif.selection import Selector
from evitif.selection.sending import copies_for, packets_for
from evitif.settings import SelectionEdgeSettings
from evitif.vocabulary import Strategy


class SelectionEdge(EdgeStrategy):
    """Light model, gate and selection; without the bridge, the light model."""

    name = Strategy.SELECTION
    answers_alone = True

    def __init__(self, config: SelectionEdgeSettings):
        self.placement = placement_of(config)
        self._selector = selector = Selector.load(config.light_model, large=config.model, delta=config.delta, eta=config.eta,
                                                  device=str(self.placement.device), precision=config.precision)
        settings, code = selector.settings, selector.patch_code
        self.parameters = code.stream_parameters(settings.quantisation, selector.light_fingerprint)
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
        chosen = observation.content.chosen
        copies = self._copies or copies_for(uplink.packet_error_rate, uplink.mean_burst, len(chosen))
        return Encoded(observation.content.rows, self.parameters.quantisation, chosen, copies,
                       packets_for(copies, uplink.packet_error_rate, uplink.mean_burst))

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
        """Patches that fit into a frame, headers included; None: no limit."""
        if math.isinf(uplink.frame_bytes):
            return None
        copies = self._copies or copies_for(uplink.packet_error_rate, uplink.mean_burst)
        row = copies * (UNIT_INDEX.itemsize + self.parameters.row_bytes)
        packets = packets_for(copies, uplink.packet_error_rate, uplink.mean_burst)
        spread = (uplink.frame_bytes - packets * self._header_bytes) / row
        return int(spread if spread >= packets else uplink.frame_bytes / (row + copies * self._header_bytes))
