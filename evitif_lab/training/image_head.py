"""Train a head that says something of the whole image, on what a frozen backbone makes of it: a linear probe, class means, a vector.

The backbone runs once over each image, as the robot sees it; what is kept of an image is the class token beside the mean of the patches
behind the final norm (DINOv2's linear evaluation, arXiv 2304.07193). A linear probe is a multinomial logistic regression by L-BFGS on
standardised features, its weight decay chosen by a part of the training images that is held out meanwhile. Class means are of ten pictures
each, centred and of length 1 (SimpleShot, arXiv 1911.04623). Only training images train.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from evitif.datasets import ImageDataset, open_images
from evitif.files import read_json
from evitif.heads import Features, Head, Reading, save_head
from evitif.heads.artifact import DESCRIPTION_FILE
from evitif.heads.chosen import require_topic_name
from evitif.heads.classify import LinearProbe, Prototypes
from evitif.heads.embed import EmbedHead
from evitif.model.build import BuiltModel, ModelSpec, build_model
from evitif.model.cuttable import require_cuttable
from evitif.model.device import place
from evitif.model.fingerprint import trunk_fingerprint
from evitif.model.preprocess import Preprocessor
from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.vocabulary import Fit, Task
from evitif.wording import few
from evitif_lab.commands.configuration import ViewChoice, option
from evitif_lab.commands.options import positive_int, seed, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import identity_of
from evitif_lab.plain import plain
from evitif_lab.precision import mixed_precision
from evitif_lab.training.calibration_split import training_split
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.finished import is_finished
from evitif_lab.training.judging import judged_figures
from evitif_lab.trials.memory import require_memory
from evitif_lab.writable import require_writable

PROTOTYPES = 'prototypes'
IMAGE_TASKS = (Task.CLASSIFY.value, PROTOTYPES, Task.EMBED.value)
BATCH, SAVE_EVERY = 32, 16          # images at once; batches between two checkpoints
DECAYS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HELD_OUT = 0.15                     # of the training images, while the weight decay is chosen
PER_CLASS = 10                      # of prototypes
TEMPERATURES = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True, kw_only=True)
class ImageHeadTraining(ViewChoice):
    """The configuration of one training; printed at its start and saved with its result."""

    task: str = option(Task.CLASSIFY.value, 'what the head says', choices=IMAGE_TASKS)
    data: str = option(help='fashion-mnist, moving-fashion, or a folder with train/ and val/ in the ImageFolder layout, or a bag')
    labels: str | None = option(None, 'labels of a bag: time,label or frame,label (docs/recordings.md; default: its label topic)',
                                metavar='CSV')
    output: str = option(help="the head's folder; its name is the name of its topics")
    block: int | None = option(None, 'read the output of this block (default: the last)', positive_int)
    images: int = option(4000, 'train with so many images at most, evenly of all classes; 0: all', whole(0, 10**9))
    per_class: int | None = option(None, f'train with so many of each class (default: of prototypes {PER_CLASS})', positive_int)
    precision: str = option('fp32', "of the backbone's arithmetic", choices=('fp32', 'bf16'))
    seed: int = option(0, None, seed)


def train_image_head(configuration: ImageHeadTraining, command: str = '', overwrite: bool = False) -> dict:
    """Train, write the head's folder and return its description. Resumes where it was interrupted.

    :raises ValueError: or one of its kinds, for data, a model or values that cannot be used, before the first image is read
    """
    c, began, processor = configuration, time.monotonic(), time.process_time()
    place(c.device, c.precision)
    require_writable(c.output)
    require_topic_name(Path(c.output).resolve().name)
    train, test = _open(c)
    built = build_model(ModelSpec(c.model, c.checkpoint, c.pretrained, **c.view))
    require_cuttable(built.module)
    backbone = Backbone(built, c.block, c.device, c.precision, None if c.fit is None else Fit(c.fit))
    identity = trunk_fingerprint(built.module, backbone.reading.last_block, True)
    made_from = {'data': {'train': identity_of(train), 'test': identity_of(test)}, 'backbone': identity}
    path = Path(c.output) / DESCRIPTION_FILE
    if path.exists() and not overwrite:
        there = read_json(path)
        is_finished(path, there.get('made_by', {}), asdict(c), made_from, overwrite)
        return there
    checkpoint = Checkpoint(c.output, {**plain(asdict(c)), **made_from}, overwrite)
    chosen = chosen_images(train, c)
    built.module.to(c.device)
    features, judged = backbone.features([(train, chosen), (test, np.arange(len(test)))], checkpoint)
    ids, judged_ids = (torch.tensor([_class_of(dataset, int(index)) for index in indices])
                       for dataset, indices in ((train, chosen), (test, np.arange(len(test)))))
    head, figures = _FIT[c.task](backbone.reading, train.class_names, features, ids, c.seed)
    if c.task == Task.EMBED:
        figures |= {'nearest_is_alike': round(nearest_is_alike(normal(judged, head.mean), judged_ids), 4), 'judged_by': test.split} \
            if test.class_names else {}
    else:
        logits = _logits(head, judged)
        figures |= judged_figures(test.split, float((logits.argmax(1) == judged_ids).float().mean()), len(test))
    figures |= {'trained_with': len(chosen), 'seconds': round(time.monotonic() - began),
                'cpu_seconds': round(time.process_time() - processor)}
    built.module.to('cpu')
    description = save_head(c.output, head.eval(), built.module, {
        'model': built.name, 'data': c.data, 'seed': c.seed, 'figures': figures,
        'made_by': {'command': command, 'configuration': plain(asdict(c)), 'made_from': made_from, 'torch': torch.__version__}})
    checkpoint.remove()
    return description


def _open(c: ImageHeadTraining) -> tuple[ImageDataset, ImageDataset]:
    """The images that train and those that judge. Raises ValueError unless they have the classes that the task needs, the same."""
    train, test = (open_images(c.data, split, ranked=True, labels=c.labels) for split in ('train', 'test'))
    if c.task == Task.EMBED:
        return train, test
    if len(train.class_names) < 2:
        raise ValueError(f'{c.data}: a head that classifies needs labels: expected one folder for each of at least two classes, or '
                         "a bag with a label topic or --labels")
    if train.class_names != test.class_names:
        only = [few(sorted(set(one.class_names) - set(other.class_names)), 3) or 'none' for one, other in ((train, test), (test, train))]
        raise ValueError(f'{c.data}: the images that train and those that judge have other classes: expected the same; only the first '
                         f'have {only[0]}; only the second have {only[1]}')
    return train, test


def chosen_images(dataset: ImageDataset, c: ImageHeadTraining) -> np.ndarray:
    """Indices of the images to train with, evenly of all classes, drawn by the seed. Raises ValueError where a class has too few."""
    per_class = c.per_class or (PER_CLASS if c.task == PROTOTYPES else None)
    by_class: dict[int, list[int]] = defaultdict(list)
    for index in np.random.default_rng(c.seed).permutation(len(dataset)).tolist():
        by_class[_class_of(dataset, index)].append(index)
    if c.task == Task.CLASSIFY and (least := min(map(len, by_class.values()))) < 2:
        raise ValueError(f'{c.data}: a class has {least} image: expected at least 2 of each, or --task {PROTOTYPES}')
    # The first of each class, then the second, …
    turns = [members[turn] for turn in range(max(map(len, by_class.values()))) for members in by_class.values()
             if turn < min(len(members), per_class or len(members))]
    return np.sort(turns[:c.images or None] if per_class is None else turns)


def _class_of(dataset: ImageDataset, index: int) -> int:
    """The class of an image, without reading it where that is known."""
    items = getattr(dataset, 'items', None)
    if items is not None:
        return int(items[index][1])
    ids = getattr(dataset, 'class_ids', None)
    return int(dataset[index].class_id if ids is None else ids[index])


class Backbone:
    """A frozen model, and what heads read of it for whole images: the pooled features of one block."""

    def __init__(self, built: BuiltModel, block: int | None, device: str, precision: str, fit: Fit | None = None):
        self.preprocessor, self.device, self.precision = Preprocessor(built.data_config), device, precision
        self.split = SplitModel(built.module, 0, built.data_config['input_size'][0])
        block = self.split.depth if block is None else block
        if not 1 <= block <= self.split.depth:
            raise ValueError(f'--block is {block}: expected 1 to {self.split.depth}, the blocks of {built.name}')
        self.reading = Reading((block,), True, self.split.image_size, self.split.grid, self.split.prefix_tokens, self.split.channels,
                               fit)

    @torch.inference_mode()
    def pooled(self, images: list[np.ndarray]) -> torch.Tensor:
        """Images uint8 [H, W, 3] to float32 [B, F] on the CPU."""
        batch = torch.cat([self.preprocessor(image) for image in images]).to(self.device)
        with mixed_precision(self.device, self.precision):
            found = Features.of(self.split, self.split.head(batch), self.reading.blocks).pooled(self.reading.last_block)
        require_finite_answers('the backbone', features=found)
        return found.float().cpu()

    def features(self, wanted: list[tuple[ImageDataset, np.ndarray]], checkpoint: Checkpoint) -> list[torch.Tensor]:
        """The pooled features float32 [n, F] of these images; goes on where an interrupted run ended."""
        places = [(dataset, int(index)) for dataset, indices in wanted for index in indices]
        width = LinearProbe.width(self.reading)
        require_memory(4 * len(places) * width, f'the features of {len(places)} images')
        state = checkpoint.load()
        found = [] if state is None else [state['features']]
        done = sum(map(len, found))
        with Progress(total=len(places), initial=done, desc='running the backbone', unit='image') as bar:
            for number, start in enumerate(range(done, len(places), BATCH), 1):
                part = places[start:start + BATCH]
                found.append(self.pooled([dataset[index].image for dataset, index in part]))
                bar.update(len(part))
                if number % SAVE_EVERY == 0:
                    found = [torch.cat(found)]
                    checkpoint.save({'features': found[0]})
        return list(torch.cat(found).split([len(indices) for _, indices in wanted]))


def fit_probe(reading: Reading, labels: tuple[str, ...], features: torch.Tensor, ids: torch.Tensor, seed: int) -> tuple[LinearProbe, dict]:
    """A linear probe of features [n, F] with class ids [n]; and what was found on the way."""
    fitting, held_out = (torch.from_numpy(part) for part in training_split(len(features), HELD_OUT))
    losses = {}
    for decay in DECAYS:
        weight, bias = _logistic(features[fitting], ids[fitting], len(labels), decay)
        losses[decay] = float(functional.cross_entropy(functional.linear(features[held_out], weight, bias), ids[held_out]))
    decay = min(losses, key=lambda each: losses[each])
    head = LinearProbe(reading, labels)
    weight, bias = _logistic(features, ids, len(labels), decay)
    head.load_state_dict({'linear.weight': weight, 'linear.bias': bias})
    return head, {'weight_decay': decay, 'held_out_cross_entropy': round(losses[decay], 4)}


def _logistic(features: torch.Tensor, ids: torch.Tensor, classes: int, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [classes, F] and bias [classes] of a multinomial logistic regression, for features as they are; the decay is for standardised
    ones."""
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    normal = (features - mean) / spread
    weight, bias = torch.zeros(classes, features.shape[1], requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn='strong_wolfe')

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = functional.cross_entropy(functional.linear(normal, weight, bias), ids) + decay * weight.square().sum()
        found.backward()
        return found
    with torch.enable_grad():
        optimiser.step(loss)
    scaled = weight.detach() / spread
    return scaled, bias.detach() - scaled @ mean


def fit_prototypes(reading: Reading, labels: tuple[str, ...], features: torch.Tensor, ids: torch.Tensor,
                   seed: int) -> tuple[Prototypes, dict]:
    """Class means of features [n, F] with class ids [n]; by the temperature the probabilities of images that are left out in turn are
    true."""
    mean = features.mean(0)
    units = normal(features, mean)
    sums = torch.zeros(len(labels), units.shape[1]).index_add(0, ids, units)
    others = functional.normalize(sums[ids] - units, dim=1)         # of an image's class without it
    cosines = units @ functional.normalize(sums, dim=1).T
    cosines[torch.arange(len(ids)), ids] = (units * others).sum(1)
    losses = {value: float(functional.cross_entropy(cosines / value, ids)) for value in TEMPERATURES}
    head = Prototypes(reading, labels, temperature=min(losses, key=lambda each: losses[each]))
    head.load_state_dict({'mean': mean, 'prototypes': functional.normalize(sums, dim=1)})
    return head, {'temperature': head.temperature}


def fit_embedding(reading: Reading, labels: tuple[str, ...], features: torch.Tensor, ids: torch.Tensor,
                  seed: int) -> tuple[EmbedHead, dict]:
    """The mean of features [n, F], which the vectors are less."""
    head = EmbedHead(reading)
    head.load_state_dict({'mean': features.mean(0)})
    return head, {}


_FIT = {Task.CLASSIFY.value: fit_probe, PROTOTYPES: fit_prototypes, Task.EMBED.value: fit_embedding}


def normal(features: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Centred, of length 1."""
    return functional.normalize(features - mean, dim=1)


def nearest_is_alike(units: torch.Tensor, ids: torch.Tensor) -> float:
    """Share of vectors [n, D] whose nearest other one is of the same class (recall at 1)."""
    cosines = units @ units.T
    cosines.fill_diagonal_(-2)
    return float((ids[cosines.argmax(1)] == ids).float().mean())


@torch.inference_mode()
def _logits(head: Head, features: torch.Tensor) -> torch.Tensor:
    """Of pooled features [n, F]."""
    if isinstance(head, Prototypes):
        return normal(features, head.mean) @ head.prototypes.T / head.temperature
    assert isinstance(head, LinearProbe)
    return head.linear(features)
