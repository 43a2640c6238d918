"""What can be known before a partition's training reads the first image: values, files, the data's classes, and whether the model can be
divided so at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from evitif.datasets import open_images
from evitif.files import parse_json
from evitif.model.device import place
from evitif.partition.checks import check_subsets
from evitif.wording import shortened
from evitif_lab.data.identity import identity_of
from evitif_lab.partition.placement import InventoryDevice, read_inventory
from evitif_lab.partition.pruning import require_prunable_to
from evitif_lab.partition.subsets import random_subsets, with_redundancy
from evitif_lab.plain import plain
from evitif_lab.training.partition_body import read_stages
from evitif_lab.training.partition_settings import STEPS, PartitionTraining
from evitif_lab.training.training_answers import require_held_out
from evitif_lab.trials.original import Original
from evitif_lab.writable import require_writable

FEWEST_IMAGES = 2           # of which there is a spread
BY_THE_MODEL = ('random', 'similar')


@dataclass(frozen=True)
class Files:
    """What the files say that a configuration names."""

    data: dict                                      # `identity_of` the training images and those that judge
    subsets: tuple[tuple[int, ...], ...] | None     # None: made by the training
    inventory: tuple[InventoryDevice, ...] | None

    def as_dict(self) -> dict:
        """As JSON has it."""
        return plain(asdict(self))


def check_values(c: PartitionTraining) -> None:
    """Raise ValueError, naming the value and what was expected, for one that no model and no data make good."""
    if c.step not in ('all', *STEPS):
        raise ValueError(f'step {c.step!r} is unknown (expected all, {", ".join(STEPS)})')
    read_stages(c.body)
    if c.held_out < 0:
        raise ValueError(f'held_out is {c.held_out}: expected 0 or more training images')
    if c.views < 0:
        raise ValueError(f'views are {c.views}: expected 0 or more')
    if c.begin is not None and c.body:
        raise ValueError(f'begin names the partition {c.begin!r} and body {" ".join(c.body)!r}: expected one of them, since what is begun '
                         'with is pruned already')
    if c.reduction is not None and not c.reduction >= 1:
        raise ValueError(f'reduction is {c.reduction}: expected at least 1')
    for precision in (c.precision, c.answers_precision):
        place(c.device, precision)
    for folder in (c.output, c.shared):
        require_writable(folder)


def check_files(c: PartitionTraining, original: Original) -> Files:
    """Read the files and see whether they and the model go together. Raises ValueError or one of its kinds."""
    depth, size = len(original.module.blocks), min(original.built.data_config['input_size'][1:])
    if not 0 <= c.common_blocks <= depth:
        raise ValueError(f'common_blocks is {c.common_blocks}: expected 0 to {depth}, the blocks of {c.model}')
    if not 0 <= c.device_views < size // 2:
        raise ValueError(f'device_views is {c.device_views}: expected 0 to {size // 2 - 1} pixels, less than half of the image')
    subsets = None if c.subsets in BY_THE_MODEL else read_subsets(c.subsets)
    if subsets is None:
        with_redundancy(random_subsets(original.classes, c.devices, c.seed), c.redundancy)
    else:
        if len(subsets) != c.devices:
            raise ValueError(f'{c.subsets} has {len(subsets)} subsets: expected {c.devices}, the number of devices')
        check_subsets(subsets, original.classes, c.redundancy, original.built.labels)
    inventory = None if c.inventory is None else read_inventory(c.inventory)
    if c.begin is None:
        require_prunable_to(original.module, c.limit(original), 2)
    return Files(_labelled(c, original), subsets, inventory)


def _labelled(c: PartitionTraining, original: Original) -> dict:
    data = {}
    for split in ('train', 'test'):
        dataset = open_images(c.data, split, class_names=original.built.class_names)
        if not 0 < len(dataset.class_names) <= original.classes:
            raise ValueError(f"{c.data}: expected labelled images of the model's {original.classes} classes, found "
                             f'{len(dataset.class_names) or "no"} classes in the {split} split')
        data[split] = identity_of(dataset)
    images = min(c.images, data['train']['images'])
    if images < FEWEST_IMAGES:
        raise ValueError(f'{c.data}: {images} training image: expected at least {FEWEST_IMAGES}')
    if c.held_out:
        require_held_out(c.held_out, images)
    return data


def read_subsets(path: str) -> tuple[tuple[int, ...], ...]:
    """Lists of class ids, one a device, from a JSON file. Raises ValueError, naming the file and what was expected."""
    try:
        content = parse_json(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise ValueError(f'subsets {path!r} is neither random, similar nor a file that can be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'subsets {path}: not valid JSON: {shortened(error)}') from None
    if not isinstance(content, list) or not all(isinstance(part, list) and all(type(index) is int for index in part) for part in content):
        raise ValueError(f'subsets {path}: expected a list of lists of class ids')
    return tuple(tuple(part) for part in content)
