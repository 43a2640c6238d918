"""The strategy `partition` on a device: send a sub-model's features, in as many packets as the loss asks for.

ED-ViT, arXiv 2410.11650; the sub-model is `evitif.partition`'s.
"""

from __future__ import annotations

import time

import numpy as np

from evitif.partition import load_device, read_partition
from evitif.pipeline.loading import labels_of, placement_of
from evitif.pipeline.partition_stream import device_parameters, feature_quantiser
from evitif.pipeline.strategy import EdgeStrategy, Encoded, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif.protocol.rate.copies import sufficient_copies
from evitif.settings import PartitionEdgeSettings
from evitif.vocabulary import Strategy

LOST = 0.001            # share of the frames that may be lost whole: the others' answer waits for such a frame until the deadline
FEWEST_COPIES = 3


class PartitionEdge(EdgeStrategy):
    """One device's sub-model; without the bridge it answers for its own classes, and for all others together."""

    name = Strategy.PARTITION
    answers_alone = True
    joins_by_stamp = True

    def __init__(self, config: PartitionEdgeSettings):
        partition = read_partition(config.partition)
        self.placement = placement_of(config)
        self._model = model = load_device(config.partition, config.partition_device, self.placement.device)
        model.module.to(self.placement.dtype)
        self._quantiser = feature_quantiser(config, partition.features)
        self._image_size = tuple(partition.data_config['input_size'][1:])
        self.parameters = device_parameters(partition, self._quantiser, self._image_size)[model.entry.index]
        self.labels = labels_of(config, partition.labels, self.parameters.classes)
        self.devices = tuple(entry.name for entry in partition.devices)
        own = ', '.join(self.labels[index] for index in model.entry.classes)
        self.description = (f'device {model.entry.name} of {len(self.devices)} of the partition of {partition.model} '
                            f'({partition.fingerprint[:16]}…) on {self.placement.sentence}: {own}')
        self._copies = config.patch_copies

    def observe(self, pixels: np.ndarray, uplink: UplinkState) -> Observation:
        began = time.monotonic()
        image = self._model.preprocessor(pixels)
        preprocessed = time.monotonic()
        features = self._model.features(image.to(self.placement.device, self.placement.dtype))
        return Observation(self._model.preprocessor.crop(*pixels.shape[:2]), preprocessed - began, time.monotonic() - preprocessed,
                           features)

    def encode(self, observation: Observation, uplink: UplinkState) -> Encoded:
        parameters, first = self.parameters, self._model.entry.index * self.parameters.groups
        rows = np.zeros((parameters.units, parameters.row_bytes), np.uint8)
        rows[first:first + parameters.groups] = self._quantiser.quantise(observation.content[None])
        copies = self._copies or sufficient_copies(uplink.packet_error_rate, LOST, FEWEST_COPIES, MAX_PATCH_COPIES, uplink.mean_burst)
        return Encoded(rows, parameters.quantisation, np.array([self._model.entry.index]), copies)

    def answer_alone(self, observation: Observation) -> np.ndarray:
        local = self._model.local_probabilities(observation.content)
        probabilities = np.zeros(self.parameters.classes + 1, np.float32)
        probabilities[[*self._model.entry.classes, self.parameters.classes]] = local
        return probabilities

    def warm_up(self) -> None:
        observation = self.observe(np.zeros((*self._image_size, 3), np.uint8), UplinkState())
        self.answer_alone(observation)
