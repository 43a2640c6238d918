"""The strategy `partition` off-board: fuse the features that arrived of one image from several devices."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from evitif.heads.results import top_classes
from evitif.partition import load_fusion
from evitif.pipeline.loading import labels_of, placement_of
from evitif.pipeline.partition_stream import device_parameters, feature_quantiser
from evitif.pipeline.strategy import BridgeStrategy, Outcome
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.link_names import group_of
from evitif.settings import PartitionBridgeSettings
from evitif.vocabulary import RecoveryName, Strategy


class PartitionBridge(BridgeStrategy):
    """The fusion network. Each device gets the answer of all; its `received` says which of them were heard."""

    name = Strategy.PARTITION

    def __init__(self, config: PartitionBridgeSettings):
        self.placement = placement_of(config)
        self._fusion = load_fusion(config.partition, self.placement.device)
        partition = self._fusion.partition
        self._quantiser = feature_quantiser(config, partition.features)
        self.streams = device_parameters(partition, self._quantiser, tuple(partition.data_config['input_size'][1:]))
        self.labels = labels_of(config, partition.labels, len(partition.class_names))
        self.devices = tuple(entry.name for entry in partition.devices)
        self.description = (f'fusion of {len(self.devices)} devices of the partition of {partition.model} '
                            f'({partition.fingerprint[:16]}…) on {self.placement.sentence}')
        self.recovery_sentence = f'devices: {", ".join(self.devices)}; those not heard by the deadline are left out'
        self._top_k = config.top_k

    def answer_batch(self, frames: Sequence[ReceivedFrame]) -> list[Outcome]:
        """The frames of one image share their outcome."""
        joint = defaultdict(list)
        for frame in frames:
            joint[_image_of(frame)].append(frame)
        outcomes = {image: self._fuse(those) for image, those in joint.items()}
        return [outcomes[_image_of(frame)] for frame in frames]

    def _fuse(self, frames: list[ReceivedFrame]) -> Outcome:
        """Answer from the frames of one image."""
        began = time.monotonic()
        devices, groups = len(self.devices), self._quantiser.groups
        features, present = np.zeros((devices, self._fusion.partition.features), np.float32), np.zeros(devices, bool)
        for frame in frames:
            index = self.devices.index(frame.device)
            present[index] = frame.received[index * groups:(index + 1) * groups].all()
            features[index] = self._quantiser.dequantise(frame.rows)[index]
        decoded = time.monotonic()
        most_likely = top_classes(self._fusion.answer(features, present), max(self._top_k, *(frame.top_k for frame in frames)))
        return Outcome(*most_likely, present, RecoveryName.NONE if present.all() else RecoveryName.OMISSION, decoded - began,
                       time.monotonic() - decoded)

    def warm_up(self, max_batch: int = 1) -> int:
        self._fusion.answer(np.zeros((len(self.devices), self._fusion.partition.features), np.float32), np.ones(len(self.devices), bool))
        return max_batch


def _image_of(frame: ReceivedFrame) -> tuple[str, int]:
    """The robot and the stamp of the image that a frame is of."""
    return group_of(frame.robot, frame.device), frame.capture_stamp_ns
