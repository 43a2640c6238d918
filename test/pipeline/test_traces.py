"""Robot and bridge write a trace of their link, and what is played of it loses what they lost."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('torch')
from evitif import run_bridge, run_edge
from evitif.transport import Impairment, LinkSimulator
from evitif.transport.link_trace import load_trace

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'num_classes': 3, 'image_size': '32', 'cut': 1, 'unsealed': True, 'threads': 1}
IMAGES, LOSS = 40, 0.3


def test_both_sides_write_what_arrives_over_their_link(tmp_path):
    link, answers = None, []
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with run_bridge(**MODEL, port=0, bind_host='127.0.0.1', trace_folder=str(tmp_path)) as bridge:
        link = LinkSimulator(('127.0.0.1', 0), bridge.local_address, seed=3)
        link.start()
        host, port = link.local_address
        try:
            with run_edge(answers.append, **MODEL, bridge_host=host, bridge_port=port, trace_folder=str(tmp_path)) as edge:
                until = time.monotonic() + 60
                while not edge.statistics().link.round_trip_s > 0 and time.monotonic() < until:
                    time.sleep(0.01)
                for direction in ('uplink', 'downlink'):
                    link.set_impairment(direction, Impairment(loss=LOSS, delay_s=0.002))
                for number in range(IMAGES):
                    edge.submit(np.roll(image, number, 1), number * 10**9)
                    time.sleep(0.02)
                until = time.monotonic() + 60
                while edge.statistics().frames_answered < IMAGES // 2 and time.monotonic() < until:
                    time.sleep(0.01)
        finally:
            link.stop()
    for direction in ('uplink', 'downlink'):
        path, = tmp_path.glob(f'robot-{direction}-*.csv')
        trace = load_trace(str(path))
        assert len(trace.delay) > IMAGES
        assert trace.loss == pytest.approx(LOSS, abs=0.2)
