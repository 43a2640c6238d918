"""The bridge's figures are there for Prometheus, and right."""

import re
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from running_system import IMAGE, System, wait

from evitif.pipeline import BridgeRuntime
from evitif.settings import bridge_settings
from evitif.transport.addresses import TransportError

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1, 'unsealed': True}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def scrape(port: int) -> dict[str, float]:
    """Samples by name and labels, as the text has them."""
    text = urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=5).read().decode()
    return {name: float(value) for name, value in (line.rsplit(' ', 1) for line in text.splitlines() if not line.startswith('#'))}


def test_frames_losses_and_times_are_those_of_the_bridge():
    pytest.importorskip('prometheus_client', reason='prometheus_client is not installed (requirements/fleet.txt)')
    port = free_port()
    with System({**MODEL, 'robot_name': 'a "robot"'}, bridge={**MODEL, 'metrics_port': port}) as system:
        system.connected()
        for _ in range(5):
            answered = len(system.robot)
            system.edge.submit(IMAGE, 0)
            wait(lambda before=answered: len(system.robot) > before)
        wait(lambda: len(system.off_board) == 5)
        now, known = scrape(port), system.bridge.statistics()
    assert now['evitif_bridge_robots'] == 1
    assert now['evitif_bridge_frames_total{outcome="answered"}'] == known.frames_answered == 5
    assert now['evitif_bridge_answer_seconds_count'] == now['evitif_bridge_wait_seconds_count'] == 5
    assert 0 < now['evitif_bridge_answer_seconds_sum'] < 5 * 15.0
    assert now['evitif_bridge_robot_packet_loss_ratio{direction="uplink",robot="a \\"robot\\""}'] == 0.0
    assert now['evitif_bridge_robot_bytes_total{direction="uplink",robot="a \\"robot\\""}'] > 1_000
    (info,) = (name for name in now if name.startswith('evitif_bridge_info'))
    assert 'model="vit_tiny_patch16_224"' in info
    with pytest.raises(OSError):
        scrape(port)


def test_a_port_that_is_taken_is_named_and_the_bridge_is_gone():
    pytest.importorskip('prometheus_client', reason='prometheus_client is not installed (requirements/fleet.txt)')
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        bridge = BridgeRuntime(bridge_settings(**MODEL, bind_host='127.0.0.1', port=0, metrics_port=port), on_prediction=print)
        with pytest.raises(TransportError, match=f'metrics_port: no HTTP server on 127.0.0.1:{port}: .*; expected a free'):
            bridge.start()


def test_without_the_client_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'prometheus_client', None)
    bridge = BridgeRuntime(bridge_settings(**MODEL, bind_host='127.0.0.1', port=0, metrics_port=9464), on_prediction=print)
    with pytest.raises(ModuleNotFoundError, match='pip install -r requirements/fleet.txt'):
        bridge.start()


def test_the_dashboard_asks_for_what_there_is():
    pytest.importorskip('prometheus_client', reason='prometheus_client is not installed (requirements/fleet.txt)')
    from prometheus_client.parser import text_string_to_metric_families
    port = free_port()
    with System(MODEL, bridge={**MODEL, 'metrics_port': port}) as system:
        system.connected()
        text = urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=5).read().decode()
    known = set()
    for family in text_string_to_metric_families(text):
        known |= {family.name, f'{family.name}_total'} if family.type == 'counter' else {family.name, f'{family.name}_bucket'}
    asked = set(re.findall(r'evitif_\w+', (Path(__file__).parents[2] / 'config/grafana.json').read_text()))
    assert len(asked) >= 9 and asked <= known
