"""evitif: the runtimes that the nodes run, sealed, connected once and left alone."""

from __future__ import annotations

import threading

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants.context import Context, OnAnswer, OnReplaced
from evitif.pipeline import BridgeRuntime, EdgeRuntime, Prediction
from evitif.protocol.events import Connected
from evitif.settings import bridge_settings, edge_settings

CONNECT_S = 10.0


def _ignore(*arguments) -> None:
    pass


class Robot:
    gives_up_s = 1.0        # the edge does after `answer_deadline`, 0.5 s

    def __init__(self, context: Context, options: dict, on_answer: OnAnswer, on_replaced: OnReplaced):
        host, port = context.reach(options['name'])
        self._on_answer, self._on_replaced = on_answer, on_replaced
        self._connected = threading.Event()
        self._replaced = 0
        self._numbers: list[int] = []
        self._edge = EdgeRuntime(
            edge_settings(**context.settings['model'], quantisation=options['quantisation'], robot_name='robot', bridge_host=host,
                              bridge_port=port, key_file=context.settings['key_file'], threads=1, answer_memory=0.0),
            on_prediction=self._answered, on_event=self._event, log=_ignore)
        self._edge.start()

    def connect(self, condition: Condition) -> None:
        """:raises TimeoutError: the bridge does not answer"""
        if not self._connected.wait(CONNECT_S):
            raise TimeoutError(f'evitif did not connect within {CONNECT_S:g} s: {self._edge.statistics().reason}')

    def submit(self, number: int, image: np.ndarray) -> None:
        """Hand the image to the edge."""
        self._edge.submit(image, number, context=number)

    def disconnect(self) -> None:
        """Stop the edge."""
        pass

    @property
    def replaced(self) -> int:
        """Images that a newer one took the place of, since the start."""
        return self._edge.statistics().frames_replaced

    @property
    def state(self) -> dict:
        """What the edge counted."""
        link = self._edge.statistics().link
        return {'loss_reported': link.remote_packet_error_rate, 'round_trip_ms': 1e3 * link.round_trip_s}

    def _event(self, event: object) -> None:
        if isinstance(event, Connected):
            self._connected.set()

    def _answered(self, prediction: Prediction) -> None:
        stages = prediction.stages
        self._on_answer(prediction.context, prediction.class_ids[0], stages.preprocess + stages.head + stages.recovery + stages.tail)


class Bridge:
    def __init__(self, context: Context, options: dict):
        host, port = context.listen(options['name'])
        self._bridge = BridgeRuntime(
            bridge_settings(**context.settings['model'], quantisation=options['quantisation'], bind_host=host, port=port,
                                key_file=context.settings['key_file'], threads=1), on_prediction=_ignore, log=_ignore)
        self._bridge.start()

    def connect(self, condition: Condition) -> None:
        """Start the bridge."""
        pass
