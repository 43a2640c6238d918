"""The strategy `split` on the robot: run the head, and quantise its tokens as the loss asks for."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from evitif.heads import chosen_heads
from evitif.model.field_of_view import FieldOfView
from evitif.pipeline.coded_edge import coded_edge
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.sending_choice import chosen_tokens, sending_choice
from evitif.pipeline.strategy import NO_ROWS, EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.settings import SplitEdgeSettings
from evitif.vocabulary import Fit, Quantisation, Strategy


class SplitEdge(EdgeStrategy):
    """Head and quantiser; without the bridge, with `local_fallback`, the whole model."""

    name = Strategy.SPLIT

    def __init__(self, config: SplitEdgeSettings):
        self.model = model = CutModel.load(config)
        self.parameters, self.labels, self.placement = model.parameters, model.labels, model.placement
        self.description = (f'model {model.parameters.model}, head of {model.parameters.cut} of {model.split.depth} '
                            f'blocks on {model.placement.sentence}')
        self.heads = chosen_heads(config.heads)
        self.answers_alone = self.keeps_content = config.local_fallback
        self._choice, self._setting = sending_choice(model, config), None
        self._blank = model.blank_tokens.cpu() if model.parameters.fit == Fit.PAD else torch.empty(0)
        self._coded = None if model.entropy is None else coded_edge(model.entropy, model.parameters, config)

    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation:
        began = time.monotonic()
        tensor = self.model.preprocessor(pixels)
        preprocessed = time.monotonic()
        tokens, view = self.model.head(tensor).float().cpu(), self.model.preprocessor.view(*pixels.shape[:2])
        if self.parameters.fit == Fit.PAD:
            tokens = torch.where(self._border(view)[:, None], self._blank, tokens)
        return Observation(view.box, preprocessed - began, time.monotonic() - preprocessed, tokens)

    def _border(self, view: FieldOfView) -> torch.Tensor:
        """Which tokens, bool [N], see nothing but a border. They get those of a blank picture, which the bridge has after the first frame:
        they take no bytes any more. That costs 0.002 on CamVid at 16:9 in a square, and nothing on photographs (cost as in video.md)."""
        bare = np.zeros(self.parameters.tokens, bool)
        bare[self.parameters.prefix_tokens:] = (view.pictured(self.parameters.grid) == 0).ravel()
        return torch.from_numpy(bare)

    def encode(self, observation: Observation, uplink: UplinkState) -> Encoded:
        values, quantisers = observation.content[0].numpy(), self.model.quantisers
        if self._coded is not None:
            coded = self._coded.encode(values, observation.frame_id, uplink)
            return Encoded(NO_ROWS, Quantisation.CODED, patch_copies=self._coded.copies, coded=coded)
        if self._choice is None:
            return Encoded(self.model.quantiser.quantise(values), self.parameters.quantisation)
        before, remark = self._setting, ''
        setting = self._setting = self._choice.choose(uplink.frame_bytes, uplink.packet_error_rate, uplink.mean_burst, before,
                                                       uplink.name_bytes)
        if before is not None and setting.quantisation != before.quantisation:
            remark = (f'tokens travel as {setting.quantisation}, each patch {setting.patch_copies} times, instead of as '
                      f'{before.quantisation}: link {uplink.state}, {_loss(uplink.packet_error_rate)}, '
                      + ('any rate' if math.isinf(uplink.allowed_bit_s) else f'{uplink.allowed_bit_s / 1e6:.1f} Mbit/s') + ' allowed')
        return Encoded(quantisers[setting.quantisation].quantise(values), setting.quantisation,
                       chosen_tokens(self.parameters, setting.share), setting.patch_copies, setting.min_packets, remark)

    def acknowledge(self, session_id: int, frame_id: int, received: np.ndarray) -> None:
        if self._coded is not None:
            self._coded.acknowledge(session_id, frame_id, received)

    def answer_alone(self, observation: Observation) -> np.ndarray:
        return self.model.tail(observation.content)

    def warm_up(self) -> None:
        height, width = self.model.split.image_size
        observation = self.observe(np.zeros((height, width, 3), np.uint8), UplinkState())
        if self.answers_alone:
            self.answer_alone(observation)


def _loss(share: float) -> str:
    return 'an unknown share of the datagrams is lost' if math.isnan(share) else f'{100 * share:.0f} % of the datagrams are lost'
