"""Small models on disk."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_systems import write_pair, write_partition


@pytest.fixture(scope='session')
def pair(tmp_path_factory):
    """(light, large): folders that belong together; the light model is never sure."""
    return write_pair(tmp_path_factory.mktemp('pair'))


@pytest.fixture(scope='session')
def partition(tmp_path_factory):
    return write_partition(tmp_path_factory.mktemp('partition') / 'small')
