"""The strategy `split` on the robot: the head, and its tokens quantised as the loss asks for."""

from __future__ import annotations

import math
import time

import numpy as np

from evitif.pipeline.configuration import EdgeRuntimeConfig
from evitif.pipeline.split_stream import SplitStream
from evitif.pipeline.strategy import EdgeStrategy, Encoded, Sight, Uplink


class SplitEdge(EdgeStrategy):
    """Head and quantiser; alone, with `local_fallback`, the whole model."""

    name = 'split'

    def __init__(self, config: EdgeRuntimeConfig):
        self.stream = stream = SplitStream.load(config)
        self.parameters, self.labels, self.placement = stream.parameters, stream.labels, stream.placement
        self.description = (f'model {stream.parameters.model}, head of {stream.parameters.cut} of {stream.split.depth} '
                            f'blocks on {stream.placement.note}')
        self.answers_alone = self.keeps_content = config.local_fallback
        self._quantisation = stream.parameters.quantisation

    def see(self, pixels: np.ndarray, uplink: Uplink) -> Sight:
        began = time.monotonic()
        tensor = self.stream.preprocessor(pixels)
        preprocessed = time.monotonic()
        tokens = self.stream.head(tensor).float().cpu()
        return Sight(self.stream.preprocessor.crop(*pixels.shape[:2]), preprocessed - began, time.monotonic() - preprocessed, tokens)

    def encode(self, sight: Sight, uplink: Uplink) -> Encoded:
        note = self._choose_quantisation(uplink)
        rows = self.stream.quantisers[self._quantisation].quantise(sight.content[0].numpy())
        return Encoded(rows, self._quantisation, note=note)

    def answer_alone(self, sight: Sight) -> np.ndarray:
        return self.stream.tail(sight.content)

    def warm_up(self) -> None:
        height, width = self.stream.split.image_size
        sight = self.see(np.zeros((height, width, 3), np.uint8), Uplink())
        if self.answers_alone:
            self.answer_alone(sight)

    def _choose_quantisation(self, uplink: Uplink) -> str:
        """Take the quantisation that costs least at the measured loss; a sentence where it is another than before."""
        rates, loss = self.stream.rates, uplink.packet_error_rate
        if rates is None or not math.isfinite(loss):
            return ''
        chosen = rates.choose(uplink.patch_copies, uplink.packets, loss, uplink.mean_burst, self._quantisation)
        if chosen == self._quantisation:
            return ''
        note = (f'tokens travel as {chosen}, each patch {uplink.patch_copies[chosen]} times, instead of as '
                f'{self._quantisation}: {100 * loss:.0f} % of the datagrams are lost')
        self._quantisation = chosen
        return note
