"""The robot's process: images at a fixed rate to one contestant at a time, and when each was answered."""

from __future__ import annotations

import json
import math
import sys
import threading
import time

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants import CONTESTANTS
from benchmarks.link.contestants.context import Context
from benchmarks.link.images import image_stream
from benchmarks.link.processes import serve


class Turn:
    """What happened to the images of one turn. Answers come in from any thread."""

    def __init__(self):
        self._changed = threading.Condition()
        self.submitted: dict[int, float] = {}
        self.answers: dict[int, tuple[float, int, float]] = {}      # when, class id, seconds of computation
        self.replaced: set[int] = set()

    def answered(self, number: int, class_id: int, compute: float) -> None:
        """An answer arrived."""
        now = time.monotonic()
        with self._changed:
            if number in self.submitted and number not in self.answers:
                self.answers[number] = now, class_id, compute
                self._changed.notify_all()

    def was_replaced(self, number: int) -> None:
        """A newer image took its place."""
        with self._changed:
            if number in self.submitted:
                self.replaced.add(number)
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until every image was answered or replaced, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.answers) + len(self.replaced) >= len(self.submitted), seconds)


class Robot:
    """:param settings: see `Context`; `data`, `images`: where how many images come from"""

    def __init__(self, settings: dict):
        self._context = Context(settings)
        self._images, self._about = image_stream(settings['data'], self._context.stream.split.image_size, settings['images'])
        self._classes = [self._context.whole(image) for image in self._images]
        self._sides: dict[str, object] = {}
        self._turn = Turn()
        self._number = 0

    def about(self) -> dict:
        """What is sent."""
        parameters = self._context.stream.parameters
        return {'images': self._about, 'image_size': list(parameters.image_size), 'model': parameters.model,
                'fingerprint': parameters.fingerprint, 'tokens': parameters.tokens, 'channels': parameters.channels,
                'int8_bytes': parameters.units * parameters.row_bytes}

    def connect(self, contestant: str, condition: dict) -> None:
        """Make the contestant ready for the condition."""
        entry = CONTESTANTS[contestant]
        if contestant not in self._sides:
            # By way of this object, since each turn has a record of its own.
            self._sides[contestant] = entry.part('Robot')(self._context, {**entry.options, 'name': contestant},
                                                          lambda *answer: self._turn.answered(*answer),
                                                          lambda number: self._turn.was_replaced(number))
        self._sides[contestant].connect(Condition(**condition))

    def disconnect(self, contestant: str) -> None:
        """End the contestant's turn."""
        self._sides[contestant].disconnect()

    def turn(self, contestant: str, warm_up: int, frames: int) -> dict:
        """
        Send `warm_up` images that do not count, then `frames` that do.

        :return: for each image the latency in ms, None where no answer came in time; the part of it that was computation; how
            many images were replaced by newer ones before they were sent; how many answers were the whole model's; CPU seconds
        """
        side, interval = self._sides[contestant], 1 / self._context.settings['rate']
        numbers = range(self._number, self._number + warm_up + frames)
        self._number = numbers.stop
        turn = self._turn = Turn()
        replaced_before = 0
        began = time.monotonic() + interval
        for index, number in enumerate(numbers):
            time.sleep(max(0.0, began + index * interval - time.monotonic()))
            if index == warm_up:
                cpu, wall = time.process_time(), time.monotonic()
                replaced_before = getattr(side, 'replaced', 0)
            image = self._images[number % len(self._images)]
            turn.submitted[number] = time.monotonic()
            side.submit(number, image)
        time.sleep(interval)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        turn.wait(side.gives_up_s - interval)
        counted = [number for number in numbers[warm_up:] if number not in turn.replaced]
        answers = {number: turn.answers[number] for number in counted if number in turn.answers
                   and turn.answers[number][0] - turn.submitted[number] <= side.gives_up_s}
        return {'latency_ms': [round(1e3 * (answers[n][0] - turn.submitted[n]), 3) if n in answers else None for n in counted],
                'compute_ms': [_finite(1e3 * answers[n][2]) if n in answers else None for n in counted],
                'replaced': frames - len(counted) + getattr(side, 'replaced', 0) - replaced_before,
                'agree': sum(answers[n][1] == self._classes[n % len(self._images)] for n in answers),
                'gives_up_s': side.gives_up_s, 'cpu_s': cpu, 'wall_s': wall, 'state': getattr(side, 'state', {})}


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def main() -> int:
    """Do what the measuring process asks for."""
    np.seterr(all='ignore')
    robot = Robot(json.loads(sys.argv[1]))
    serve({'about': robot.about, 'connect': robot.connect, 'disconnect': robot.disconnect, 'turn': robot.turn})
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
