"""Files that somebody trained, or that a download left half: descriptions of models, recoveries and codes with any content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evitif.model.build import read_description
from evitif.model.code_artifact import FORMAT as CODE_FORMAT
from evitif.model.code_artifact import KIND, load_code
from evitif.model.errors import ArtifactError, ModelError
from evitif.model.folder import DESCRIPTION_FILE, artifact_path
from evitif.pipeline.rate_table import FIGURES, RateTable
from evitif.recovery.artifact import FORMAT as RECOVERY_FORMAT
from evitif.recovery.artifact import load_recovery
from fuzz.parsers import SCRATCH
from fuzz.stream import Stream

FINGERPRINT = 'ab' * 32
_KEYS = ('format', 'architecture', 'model_kwargs', 'pretrained_cfg', 'class_names', 'labels', 'name', 'default_cut', 'kind', 'cut',
         'fingerprint', 'sequence', 'options', 'figures', 'default', 'digest', 'loss_range')


def read_artifacts(data: bytes) -> None:
    """A description that is these bytes, and one that is right but for some of its values; weights of any bytes beside it."""
    stream = Stream(data)
    structured = stream.number() & 1
    content = json.dumps(_description(stream)).encode() if structured else stream.rest()
    weights = stream.take(64)
    folder = SCRATCH / 'model'
    folder.mkdir(exist_ok=True)
    for kind in ('klt', 'linear'):
        artifact_path(folder, 1, kind).with_suffix('.safetensors').write_bytes(weights)
        artifact_path(folder, 1, kind).write_bytes(content)
    (folder / DESCRIPTION_FILE).write_bytes(content)
    for read in (lambda: read_description(folder), lambda: load_code(artifact_path(folder, 1, 'klt'), FINGERPRINT),
                 lambda: load_recovery(artifact_path(folder, 1, 'linear'), FINGERPRINT, SimpleNamespace(cut=1))):
        _refused_or_read(read, folder)
    if structured:
        table = _refused_or_read(lambda: RateTable.of(json.loads(content)), folder)
        assert table is None or table.coding and all(len(pair) == 2 for pair in table.lost)


def _refused_or_read(read: Callable[[], Any], folder: Path):
    try:
        return read()
    except (ModelError, ArtifactError) as error:
        assert '\n' not in str(error).replace(str(folder), ''), 'not one sentence'
        return None


def _description(stream: Stream) -> dict:
    value = {'format': stream.choice((CODE_FORMAT, RECOVERY_FORMAT)), 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': {},
             'pretrained_cfg': {}, 'class_names': ['a', 'b'], 'kind': stream.choice((KIND, 'linear', 'paldn')), 'cut': 1,
             'fingerprint': FINGERPRINT, 'default': 'klt1', 'digest': '0',
             'figures': {FIGURES: {'coding': {'klt1': 0.1}, 'lost': [[0.0, 0.0], [1.0, 0.8]]}}}
    for _ in range(stream.number() % 4):
        key = stream.choice(_KEYS)
        value[key] = stream.choice((None, 1, -1.5, True, '', [], {}, [None], {'a': 1}, [1, 2], [[0, 1]], {'klt1': {}},
                                    {FIGURES: 1}, {FIGURES: {'coding': 1, 'lost': [[0, 0]]}}, {FIGURES: {'coding': {}, 'lost': []}},
                                    stream.value(), stream.take(4).decode('latin-1')))
    return value


TARGETS = {'artifacts': read_artifacts}
