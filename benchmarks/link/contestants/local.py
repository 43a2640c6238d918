"""The robot alone with the whole model."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants.context import Context, NewestImage, OnAnswer, OnReplaced


class Robot:
    gives_up_s = 3.0

    def __init__(self, context: Context, options: dict, on_answer: OnAnswer, on_replaced: OnReplaced):
        self._context, self._on_answer = context, on_answer
        self._images = NewestImage(self._answer, on_replaced)
        self.submit = self._images.submit

    def connect(self, condition: Condition) -> None:
        """Nothing to reach."""
        pass

    def disconnect(self) -> None:
        """Nothing to close."""
        self._images.discard()

    def _answer(self, number: int, image: np.ndarray) -> None:
        began = time.monotonic()
        class_id = self._context.whole(image)
        self._on_answer(number, class_id, time.monotonic() - began)


class Bridge:
    def __init__(self, context: Context, options: dict):
        pass

    def connect(self, condition: Condition) -> None:
        """Nothing to do."""
        pass
