"""Images reach other processes, and everybody sees everybody, with ROS as it comes: no variable set, a plain node on the other side."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

import numpy as np
from PIL import Image
from ros_domains import plain_node_sees

from benchmarks.images import SAME, SIZES, default_environment, exchange, peer, two_hosts
from benchmarks.link.namespaces import LinkError
from evitif_ros import fast_dds

IMAGES = 20
MOST = 15       # on a busy machine; as Fast DDS comes 0 to 4 arrive


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No variable and no file by which a user configures Fast DDS."""
    for name in fast_dds.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hosts(request):
    """The same host, or two of them."""
    with contextlib.ExitStack() as stack:
        try:
            yield SAME if request.param == 'same' else stack.enter_context(two_hosts())
        except LinkError as error:
            pytest.skip(f'no second host: {error}')


@pytest.fixture
def pictures(tmp_path):
    """A folder of one picture of 1920 x 1080."""
    Image.fromarray(np.zeros((1080, 1920, 3), np.uint8)).save(tmp_path / 'picture.png', compress_level=1)
    return tmp_path


# --- which process takes the profile ---

def test_the_profile_is_named_by_the_variable_of_this_ros(clean, monkeypatch):
    assert fast_dds.take_profile() == ''
    assert fast_dds.variable() in fast_dds.VARIABLES[:2]
    assert [name for name in fast_dds.VARIABLES if name in os.environ] == [fast_dds.variable()]
    assert Path(os.environ[fast_dds.variable()]).name == 'fastdds.xml'


@pytest.mark.parametrize('variable', fast_dds.VARIABLES)
def test_what_the_user_has_set_is_kept(clean, monkeypatch, variable):
    monkeypatch.setenv(variable, 'mine')
    before = dict(os.environ)
    assert fast_dds.take_profile() == ''
    assert dict(os.environ) == before


@pytest.mark.parametrize('file', fast_dds.FILES)
def test_a_profile_in_the_working_directory_is_kept(clean, tmp_path, file):
    (tmp_path / file).write_text('<profiles/>')
    before = dict(os.environ)
    assert fast_dds.take_profile() == '' and dict(os.environ) == before


def test_on_another_dds_nothing_is_set_and_nothing_advised(clean, monkeypatch):
    monkeypatch.setattr(fast_dds, 'get_rmw_implementation_identifier', lambda: 'rmw_cyclonedds_cpp')
    before = dict(os.environ)
    assert fast_dds.take_profile() == '' and dict(os.environ) == before and fast_dds.remedy() == ''


@pytest.mark.parametrize('free', [0, 8_000_000, 20_000_000])
def test_too_little_shared_memory_is_said_and_the_node_runs_without(clean, monkeypatch, free):
    monkeypatch.setattr(fast_dds.os, 'statvfs', lambda folder: SimpleNamespace(f_bavail=free, f_frsize=1))
    before = dict(os.environ)
    assert f'/dev/shm has {free / 1e6:.1f} MB free, expected at least 33.6' in fast_dds.take_profile()
    assert dict(os.environ) == before


def test_missing_shared_memory_is_said(clean, monkeypatch):
    monkeypatch.setattr(fast_dds, 'SHARED_MEMORY', Path('/no/such/folder'))
    assert '/no/such/folder has 0.0 MB free' in fast_dds.take_profile()


# --- what it brings ---

@pytest.mark.parametrize('discovery', ['SUBNET', 'LOCALHOST'])
@pytest.mark.parametrize('image', SIZES)
def test_images_arrive_by_the_profile(ros_domain, image, discovery):
    received = exchange(SIZES[image], 'best_effort', ros_domain, profile=True, images=IMAGES, ROS_AUTOMATIC_DISCOVERY_RANGE=discovery)
    assert received is not None and received >= MOST


@pytest.mark.parametrize('hosts', ['same', 'second'], indirect=True)
def test_the_camera_nodes_images_arrive_at_a_plain_subscriber(ros_domain, hosts, pictures):
    """The camera node is started with no variable set; over a network whoever wants each large image subscribes reliably."""
    environment = default_environment(ROS_DOMAIN_ID=str(ros_domain))
    reliability = 'best_effort' if hosts is SAME else 'reliable'
    camera = [*hosts.publisher, sys.executable, '-m', 'evitif_edge_node.camera_node', '--ros-args', '-r', 'image:=/pictures',
              *[part for name, value in {'source': pictures, 'count': IMAGES, 'loop': 'true', 'rate': 10.0, 'exit_when_done': 'true',
                                         'wait_for_subscribers': 1}.items() for part in ('-p', f'{name}:={value}')]]
    with peer(hosts.subscriber, ['receive', reliability], environment) as subscriber:
        subscriber.stdout.readline()
        done = subprocess.run(camera, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        subscriber.terminate()
        received = int(subscriber.communicate(timeout=60)[0])
    assert received >= MOST


def test_a_plain_node_sees_the_nodes_that_publish_images(ros_domain, launch_node, pictures, monkeypatch):
    for name in fast_dds.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    camera = launch_node('evitif_edge_node.camera_node', {'source': pictures, 'rate': 1.0, 'loop': True}, namespace='/seen')
    camera.wait_for_output('source:')
    with plain_node_sees('/seen/image', 'camera', ros_domain):
        pass
    camera.kill()
