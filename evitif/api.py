"""The library's front door: the functions behind `import evitif`. They join the parts and add nothing of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evitif.heads.results import top_classes
from evitif.model.folder import artifact_beside
from evitif.pipeline import BridgeRuntime, EdgeRuntime, Prediction
from evitif.pipeline.arriving_maps import PlaceAnswer
from evitif.pipeline.cut_model import CutModel
from evitif.protocol.sealing.keys import write_key_file
from evitif.recovery import METHODS, ArtifactError, Recovered, Recovery
from evitif.recovery import load_recovery as load_artifact
from evitif.settings import SplitSettings, bridge_settings, edge_settings
from evitif.vocabulary import RecoveryName

__all__ = ['CutModel', 'Prediction', 'classify', 'decode', 'encode', 'load_model', 'load_recovery', 'make_key', 'recover', 'run_bridge',
           'run_edge']


def load_model(model: str, cut: int | None = None, **settings: Any) -> CutModel:
    """Load a Vision Transformer and cut it after block `cut`.

    >>> model = evitif.load_model('artifacts/fashion_mnist', cut=3)
    >>> model.parameters.tokens, model.parameters.channels, model.labels[9]
    (50, 192, 'Ankle boot')

    :param model: a model folder, or the name of a timm model
    :param cut: None: the model folder's own cut, else half of the depth
    :param settings: the nodes' parameters that are about the model: `pretrained` or `checkpoint` for a timm name, `quantisation`,
        `device`, `precision`, …
    :raises ModelError: the model cannot be loaded or cut there
    """
    return CutModel.load(SplitSettings(model=model, cut=cut, **settings))


def encode(model: CutModel, image: np.ndarray) -> np.ndarray:
    """Run the head on an image and code its tokens: uint8 [H, W, 3] RGB to uint8 [rows, bytes]. Each row can be decoded alone.

    >>> image = np.zeros((28, 28, 3), np.uint8)
    >>> evitif.encode(model, image).shape
    (50, 12)
    """
    return model.quantiser.quantise(model.head(model.preprocessor(image))[0].float().cpu().numpy())


def decode(model: CutModel, rows: np.ndarray) -> np.ndarray:
    """Decode rows uint8 [rows, bytes] to tokens float32 [tokens, channels]. Where a row was lost, any bytes will do.

    >>> tokens = evitif.decode(model, evitif.encode(model, image))
    >>> tokens.shape
    (50, 192)
    """
    return model.quantiser.dequantise(rows)


def load_recovery(model: CutModel, source: str | Path) -> Recovery:
    """Load what estimates lost tokens.

    >>> paldn = evitif.load_recovery(model, 'artifacts/fashion_mnist')
    >>> evitif.load_recovery(model, 'omission').name
    'omission'

    :param source: a model folder or timm name, with a PALDN for the model's cut beside it; a recovery's description (`….json`); or a method
        that needs no training: zero, mean, omission or interpolation
    :raises ArtifactError: there is none, or it was trained for other weights or another cut
    """
    cut, source = model.parameters.cut, str(source)
    if source in METHODS:
        return METHODS[RecoveryName(source)](model.blank_tokens, model.parameters.prefix_tokens, model.parameters.grid)
    path = source if source.endswith('.json') else artifact_beside(source, cut, suffix=model.identity.suffix)
    if path is None:
        raise ArtifactError(f'no PALDN was trained for {source} at cut {cut}: expected {source}/paldn-cut{cut}.json, '
                            f'which `evitif train recovery` writes, or one of {", ".join(METHODS)}')
    network, _ = load_artifact(path, model.identity, model.split)
    return network.to(model.placement.device)


@torch.inference_mode()
def recover(model: CutModel, recovery: Recovery, tokens: np.ndarray, received: np.ndarray) -> Recovered:
    """Estimate the tokens that did not arrive, or leave them out. Received tokens stay as they are.

    >>> received = np.random.default_rng(1).random(len(tokens)) < 0.4
    >>> recovered = evitif.recover(model, paldn, tokens, received)

    :param tokens: float32 [tokens, channels], any values at lost places
    :param received: bool [tokens]
    :returns: what `classify` takes; its `tokens` are [1, tokens, channels]
    """
    device = model.placement.device
    lost = torch.tensor([1.0 - float(received.mean())], device=device)
    return recovery.recover(torch.from_numpy(tokens)[None].to(device), torch.from_numpy(received)[None].to(device), lost)


def classify(model: CutModel, tokens: np.ndarray | Recovered, top_k: int = 5) -> list[tuple[str, float]]:
    """Run the tail on tokens float32 [tokens, channels], or on what `recover` returned. The most likely labels with their probabilities.

    >>> label, probability = evitif.classify(model, recovered)[0]
    >>> label in model.labels and 0 < probability <= 1
    True
    """
    probabilities = model.tail(tokens if isinstance(tokens, Recovered) else torch.from_numpy(tokens)[None])
    return [(model.labels[index], score) for index, score in zip(*top_classes(probabilities, top_k), strict=True)]


def make_key(path: str | Path) -> None:
    """Write a new random key, which only its owner can read. Edge and bridge need the same file.

    >>> evitif.make_key('rover.key')

    :raises FileExistsError: the file exists; it is left alone
    """
    write_key_file(path)


@contextmanager
def run_edge(on_prediction: Callable[[Prediction], None], on_map: Callable[[PlaceAnswer], None] = lambda answer: None,
             **settings: Any) -> Iterator[EdgeRuntime]:
    """Run the robot's half until the block ends: `edge.submit(image, stamp_ns)` sends an image, and never waits.

    >>> import time
    >>> with evitif.run_edge(print, bridge_host='127.0.0.1', bridge_port=7600, key_file='rover.key') as edge:
    ...     edge.submit(image, time.time_ns())

    :param on_prediction: called with each answer, from a thread of the edge's own
    :param on_map: the same with what each of the `heads` says of each place of an image: a mask, a depth image
    :param settings: the parameters of `edge_node`, by the same names
    :raises ValueError: a setting is out of range, or there is neither `key_file` nor `unsealed=True`
    :raises ModelError: the model cannot be loaded
    """
    edge = EdgeRuntime(edge_settings(**settings), on_prediction=on_prediction, on_map=on_map)
    edge.start()
    try:
        yield edge
    finally:
        edge.stop()


@contextmanager
def run_bridge(on_prediction: Callable[[str, Prediction], None] = lambda robot, prediction: None,
               **settings: Any) -> Iterator[BridgeRuntime]:
    """Run the off-board half until the block ends; it answers every robot that has the key and the same model.

    >>> with evitif.run_bridge(port=0, key_file='rover.key') as bridge:
    ...     host, port = bridge.local_address

    :param on_prediction: called with the robot's name and each answer, from a thread of the bridge's own
    :param settings: the parameters of `bridge_node`, by the same names
    :raises ValueError: a setting is out of range, or there is neither `key_file` nor `unsealed=True`
    :raises OSError: the port is taken
    """
    bridge = BridgeRuntime(bridge_settings(**settings), on_prediction=on_prediction)
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop()
