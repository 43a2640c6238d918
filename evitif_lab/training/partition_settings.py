"""How a model is divided among devices, and how long it is trained for that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evitif.partition.slicing import parameters_of
from evitif.partition.view import View
from evitif_lab.partition.pruning import Limit
from evitif_lab.partition.views import device_views
from evitif_lab.training.partition_retraining import Schedule
from evitif_lab.trials.original import Original

STEPS = ('subsets', 'body', 'prune', 'retrain', 'fuse')
REDUCTIONS = {1: 2.0, 2: 4.0, 3: 6.0, 5: 10.0, 10: 28.9}      # of the parameters, by number of devices


@dataclass(frozen=True)
class PartitionTraining:
    """The configuration of one partition; printed at its start and saved with its result."""

    model: str
    data: str
    output: str
    checkpoint: str | None = None
    pretrained: bool = False
    devices: int = 3
    subsets: str = 'similar'             # similar (by the model's own confusions), random, or a JSON file of lists of class ids
    redundancy: int = 1                  # devices that each class is on
    reduction: float | None = None       # the original's parameters over a sub-model's; None: by the number of devices
    multiply_adds: int | None = None     # a sub-model's at most, for one image
    inventory: str | None = None         # YAML; None: devices without limits
    rate: float = 10.0                   # frames a second, for the inventory's compute
    images: int = 50000                  # training images at most
    calibration_images: int = 64         # for the importance and the divergence, of each device
    begin: str | None = None             # an earlier partition of the model to go on from: its subsets, sub-models and fusion
    body: tuple[str, ...] | list[str] = ()   # `read_stages`: of the model of all classes to prune from; (): the original
    body_learning_rate: float = 5e-3     # high, as most is lost by pruning; for a reduction of 2 to 4 rather a tenth
    body_matrix_rate: float = 0.01
    common_blocks: int = 0               # of a sub-model, the first of which are the same on all devices
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 3e-3          # AdamW's
    matrix_rate: float = 5e-3            # Muon's, of the blocks' weight matrices
    held_out: int = 0                    # training images at least that no sub-model learns from, only the fusion; 0: it learns from theirs
    fusion_images: int = 20000           # drawn over all images and their views
    fusion_steps: int = 1000
    device_views: int = 0                # pixels by which each device sees the image moved, every second one mirrored; 0: all as it is
    views: int = 0                       # of each training image, which the original answers too
    answers: str | None = None           # folder of the original's answers on the training images, which trainings share
    seed: int = 0
    device: str = 'cpu'
    precision: str = 'fp32'              # of the retraining: fp32, or bf16 (automatic mixed precision; slower for narrow sub-models)
    answers_precision: str = 'fp32'      # of the original's answers, likewise
    step: str = 'all'                    # or one of STEPS, alone

    @property
    def schedule(self) -> Schedule:
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
