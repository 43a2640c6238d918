"""A node leaves the cores that it does not compute on to the others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evitif_ros.program_start import share_the_cores

VARIABLES = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME', 'OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS')


@pytest.mark.parametrize(('environment', 'wait', 'products'), [
    ({}, 'PASSIVE', '1'), ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE', '1'), ({'GOMP_SPINCOUNT': '10'}, None, '1'),
    ({'OPENBLAS_NUM_THREADS': '4'}, 'PASSIVE', '4'), ({'OMP_NUM_THREADS': '2'}, 'PASSIVE', None)])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(monkeypatch, environment, wait, products):
    for name in VARIABLES:
        monkeypatch.setenv(name, environment.get(name, ''))
        if name not in environment:
            monkeypatch.delenv(name)
    share_the_cores()
    assert (os.environ.get('OMP_WAIT_POLICY'), os.environ.get('OPENBLAS_NUM_THREADS')) == (wait, products)


@pytest.mark.parametrize('module', ['evitif_edge_node.edge_node', 'evitif_edge_node.camera_node', 'evitif_cloud_bridge.bridge_node',
                                    'evitif_cloud_bridge.link_simulator_node'])
def test_a_node_says_so_before_numpy_is_imported(module):
    """OpenBLAS makes its threads when it is loaded, and they spin."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    code = f"""
import os, sys, runpy
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == 'numpy':
            print(os.environ.get('OPENBLAS_NUM_THREADS'), os.environ.get('OMP_WAIT_POLICY'), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
runpy.run_module({module!r}, run_name='__main__')
"""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout == '1 PASSIVE\n', done.stderr
