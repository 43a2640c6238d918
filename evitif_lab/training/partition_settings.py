"""How a model is divided among devices, and how long it is trained for that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evitif.partition.view import View
from evitif_lab.commands.configuration import ModelChoice, option
from evitif_lab.commands.options import MOST, not_negative_int, positive, positive_int, seed, whole
from evitif_lab.partition.pruning import Limit
from evitif_lab.partition.sizes import parameters_of
from evitif_lab.partition.views import device_views
from evitif_lab.training.partition_retraining import Schedule
from evitif_lab.trials.original import Original

STEPS = ('subsets', 'body', 'prune', 'retrain', 'fuse')
REDUCTIONS = {1: 2.0, 2: 4.0, 3: 6.0, 5: 10.0, 10: 28.9}      # of the parameters, by number of devices


@dataclass(frozen=True, kw_only=True)
class PartitionTraining(ModelChoice):
    """The configuration of one partition; printed at its start and saved with its result."""

    data: str = option(help='fashion-mnist, moving-fashion, or a folder in the ImageFolder layout with train and val')
    output: str = option(help='folder of the artifact')
    devices: int = option(3, None, positive_int, metavar='N')
    subsets: str = option('similar', "similar (by the model's own confusions), random, or a JSON file: a list of class ids a device "
                          '(default: similar)', metavar='WHICH')
    redundancy: int = option(1, 'devices that each class is on', positive_int, metavar='R')
    reduction: float | None = option(
        None, "the original's parameters over a sub-model's, at least (default: 2, 4, 6, 10, 28.9 for 1, 2, 3, 5, 10 devices, else 3 N)",
        positive, metavar='X')
    multiply_adds: int | None = option(None, "a sub-model's at most, for one image", whole(1, 2**62))
    inventory: str | None = option(None, 'devices with name, memory (bytes) and compute (multiply-adds a second)', metavar='YAML')
    rate: float = option(10.0, 'frames a second, for the inventory', positive)
    images: int = option(50000, 'training images at most', positive_int)
    calibration_images: int = option(64, 'images by which each device is pruned: for the importance and the divergence', positive_int)
    begin: str | None = option(None, 'go on from an earlier partition of the model: its subsets, sub-models and fusion',
                               metavar='PARTITION')
    body: tuple[str, ...] | list[str] = option(
        (), 'prune the sub-models from a model of all classes that is pruned and trained once, in stages REDUCTION:STEPS and at last '
        'STEPS, such as 8:400 3000 (default: from the original)', nargs='+', metavar='STAGE')
    body_learning_rate: float = option(5e-3, '(default: 0.005; a tenth of it for a reduction of 2 to 4, which loses little)', positive)
    body_matrix_rate: float = option(0.01, '(default: 0.01, likewise)', positive)
    common_blocks: int = option(0, 'the first K blocks are the same on all devices', not_negative_int, metavar='K')
    steps: int = option(2000, 'of the retraining', positive_int)
    batch_size: int = option(64, None, positive_int)
    learning_rate: float = option(3e-3, "AdamW's", positive)
    matrix_rate: float = option(5e-3, "Muon's, of the blocks' weight matrices", positive)
    held_out: int = option(0, 'training images at least from which only the fusion learns, which then knows how far to trust the '
                           'sub-models (default: 0, it learns from theirs)', whole(-MOST), metavar='IMAGES')
    fusion_images: int = option(20000, 'drawn over all images and their views', positive_int)
    fusion_steps: int = option(1000, None, positive_int)
    device_views: int = option(
        0, 'each device sees the image moved by so many pixels, every second one its mirror image, so that the devices err less alike; '
        'with --common-blocks all learn from the image as it is (default: 0, all see it as it is)', not_negative_int, metavar='PIXELS')
    views: int = option(0, 'train on V more views of each image too, moved and mixed, each answered by the original', not_negative_int,
                        metavar='V')
    answers: str | None = option(None, "where to keep the original's answers on the training images and the bodies, for several trainings "
                                 'to share (default: OUTPUT/steps)', metavar='DIR')
    seed: int = option(0, None, seed)
    precision: str = option('fp32', 'of the retraining; bf16 (automatic mixed precision) is slower for narrow sub-models',
                            choices=('fp32', 'bf16'))
    answers_precision: str = option('fp32', "of the original's answers", choices=('fp32', 'bf16'))
    step: str = option('all', '(default: all that are not done yet)', choices=('all', 'subsets', 'body', 'prune', 'retrain', 'fuse'))

    @property
    def schedule(self) -> Schedule:
        """Of the retraining."""
        return Schedule(self.steps, self.batch_size, self.learning_rate, self.matrix_rate)

    def limit(self, original: Original) -> Limit:
        """What a sub-model may have at most."""
        reduction = self.reduction or REDUCTIONS.get(self.devices, 3.0 * self.devices)
        return Limit(int(parameters_of(original.module) / reduction), self.multiply_adds)

    @property
    def own_views(self) -> tuple[View, ...]:
        """How each device looks at an image."""
        return device_views(self.devices, self.device_views)

    @property
    def training_views(self) -> tuple[View, ...]:
        """The same while the sub-models learn: as it is where blocks are common, which are so to be computed once."""
        return () if self.common_blocks else self.own_views

    @property
    def shared(self) -> Path:
        """Where the original's answers and the bodies are kept."""
        return Path(self.answers) if self.answers else Path(self.output) / 'steps'
