"""The models of a strategy without a link: what the demo's answers are compared with, and how classes are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from evitif.datasets.class_names import ids_by_name
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.loading import entropy_patch_code
from evitif.settings import CommonSettings, PartitionSettings, SelectionSettings, SplitSettings
from evitif.vocabulary import Quantisation
from evitif_lab.trials.headed import with_head
from scripts.demo.class_ids import class_ids_of, id_of


@dataclass(frozen=True)
class Reference:
    """`answers` takes images uint8 [H, W, 3] to class ids, `class_id_of` a data set's label and number; -1 unknown."""

    title: str                                  # what runs, for the first line
    lossless: str                               # what `answers` runs
    answers: Callable[[list[np.ndarray]], list[int]]
    class_id_of: Callable[[str, int], int]
    about: dict                                 # for the summary
    device: str


def reference(config: CommonSettings) -> Reference:
    """Load the models of a strategy. Raises ModelError, ArtifactError or ValueError."""
    return {'split': split_reference, 'selection': selection_reference, 'partition': partition_reference}[config.strategy](config)


def split_reference(config: SplitSettings) -> Reference:
    """The uncut model, or the head on it."""
    stream = CutModel.load(config)
    if config.heads:
        stream = with_head(stream, config.heads)
    p = stream.parameters
    quantisation = Quantisation.CODED.value if stream.entropy is not None else 'auto' if stream.rates is not None else p.quantisation
    return Reference(f'{p.model}, cut after block {p.cut} of {stream.split.depth}, tokens {quantisation}'
                     + (f', head {config.heads}' if config.heads else ''), 'uncut model', _whole(stream),
                     class_ids_of(stream), {'model': p.model, 'cut': p.cut, 'quantisation': quantisation}, stream.placement.sentence)


def selection_reference(config: SelectionSettings) -> Reference:
    """The large model, on whole images."""
    from evitif.selection import Selector
    stream = CutModel.load(config.converted(SplitSettings, cut=0, quantisation='fp16'))
    if not config.light_model:
        return Reference(f'{stream.parameters.model} on the patches that moved, of a robot without a model', 'large model on whole images',
                         _whole(stream), class_ids_of(stream), {'model': stream.parameters.model, 'light_model': '',
                                                               'quantisation': Quantisation.CODED.value}, stream.placement.sentence)
    settings = Selector.load(config.light_model, large=config.model).settings
    coded = entropy_patch_code(config, config.model, stream.parameters.fingerprint) is not None
    quantisation = Quantisation.CODED.value if coded else settings.quantisation
    return Reference(
        f'{config.light_model} asks {stream.parameters.model} where its uncertainty is {settings.eta:.2g} or more, with the '
        f'patches that have {100 * settings.delta:g} % of the attention', 'large model on whole images', _whole(stream),
        class_ids_of(stream), {'model': stream.parameters.model, 'light_model': config.light_model, 'delta': settings.delta,
                               'eta': settings.eta, 'quantisation': quantisation}, stream.placement.sentence)


def partition_reference(config: PartitionSettings) -> Reference:
    """All devices, with none of their features lost."""
    from evitif.partition import load_device, load_fusion
    fusion = load_fusion(config.partition)
    known = ids_by_name(fusion.partition.class_names)
    models = [load_device(config.partition, entry.name) for entry in fusion.partition.devices]

    @torch.inference_mode()
    def answers(images: list[np.ndarray]) -> list[int]:
        features = np.stack([model.features_of(torch.cat([model.preprocessor(image) for image in images])) for model in models], 1)
        return [int(fusion.answer(row, np.ones(len(models), bool)).argmax()) for row in features]
    return Reference(f'{fusion.partition.model} divided among {len(models)} devices', 'all devices', answers,
                     lambda label, number: id_of(label, number, known),
                     {'model': fusion.partition.model, 'partition': config.partition}, 'device cpu')


def _whole(stream: CutModel) -> Callable[[list[np.ndarray]], list[int]]:
    @torch.inference_mode()
    def answers(images: list[np.ndarray]) -> list[int]:
        return stream.split.whole(torch.cat([stream.preprocessor(image) for image in images])).argmax(1).tolist()
    return answers
