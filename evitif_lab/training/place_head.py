"""Train a head that says something of each place, a mask or depth, on the tokens of several blocks behind the cut.

Frozen, the backbone runs once over each image and its mirror image, and the decoder learns from what is kept. With `unfreeze` the blocks
behind the cut are fine-tuned as well, with other views of the images in each epoch; the result is a model of its own, in the head's folder.

Masks: cross-entropy with classes weighted by the root of their rarity, on the share that a class has of each place, and the Lovász softmax
loss, a surrogate of the mean intersection over union (Berman et al., arXiv 1705.08790). Depth: the scale-invariant logarithmic loss (Eigen
et al., arXiv 1406.2283), and a Laplace likelihood for the expected error.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from evitif.files import read_json
from evitif.heads import Features, Reading, save_head
from evitif.heads.artifact import DESCRIPTION_FILE
from evitif.heads.chosen import require_topic_name
from evitif.heads.depth import DepthHead
from evitif.heads.segment import SegmentHead
from evitif.model.build import BuiltModel, ModelSpec, build_model, save_model
from evitif.model.cuttable import require_cuttable
from evitif.model.fingerprint import fingerprint
from evitif.model.preprocess import Preprocessor
from evitif.model.split import SplitModel
from evitif.model.stored_weights import round_weights
from evitif.vocabulary import Fit, Task
from evitif_lab.commands.configuration import ViewChoice, option
from evitif_lab.commands.options import not_negative_int, positive, positive_int, rate_below_one, seed, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of
from evitif_lab.data.places import UNLABELLED, Places, open_places
from evitif_lab.plain import plain
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.finished import is_finished
from evitif_lab.training.training_loop import TrainingLoop, train_loop
from evitif_lab.trials.memory import require_memory
from evitif_lab.trials.place_figures import DepthFigures, MaskFigures, figures_of
from evitif_lab.writable import require_writable

BATCH = 8                       # images at once where nothing is learnt
TAIL_RATE = 0.1                 # learning rate of fine-tuned blocks, as a share of the decoder's
SMALLEST_VIEW, LARGEST_VIEW = 0.6, 1.15     # of an image's side, in fine-tuning
PLACE_TASKS = (Task.SEGMENT.value, Task.DEPTH.value)
SCALES = {Task.SEGMENT: 4, Task.DEPTH: 2}
STORED_AS = 'float16'           # a fine-tuned model
VARIANCE_FOCUS = 0.5            # of the scale-invariant loss


@dataclass(frozen=True, kw_only=True)
class PlaceTraining(ViewChoice):
    """The configuration of one training; printed at its start and saved with its result."""

    task: str = option(Task.SEGMENT.value, 'what the head says', choices=PLACE_TASKS)
    data: str = option(help='moving-fashion, or a folder with images/ and labels/ or masks/ or depth/ beside it')
    output: str = option(help="the head's folder; its name is the name of its topics")
    cut: int | None = option(None, "the first block that is read (default: the model folder's cut, else half of the depth)",
                             not_negative_int)
    blocks: list[int] | None = option(None, 'read the outputs of these blocks (default: of the cut, the last, and one between)',
                                      positive_int, nargs='+', metavar='BLOCK')
    labels: str | None = option(None, 'a text file with the name of each class, one a line (default: labels.txt in the folder)',
                                metavar='FILE')
    void: int | None = option(None, 'the id that means no class in the masks, beside 255', whole(0, 255), metavar='ID')
    images: int | None = option(None, 'train with so many images, drawn at random (default: all)', positive_int)
    judged: int | None = option(None, 'judge by so many of the images that judge, spread evenly (default: all)', positive_int)
    epochs: int = option(15, None, positive_int)
    batch_size: int = option(4, None, positive_int)
    learning_rate: float = option(2e-3, None, positive)
    weight_decay: float = option(0.02, None, positive)
    average_decay: float = option(0.995, None, rate_below_one)
    width: int = option(128, 'features of a patch in the decoder', positive_int)
    unfreeze: bool = option(False, 'fine-tune the blocks behind the cut too: the result is a model of its own')
    seed: int = option(0, None, seed)


def train_place_head(configuration: PlaceTraining, command: str = '', overwrite: bool = False) -> dict:
    """Train, write the head's folder and return its description. Resumes where it was interrupted.

    :raises ValueError: or one of its kinds, for data, a model or values that cannot be used, before the first image is read where possible
    """
    c, task, began, processor = configuration, Task(configuration.task), time.monotonic(), time.process_time()
    require_writable(c.output)
    require_topic_name(Path(c.output).resolve().name)
    if c.device != 'cpu':
        raise ValueError(f'--device is {c.device!r}: expected cpu, where heads for masks and depth are trained')
    labels = _labels(c.labels)
    train, test = (open_places(c.data, split, task, labels, c.void) for split in ('train', 'test'))
    built = build_model(ModelSpec(c.model, c.checkpoint, c.pretrained, **c.view))
    require_cuttable(built.module)
    split = _split(built, c.cut)
    reading = _reading(split, c.blocks, c.fit)
    made_from = {'data': {'train': digest_of(train), 'test': digest_of(test)}, 'model': fingerprint(built.module)}
    path = Path(c.output) / DESCRIPTION_FILE
    if path.exists() and not overwrite:
        there = read_json(path)
        is_finished(path, there.get('made_by', {}), asdict(c), made_from, overwrite)
        return there
    checkpoint = Checkpoint(c.output, {**asdict(c), **made_from}, overwrite)
    checkpoint.load()               # one of another training is refused before the images are read
    for index in Progress(judging(test, c.judged), desc='checking what judges', unit='image', leave=False):
        test[int(index)]
    torch.manual_seed(c.seed)
    chosen = np.sort(np.random.default_rng(c.seed).permutation(len(train))[:c.images or None])
    scale = SCALES[task]
    truths = Truths(task, train, chosen, reading, scale)
    if task == Task.SEGMENT:
        head: SegmentHead | DepthHead = SegmentHead(reading, train.class_names, width=c.width, scale=scale)
    else:
        head = DepthHead(reading, width=c.width, scale=scale, typical=truths.typical)
    preprocessor = Preprocessor(built.data_config)
    steps = math.ceil(len(chosen) / c.batch_size)
    loop = _Loop(c.epochs * steps, c.learning_rate, c.weight_decay, min(100, steps), c.average_decay, save_every=steps)
    source = (_Unfrozen if c.unfreeze else _Frozen)(c, split, train, chosen, preprocessor, truths)
    module = _Both(head, built.module.blocks[split.cut:] if c.unfreeze else None)
    objective = _MaskLoss(truths.weights) if task == Task.SEGMENT else _depth_losses

    def losses(step: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(c.seed * 1_000_003 + step)        # dropout is the same where a training goes on
        features, truth = source.batch(step)
        return objective(module.head.decoder(features) if task == Task.SEGMENT else module.head.regress(features), truth)
    average, _, _ = train_loop(loop, module, losses, lambda found: sum(found.values(), torch.zeros(())), [module.parameters()],
                                     str(c.output), checkpoint)
    built.module.eval()
    if c.unfreeze:
        built.module.blocks[split.cut:].load_state_dict(average.blocks.state_dict())
        built.module.requires_grad_(False)
        round_weights(built.module, STORED_AS)
    trained = average.head.eval()
    figures = figures_of(judge(trained, split, test, preprocessor, c.judged))
    figures |= {'judged_by': test.split, 'trained_with': len(chosen), 'seconds': round(time.monotonic() - began),
                'cpu_seconds': round(time.process_time() - processor), 'parameters': sum(value.numel() for value in trained.parameters())}
    about: dict[str, Any] = {'model': built.name, 'cut': split.cut, 'data': c.data, 'seed': c.seed, 'figures': figures,
                             'made_by': {'command': command, 'configuration': plain(asdict(c)), 'made_from': made_from,
                                         'torch': torch.__version__}}
    if c.unfreeze:
        about['own_model'] = _save_tuned(c, built, command)
    description = save_head(c.output, trained, built.module, about)
    checkpoint.remove()
    return description


def judging(places: Places, images: int | None) -> np.ndarray:
    """Which images judge, at most so many, spread evenly; None: all."""
    return np.unique(np.linspace(0, len(places) - 1, images or len(places)).round().astype(int))


def judge(head: SegmentHead | DepthHead, split: SplitModel, places: Places, preprocessor: Preprocessor,
          images: int | None = None) -> MaskFigures | DepthFigures:
    """What the head reaches where nothing is lost."""
    figures = MaskFigures(head.labels) if isinstance(head, SegmentHead) else DepthFigures()
    chosen = judging(places, images)
    for start in Progress(range(0, len(chosen), BATCH), desc='judging', unit='batch', leave=False):
        samples = [places[int(index)] for index in chosen[start:start + BATCH]]
        with torch.inference_mode():
            tokens = split.head(torch.cat([preprocessor(sample.image) for sample in samples]))
            said = head(Features.of(split, tokens, head.reading.blocks))
        figures.add(said, [sample.truth for sample in samples])
    return figures


class Truths:
    """What is known of the training images at the decoder's resolution: the share of each class fp16 [n, classes, h, w], or metres
    [n, h, w].

    `weights` of the classes; `typical`, the geometric mean of the distances.
    """

    def __init__(self, task: Task, places: Places, chosen: np.ndarray, reading: Reading, scale: int):
        self.task, self.classes = task, len(places.class_names)
        self.size = reading.grid[0] * scale, reading.grid[1] * scale
        require_memory(2 * len(chosen) * max(self.classes, 1) * self.size[0] * self.size[1], 'what is known of the training images')
        bar = Progress(chosen, desc='reading', unit='image', leave=False)
        self.all = torch.stack([self.of(places[int(index)].truth) for index in bar])
        if task == Task.SEGMENT:
            share = self.all.float().mean((0, 2, 3)).clamp(min=1e-6)
            self.weights, self.typical = (share.median() / share).clamp(0.1, 10).sqrt(), 1.0
        else:
            self.weights, self.typical = torch.ones(1), float(torch.exp(torch.log(self.all[self.all > 0]).mean()))

    def of(self, truth: np.ndarray) -> torch.Tensor:
        """One image's."""
        if self.task == Task.SEGMENT:
            ids = torch.from_numpy(np.minimum(truth, self.classes)).long()
            each = functional.one_hot(ids, self.classes + 1)[..., :-1].permute(2, 0, 1).float()
            return functional.adaptive_avg_pool2d(each, self.size).half()
        known = torch.from_numpy(np.isfinite(truth) & (truth > 0)).float()[None]
        inverse = torch.from_numpy(np.nan_to_num(truth)).float()[None] * known
        total, count = (functional.adaptive_avg_pool2d(values, self.size)[0] for values in (inverse, known))
        return torch.where(count > 0.5, total / count.clamp(min=1e-6), torch.nan)


class _Both(nn.Module):
    """What is trained: the head, and the blocks that are fine-tuned."""

    def __init__(self, head: SegmentHead | DepthHead, blocks: nn.Module | None):
        super().__init__()
        self.head, self.blocks = head, blocks


@dataclass(frozen=True)
class _Loop(TrainingLoop):
    def optimisers(self, module: nn.Module) -> list[torch.optim.Optimizer]:
        """AdamW; fine-tuned blocks learn more slowly."""
        groups: dict[tuple[bool, bool], list] = {}
        for name, parameter in module.named_parameters():
            groups.setdefault((name.startswith('blocks.'), parameter.ndim > 1), []).append(parameter)
        return [torch.optim.AdamW([{'params': parameters, 'lr': self.learning_rate * (TAIL_RATE if tuned else 1),
                                    'weight_decay': self.weight_decay if matrix else 0.0}
                                   for (tuned, matrix), parameters in groups.items()], lr=self.learning_rate)]


class _Batches:
    """The images of each step: an order of its own for each epoch, half of them mirrored."""

    def __init__(self, c: PlaceTraining, images: int):
        self.c, self.count, self.steps = c, images, math.ceil(images / c.batch_size)
        self._epoch = -1

    def _drawn(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, number = divmod(step, self.steps)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.c.seed * 100_003 + epoch)
            self._order, self._mirrored, self._epoch = (torch.randperm(self.count, generator=generator),
                                                        torch.rand(self.count, generator=generator) < 0.5, epoch)
        at = slice(number * self.c.batch_size, (number + 1) * self.c.batch_size)
        return self._order[at], self._mirrored[at]


class _Frozen(_Batches):
    """Tokens of all images and their mirror images, computed once: fp16 [2, n, blocks, N, D]."""

    @torch.inference_mode()
    def __init__(self, c: PlaceTraining, split: SplitModel, places: Places, chosen: np.ndarray, preprocessor: Preprocessor, truths: Truths):
        super().__init__(c, len(chosen))
        self.split, self.truths = split, truths
        self.blocks = _reading(split, c.blocks).blocks
        shape = 2, len(chosen), len(self.blocks), split.tokens, split.channels
        require_memory(2 * math.prod(shape), f'the tokens of {len(chosen)} images')
        tokens = torch.empty(shape, dtype=torch.float16)
        for start in Progress(range(0, len(chosen), BATCH), desc='running the backbone', unit='batch'):
            images = torch.cat([preprocessor(places[int(index)].image) for index in chosen[start:start + BATCH]])
            for mirrored, seen in enumerate((images, images.flip(3))):
                outputs = split.outputs(split.head(seen), self.blocks)
                for place, block in enumerate(self.blocks):
                    tokens[mirrored, start:start + len(images), place] = outputs[block]
        self.tokens = tokens

    def batch(self, step: int) -> tuple[Features, torch.Tensor]:
        chosen, mirrored = self._drawn(step)
        tokens = self.tokens[mirrored.long(), chosen].float()
        truth = self.truths.all[chosen].float()
        truth[mirrored] = truth[mirrored].flip(-1)
        split = self.split
        return Features({block: tokens[:, place] for place, block in enumerate(self.blocks)}, split.prefix_tokens, split.grid,
                        split.module.norm), truth


class _Unfrozen(_Batches):
    """Other views of the images in each epoch, through the frozen head and the blocks that learn."""

    def __init__(self, c: PlaceTraining, split: SplitModel, places: Places, chosen: np.ndarray, preprocessor: Preprocessor, truths: Truths):
        super().__init__(c, len(chosen))
        self.split, self.truths, self.preprocessor = split, truths, preprocessor
        self.blocks = _reading(split, c.blocks).blocks
        self.samples = [places[int(index)] for index in chosen]
        for parameter in split.module.parameters():
            parameter.requires_grad_(False)
        for parameter in split.module.blocks[split.cut:].parameters():
            parameter.requires_grad_(True)

    def batch(self, step: int) -> tuple[Features, torch.Tensor]:
        import cv2
        chosen, mirrored = self._drawn(step)
        random = np.random.default_rng((self.c.seed, step))
        images, truths = [], []
        for index, mirror in zip(chosen.tolist(), mirrored.tolist(), strict=True):
            image, truth, _ = self.samples[index]
            where = _view(image.shape[0], image.shape[1], mirror, random)
            shape = truth.shape[1], truth.shape[0]
            part = truth.shape[0] / image.shape[0]
            fill = math.nan if truth.dtype.kind == 'f' else UNLABELLED
            seen = cv2.warpAffine(image, where, image.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                                  borderMode=cv2.BORDER_REFLECT)
            where = where * [[1, 1, part], [1, 1, part]]
            known = cv2.warpAffine(truth, where, shape, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=fill)
            images.append(self.preprocessor(_coloured(seen, random)))
            truths.append(self.truths.of(known if known.dtype.kind != 'f' else known * abs(where[0, 0])))
        with torch.no_grad():
            tokens = self.split.head(torch.cat(images))
        return Features.of(self.split, tokens, self.blocks), torch.stack(truths).float()


def _view(height: int, width: int, mirrored: bool, random: np.random.Generator) -> np.ndarray:
    """float64 [2, 3] from places of a view, of the image's size, to those of the image."""
    side = math.exp(random.uniform(math.log(SMALLEST_VIEW), math.log(LARGEST_VIEW)))
    left, top = (random.uniform(min(0.0, size * (1 - side)), max(0.0, size * (1 - side))) if side < 1 else size * (1 - side) / 2
                 for size in (width, height))
    return np.array([[-side, 0, left + side * width], [0, side, top]] if mirrored else [[side, 0, left], [0, side, top]])


def _coloured(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another contrast, brightness and saturation."""
    bright = image.astype(np.float32) * random.uniform(0.8, 1.2) + random.uniform(-20, 20)
    grey = bright.mean(2, keepdims=True)
    return (grey + (bright - grey) * random.uniform(0.7, 1.3)).clip(0, 255).astype(np.uint8)


class _MaskLoss:
    def __init__(self, weights: torch.Tensor):
        self.weights = weights

    def __call__(self, logits: torch.Tensor, share: torch.Tensor) -> dict[str, torch.Tensor]:
        logarithm, weights = logits.float().log_softmax(1), self.weights[None, :, None, None]
        cross_entropy = -(share * logarithm * weights).sum() / (share * weights).sum().clamp(min=1e-6)
        most, ids = share.max(1)
        known = most > 0.5
        return {'cross_entropy': cross_entropy, 'lovasz': lovasz(logarithm.exp().transpose(0, 1)[:, known], ids[known])}


def lovasz(probabilities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The Lovász softmax loss of probabilities [classes, places] where the classes are `ids` [places]: mean over the classes that occur."""
    losses = []
    for class_id in ids.unique().tolist():
        true = (ids == class_id).float()
        errors, order = (true - probabilities[class_id]).abs().sort(descending=True)
        true = true[order]
        total = true.sum()
        jaccard = 1 - (total - true.cumsum(0)) / (total + (1 - true).cumsum(0))
        losses.append((errors * torch.cat((jaccard[:1], jaccard.diff()))).sum())
    return torch.stack(losses).mean() if losses else probabilities.sum() * 0


def _depth_losses(said: tuple[torch.Tensor, torch.Tensor], metres: torch.Tensor) -> dict[str, torch.Tensor]:
    known = torch.isfinite(metres) & (metres > 0)
    found, error = said[0][known], said[1][known]
    difference = found.log() - metres[known].log()
    invariant = (difference.square().mean() - VARIANCE_FOCUS * difference.mean().square()).clamp(min=1e-8).sqrt()
    return {'scale_invariant': invariant, 'error': 0.1 * (difference.detach().abs() / error + error.log()).mean()}


def _save_tuned(c: PlaceTraining, built: BuiltModel, command: str) -> str:
    """Write the fine-tuned model beside the head; returns a sentence about it."""
    sentence = (f'the blocks behind the cut were fine-tuned: this is a model of its own, and no code, recovery or head of {built.name} is '
                'for it; its own classifier no longer fits')
    save_model(c.output, built.module, {
        'name': Path(c.output).name, 'architecture': built.description.get('architecture', c.model),
        'model_kwargs': {**built.description.get('model_kwargs', {}), 'img_size': list(built.data_config['input_size'][1:])},
        'pretrained_cfg': built.data_config, 'class_names': list(built.class_names), 'default_cut': _split(built, c.cut).cut,
        'remark': sentence, 'made_by': {'command': command, 'configuration': plain(asdict(c))}}, STORED_AS)
    return sentence


def _split(built: BuiltModel, cut: int | None) -> SplitModel:
    depth = len(built.module.blocks)
    chosen = cut if cut is not None else built.description.get('default_cut')
    return SplitModel(built.module, depth // 2 if chosen is None else int(chosen), built.data_config['input_size'][0])


def _reading(split: SplitModel, blocks: list[int] | None, fit: str | None = None) -> Reading:
    found = tuple(sorted(set(blocks))) if blocks else tuple(sorted({max(split.cut, 1), (split.cut + split.depth + 1) // 2, split.depth}))
    if not split.cut <= found[0] <= found[-1] <= split.depth:
        raise ValueError(f'--blocks are {" ".join(map(str, found))}: expected {split.cut} (the cut) to {split.depth} (the last)')
    return Reading(found, False, split.image_size, split.grid, split.prefix_tokens, split.channels, None if fit is None else Fit(fit))


def _labels(path: str | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        return tuple(line.strip() for line in Path(path).expanduser().read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'labels {path}: cannot be read: {error}') from None
