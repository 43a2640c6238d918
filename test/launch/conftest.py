"""What the launch tests share: a ROS domain of their own, free ports, images, a small model, and a listening node."""

import contextlib
import random
import socket
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from ros_domains import own_domain
from small_systems import write_pair, write_partition, write_patch_code

from evitif.pipeline.strategy_table import Measured, save_table

LAUNCH_FOLDER = Path(__file__).resolve().parents[2] / 'launch'

# A small ViT with random weights, the same on both sides, so that no file is needed: 65 tokens. A busy machine answers late.
PARAMETERS = """\
/**/{node}:
  ros__parameters:
    model: vit_tiny_patch16_224
    random_seed: 7
    image_size: 128
    num_classes: 10
    threads: 1
    unsealed: true
    publish_stats_rate: 5.0
    {late}
"""
LATE = {'edge_node': 'answer_deadline: 5.0', 'bridge_node': 'reassembly_deadline: 1.0'}


@pytest.fixture
def launch_folder():
    return LAUNCH_FOLDER


@pytest.fixture
def ros_domain(monkeypatch):
    """Give this test's processes a ROS domain of their own, and no more threads than they need."""
    # Two processes with a thread for every core wait for each other's threads on a loaded machine, for minutes.
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    with own_domain() as domain:
        monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
        yield domain


@pytest.fixture
def parameter_file(tmp_path):
    path = tmp_path / 'parameters.yaml'
    path.write_text(''.join(PARAMETERS.format(node=node, late=late) for node, late in LATE.items()))
    return path


# Small models of the other strategies; the link's time-outs are those of a busy machine.
STRATEGY = """\
/**/edge_node:
  ros__parameters: {{strategy: {strategy}, {models}, threads: 1, unsealed: true, publish_stats_rate: 5.0, answer_deadline: 1.0}}
/**/bridge_node:
  ros__parameters: {{strategy: {strategy}, {models}, threads: 1, unsealed: true, publish_stats_rate: 5.0, session_timeout: 1.0}}
"""


@pytest.fixture
def selection_file(tmp_path):
    """A light and a large model that belong together, of which the light one is never sure."""
    light, large = write_pair(tmp_path / 'pair')
    path = tmp_path / 'selection.yaml'
    path.write_text(STRATEGY.format(strategy='selection', models=f"model: '{large}', light_model: '{light}'"))
    return path


@pytest.fixture
def moved_patches_file(tmp_path):
    """A large model for robots that run none."""
    _, large = write_pair(tmp_path / 'pair')
    write_patch_code(large)
    path = tmp_path / 'moved_patches.yaml'
    path.write_text(STRATEGY.format(strategy='selection', models=f"model: '{large}'"))
    return path


@pytest.fixture
def auto_file(tmp_path):
    """The same pair, with a table of strategies by which a thin link takes selection and another one split."""
    light, large = write_pair(tmp_path / 'pair')
    rates = (0.0, 0.3, 0.6)
    save_table(large, 'large', [
        Measured('split', 1, None, 1e6, dict.fromkeys(rates, 9000.0), dict.fromkeys(rates, 0.0)),
        Measured('selection', None, light, 1e6, dict.fromkeys(rates, 900.0), dict.fromkeys(rates, -0.8))], '')
    path = tmp_path / 'auto.yaml'
    path.write_text(STRATEGY.format(strategy='auto', models=f"model: '{large}'"))
    return path


@pytest.fixture
def partition_file(tmp_path):
    """A partition among three devices."""
    path = tmp_path / 'partition.yaml'
    path.write_text(STRATEGY.format(strategy='partition', models=f"partition: '{write_partition(tmp_path / 'partition')}'"))
    return path


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of four noisy pictures."""
    images = pytest.importorskip('PIL.Image', reason='the camera node shows pictures made with Pillow')
    for number in range(8):
        folder = tmp_path / 'images' / ('even', 'odd')[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        images.effect_noise((128, 128), 40 + 10 * number).convert('RGB').save(folder / f'{number}.png')
    return tmp_path / 'images'


@pytest.fixture
def free_ports():
    """Two UDP ports where nobody listens."""
    # Not of those that the system gives to whoever asks for any: until a node binds its own it has time to give them away.
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < 2:
            port = random.randrange(10_000, 32_000)
            try:
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(('127.0.0.1', port))
            except OSError:
                continue
            ports.append(port)
        return ports


class Listener:
    """A node that keeps what it hears."""

    def __init__(self):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        self._context = rclpy.Context()
        self._context.init()
        self.node = rclpy.create_node('launch_test', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def listen(self, message_type, topic):
        """The list that messages of this topic are appended to."""
        heard = []
        self.node.create_subscription(message_type, topic, heard.append, 100)
        return heard

    def listen_latched(self, module, name, topic):
        """The same of a latched topic; None where the messages' package is not installed."""
        import importlib

        from rclpy.qos import DurabilityPolicy, QoSProfile
        heard = []
        try:
            kind = getattr(importlib.import_module(module), name)
        except ImportError:
            return None
        self.node.create_subscription(kind, topic, heard.append, QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        return heard

    def wait_until(self, condition, timeout, what):
        """Spin until the condition holds; fail with `what` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f'after {timeout:g} s: {what()}'
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def ask(self, service_type, name, timeout=15.0, **request):
        """Call a service with these fields of its request."""
        client = self.node.create_client(service_type, name)
        self.wait_until(client.service_is_ready, timeout, lambda: f'there is no service {name}')
        future = client.call_async(service_type.Request(**request))
        self.wait_until(future.done, timeout, lambda: f'{name} does not answer')
        return future.result()

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def listener(ros_domain):
    listening = Listener()
    yield listening
    listening.close()
