"""What the tests of heads share lies beside their folder."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from heads_backbone import Backbone, probe_of  # noqa: E402

from evitif.heads import save_head  # noqa: E402


@pytest.fixture
def backbone():
    """A small one."""
    return Backbone()


@pytest.fixture
def folder(tmp_path, backbone):
    """A head for it, that reads its last block."""
    save_head(tmp_path / 'table', probe_of(backbone.reading()), backbone.module, {'model': backbone.name})
    return tmp_path / 'table'


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield
