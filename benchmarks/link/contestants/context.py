"""What all contestants of one process share: the model, where the other side is, and the newest-image slot."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numpy as np
import torch

from evitif.model.quantise import TokenQuantiser
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.slot import LatestSlots
from evitif.settings import SplitSettings

OnAnswer = Callable[[int, int, float], None]        # number, class id, seconds of computation on both sides
OnReplaced = Callable[[int], None]                  # number of an image that a newer one took the place of


class Context:
    """
    :param settings: `model`, arguments of SplitSettings; `reach`, (host, port) by contestant as the robot sees it; `listen`, the same
        as the bridge does; `key_file`; `rate`, images a second
    """

    def __init__(self, settings: dict):
        torch.set_num_threads(1)
        self.settings = settings

    def reach(self, name: str) -> tuple[str, int]:
        """The address of the bridge's port `name`, as the robot reaches it."""
        host, port = self.settings['reach'][name]
        return host, port

    def listen(self, name: str) -> tuple[str, int]:
        """The address that the bridge binds for `name`."""
        host, port = self.settings['listen'][name]
        return host, port

    @functools.cached_property
    def stream(self) -> CutModel:
        """The model that the contestants besides evitif's share."""
        stream = CutModel.load(SplitSettings(**self.settings['model'], quantisation='int8'))
        height, width = stream.split.image_size
        stream.tail(stream.head(stream.preprocessor(np.zeros((height, width, 3), np.uint8))))      # the first run is slow
        return stream

    @functools.cached_property
    def quantiser(self) -> TokenQuantiser:
        """Of int8 tokens."""
        return self.stream.quantisers['int8']

    def whole(self, image: np.ndarray) -> int:
        """The whole model's class for an image uint8 [h, w, 3]."""
        return int(self.stream.tail(self.stream.head(self.stream.preprocessor(image))).argmax())

    def head(self, image: np.ndarray) -> bytes:
        """The int8 tokens of an image."""
        tokens = self.stream.head(self.stream.preprocessor(image))
        return self.quantiser.quantise(tokens[0].float().numpy()).tobytes()

    def tail(self, rows: bytes) -> int:
        """The class that int8 tokens lead to."""
        parameters = self.stream.parameters
        values = np.frombuffer(rows, np.uint8).reshape(parameters.units, self.quantiser.row_bytes)
        return int(self.stream.tail(torch.from_numpy(self.quantiser.dequantise(values))[None]).argmax())


class NewestImage:
    """A thread that takes the newest image and works on it; an image that waits is replaced by the next one."""

    def __init__(self, work: Callable[[int, np.ndarray], None], on_replaced: OnReplaced):
        self._slots: LatestSlots = LatestSlots()
        self._work, self._on_replaced = work, on_replaced
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, number: int, image: np.ndarray) -> None:
        """Send an image, or keep it until there is room."""
        replaced = self._slots.put('image', (number, image))
        if replaced is not None:
            self._on_replaced(replaced[0])

    def discard(self) -> None:
        """Forget the image that waits."""
        self._slots.discard('image')

    def _run(self) -> None:
        while (item := self._slots.take()) is not None:
            self._work(*item)
