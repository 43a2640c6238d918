"""Train a timm Vision Transformer on images with labels and write a model folder.

AdamW, warm-up and cosine decay, label smoothing, shifts, mirroring, random erasing, mixup, and an exponential moving
average of the weights, which is what is judged and saved. Only training images train; the test split only judges. A
small model can learn from a large one's answers as well (`distil_from`; Hinton et al., arXiv 1503.02531).
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Subset

from evitif.datasets import ImageDataset, open_images
from evitif.image_size import image_size_of, size_text
from evitif.model.build import BuiltModel, ModelSpec, build_model, read_description, save_model
from evitif.model.cuttable import require_cuttable
from evitif.model.device import place
from evitif.model.fingerprint import fingerprint
from evitif.model.folder import DESCRIPTION_FILE
from evitif.model.preprocess import seen_as
from evitif.model.stored_weights import round_weights
from evitif.model.tensors import require_finite_answers
from evitif.vocabulary import Fit
from evitif.wording import few
from evitif_lab.commands.configuration import option
from evitif_lab.commands.options import image_size, not_negative, not_negative_int, positive, positive_int, rate, rate_below_one, real, seed
from evitif_lab.data.identity import identity_of
from evitif_lab.precision import mixed_precision
from evitif_lab.training.calibration_split import training_split
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.distillation import Teacher, fitting_teacher
from evitif_lab.training.finished import PLACE, is_finished, retire
from evitif_lab.training.initial_weights import commands_before, start_from
from evitif_lab.training.judging import accuracy_words, judged_figures
from evitif_lab.training.training_loop import TrainingLoop, train_loop
from evitif_lab.trials.images import Normalise, erase, load_images, mixup, shift_and_flip
from evitif_lab.writable import require_writable

FEWEST_PATCHES = 4          # below, there is nothing to attend to, and the loss of one packet takes most of the image
RESERVED = {'num_classes', 'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'checkpoint_path', 'features_only'}
MADE_FOR_A_MODEL = ('*-cut*.json', '*-cut*.safetensors', 'selection.json', 'strategies.json')


@dataclass(frozen=True, kw_only=True)
class BackboneTraining:
    """The configuration of one training; printed at its start and saved with its result."""

    data: str = option(help='fashion-mnist, moving-fashion, or a folder with train/ and val/ in the ImageFolder layout')
    output: str = option(help='the model folder to write')
    architecture: str = option('vit_tiny_patch16_224', 'name of a timm model')
    model_kwargs: dict = field(default_factory=dict)
    initial_weights: str | None = option(None, "'pretrained' (timm's hub), a checkpoint of the full architecture, or a model folder to "
                                         'start from')
    reset_head: bool = option(False, 'begin with a new classifier: --initial-weights have none (a backbone such as DINOv2), or you want '
                              'another one')
    image_size: tuple[int, int] | int | None = option(None, "height and width, such as 352x480, or one number for a square (default: the "
                                                "architecture's own)", image_size, metavar='HxW')
    fit: str = option(Fit.CROP.value, 'how a picture of another shape is fitted to it', choices=Fit.values())
    default_cut: int | None = option(None, 'where to cut the model unless told otherwise (default: half of the depth)', not_negative_int)
    epochs: int = option(20, None, positive_int)
    batch_size: int = option(128, None, positive_int)
    distil_from: str | None = option(None, 'a model folder of the same classes and image size, whose answers are learned as well',
                                     metavar='MODEL')
    distil_views: bool = option(False, 'ask it about each shifted, mirrored, erased and mixed image as the student sees it: better and '
                                'slower')
    held_out: float = option(0.0, 'share of the training images left for `evitif calibrate`', rate_below_one, metavar='SHARE')
    learning_rate: float = option(1e-3, None, positive)
    weight_decay: float = option(0.05, None, not_negative)
    warmup_epochs: float = option(1.0, None, not_negative)
    mixup_alpha: float = option(0.1, None, not_negative)
    distil_temperature: float = option(2.0, None, real(0, 1000, above=True))
    label_smoothing: float = option(0.1, None, rate)
    erase_probability: float = option(0.25, None, rate)
    distil_weight: float = option(0.7, "of --distil-from's answers, beside the labels", rate)
    average_decay: float = option(0.999, None, rate_below_one)
    shift_pixels: int = option(2, None, not_negative_int)
    seed: int = option(0, None, seed)
    device: str = option('cpu', None)
    precision: str = option('fp32', 'of the arithmetic; bf16: automatic mixed precision, the weights stay fp32', choices=('fp32', 'bf16'))
    stored_as: str = option('float16', 'how the weights are written; int8 has a step for each output channel',
                            choices=('float32', 'float16', 'int8'))


def train_backbone(configuration: BackboneTraining, command: str = '', overwrite: bool = False) -> dict:
    """Train, write the model folder `configuration.output` and return the figures.

    Resumes where it was interrupted; what is finished already, by the same configuration and from the same images, is not trained again.

    :param overwrite: begin anew and replace the model that is there
    :raises ValueError: or one of its kinds (DivergenceError among them), for data, an architecture or values that cannot be used; what
        can be known before the first image is read is found out before
    """
    c = configuration
    place(c.device, c.precision)
    require_writable(c.output)
    train, test = _open(c.data)
    made_from = {'data': {'train': identity_of(train), 'test': identity_of(test)}}
    if (Path(c.output) / DESCRIPTION_FILE).exists() and not overwrite:
        there = read_description(c.output)
        is_finished(Path(c.output) / DESCRIPTION_FILE, there.get('made_by', {}), asdict(c), made_from, overwrite)
        return there['figures']
    built, size = _build(c, len(train.class_names))
    chosen = training_split(len(train), c.held_out)[0].tolist() if c.held_out else None
    if c.reset_head and c.initial_weights is None:
        raise ValueError('--reset-head is given without --initial-weights: then the whole model begins anew')
    if c.initial_weights is not None:
        print(start_from(built.module, train.class_names, c.initial_weights, c.architecture, c.model_kwargs, c.reset_head), flush=True)
        made_from['begins_with'] = fingerprint(built.module)
    if c.distil_from is not None:
        fitting = fitting_teacher(c.distil_from, train.class_names, size, c.distil_weight, c.distil_temperature)
        made_from['teacher'] = fingerprint(fitting.module)
    belongs_to = {name: value for name, value in asdict(c).items() if name not in PLACE}
    checkpoint = Checkpoint(c.output, {**belongs_to, **made_from}, overwrite)
    checkpoint.load()                    # one of another training is refused before the images are read
    channels = int(c.model_kwargs.get('in_chans', 3))
    data_config = seen_as({'input_size': [channels, *size], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic',
                           'crop_pct': 1.0, 'crop_mode': 'center'}, None, c.fit)
    training = load_images(train if chosen is None else Subset(train, chosen), data_config, title='training images')
    judged = load_images(test, data_config, title='test images')
    model = built.module.to(c.device)
    epochs = _Epochs(c, model, Normalise(data_config, c.device), train.class_names, training, judged, accuracy_words(test.split))
    loop = _Loop(c.epochs * epochs.steps, c.learning_rate, c.weight_decay, c.warmup_epochs * epochs.steps, c.average_decay,
                 save_every=epochs.steps)
    average, _, _ = train_loop(loop, model, epochs.losses, lambda found: found['loss'], [model.parameters()], c.output, checkpoint,
                               epochs)
    figures = {**judged_figures(test.split, epochs.history[-1]['top1'], len(test)), 'epochs': c.epochs,
               'parameters': sum(parameter.numel() for parameter in built.module.parameters())}
    before = commands_before(c.initial_weights)
    if overwrite:
        retire(c.output, MADE_FOR_A_MODEL)
    save_model(c.output, average.eval(), {
        'name': Path(c.output).name, 'architecture': c.architecture,
        'model_kwargs': {**c.model_kwargs, 'img_size': size[0] if size[0] == size[1] else list(size)}, 'pretrained_cfg': data_config,
        'class_names': list(train.class_names), **_significant_bits(train), 'default_cut': c.default_cut, 'figures': figures,
        'history': epochs.history,
        'made_by': {'command': command, **({'after': before} if before else {}), 'configuration': asdict(c), 'made_from': made_from,
                    'torch': torch.__version__}},
        c.stored_as)
    checkpoint.remove()
    return figures


def _open(data: str) -> tuple[ImageDataset, ImageDataset]:
    """The training images and those that judge. Raises ValueError unless they have the same classes."""
    train, test = (open_images(data, split, ranked=True) for split in ('train', 'test'))
    if not train.class_names:
        raise ValueError(f'{data}: training needs labels: expected one folder for each class')
    if train.class_names != test.class_names:
        only = [few(sorted(set(one.class_names) - set(other.class_names)), 3) or 'none' for one, other in ((train, test), (test, train))]
        raise ValueError(f'{data}: the training split has {len(train.class_names)} classes, the test split {len(test.class_names)}: '
                         f'expected the same; only the first has {only[0]}; only the second has {only[1]}')
    return train, test


def _build(c: BackboneTraining, classes: int) -> tuple[BuiltModel, tuple[int, int]]:
    """The model with random weights and its image size (height, width) in pixels. Raises ValueError for what cannot be trained or cut."""
    if reserved := sorted(RESERVED & c.model_kwargs.keys()):
        raise ValueError(f'model-kwargs name {few(reserved)}: expected none of {", ".join(sorted(RESERVED))}, which the data and '
                         '--initial-weights decide')
    given = image_size_of(c.model_kwargs['img_size']) if 'img_size' in c.model_kwargs else None
    if given is not None and c.image_size is not None and given != image_size_of(c.image_size):
        raise ValueError(f'--image-size is {size_text(c.image_size)} and img_size of --model-kwargs is {c.model_kwargs["img_size"]}: '
                         'expected one of them, or the same')
    built = build_model(ModelSpec(c.architecture, random_seed=c.seed, num_classes=classes, image_size=c.image_size,
                                  model_kwargs=c.model_kwargs))
    require_cuttable(built.module)
    size, depth = tuple(built.module.patch_embed.img_size), len(built.module.blocks)
    patches = math.prod(built.module.patch_embed.grid_size)
    if patches < FEWEST_PATCHES:
        patch = 'x'.join(map(str, built.module.patch_embed.patch_size))
        raise ValueError(f'{c.architecture} divides images of {size_text(size)} pixels into {patches} patches of {patch}: expected at '
                         f'least {FEWEST_PATCHES}; give a larger --image-size, or --model-kwargs patch_size=…')
    if c.default_cut is not None and not 0 <= c.default_cut <= depth:
        raise ValueError(f'--default-cut is {c.default_cut}: expected 0 to {depth}, the blocks of {c.architecture}')
    if not 0 <= c.shift_pixels < min(size):
        raise ValueError(f'--shift-pixels is {c.shift_pixels}: expected less than {min(size)}, the size of the images')
    return built, size


@dataclass(frozen=True)
class _Loop(TrainingLoop):
    """Epochs of `save_every` steps; `warmup` steps rise before the cosine."""

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup) / max(1.0, self.steps - self.warmup))))

    def optimisers(self, module: nn.Module) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW(_groups(module, self.weight_decay), lr=self.learning_rate)]

    def place(self, step: int) -> str:
        epoch, number = divmod(step, self.save_every)
        return f'step {number + 1} of {self.save_every} in epoch {epoch + 1} of {self.steps // self.save_every}'


class _Epochs:
    """The images of each step, the loss on them, and what is known of each epoch.

    :param training: images uint8 [n, 3, H, W] and class ids int64 [n]; `judged` likewise
    :param accuracy_is: what the accuracy on `judged` is called
    """

    def __init__(self, c: BackboneTraining, model: nn.Module, normalise: Normalise, class_names: tuple[str, ...],
                 training: tuple[torch.Tensor, torch.Tensor], judged: tuple[torch.Tensor, torch.Tensor], accuracy_is: str):
        self.c, self.model, self.normalise, self.classes = c, model, normalise, len(class_names)
        self.images, self.class_ids = training
        self.judged, self.accuracy_is = judged, accuracy_is
        self.steps = math.ceil(len(self.images) / c.batch_size)
        self.teacher = None if c.distil_from is None else Teacher(
            c.distil_from, class_names, self.images, c.distil_weight, c.distil_temperature, c.device, c.precision, c.distil_views)
        self.history: list[dict] = []

    def losses(self, step: int) -> dict[str, torch.Tensor]:
        """Of a step; those of an epoch have to be asked for in their order."""
        c, (epoch, number) = self.c, divmod(step, self.steps)
        if number == 0:
            self._generator = torch.Generator().manual_seed(c.seed * 100_003 + epoch)
            self._order = torch.randperm(len(self.images), generator=self._generator).split(c.batch_size)
            self._began, self._total = time.monotonic(), 0.0
            self.model.train()
        chosen, teacher = self._order[number], self.teacher
        batch = shift_and_flip(self.images[chosen].to(c.device), c.shift_pixels, self._generator)
        batch = erase(batch, c.erase_probability, self._generator)
        targets = functional.one_hot(self.class_ids[chosen], self.classes).float()
        if teacher is not None and teacher.once is not None:         # side by side, so that both are mixed with the same weights
            targets = torch.cat((targets, teacher.once[chosen]), 1)
        batch, targets = mixup(batch, targets.to(c.device), c.mixup_alpha, self._generator)
        with mixed_precision(c.device, c.precision):
            logits = self.model(self.normalise(batch)).float()
        labels, answers = targets[:, :logits.shape[1]], targets[:, logits.shape[1]:]
        loss = functional.cross_entropy(logits, labels, label_smoothing=c.label_smoothing)
        if teacher is not None:
            loss = teacher.loss(loss, logits, answers if teacher.once is not None else teacher.softened(batch))
        self._total += loss.item()
        return {'loss': loss}

    def saving(self, step: int, average: nn.Module) -> None:
        """Judge the epoch that ends, of the last one the weights as they are stored."""
        c, epoch, loss = self.c, step // self.steps, self._total / self.steps
        if epoch == c.epochs:
            round_weights(average, c.stored_as)
        accuracy = top1(average, *self.judged, self.normalise, c.device)
        self.history.append({'epoch': epoch, 'loss': round(loss, 4), 'top1': round(accuracy, 4),
                             'seconds': round(time.monotonic() - self._began, 1)})
        print(f'epoch {epoch}: training loss {loss:.3f}, {self.accuracy_is} {100 * accuracy:.2f} %', flush=True)

    def state_dict(self) -> dict:
        """What is known of the epochs so far."""
        return {'history': self.history}

    def load_state_dict(self, state: dict) -> None:
        """Go on after these epochs."""
        self.history = list(state['history'])


@torch.inference_mode()
def top1(model: torch.nn.Module, images: torch.Tensor, class_ids: torch.Tensor, normalise: Normalise,
         device: str = 'cpu', batch_size: int = 250) -> float:
    """Share of the images uint8 [n, 3, H, W] whose most likely class is the known one. Raises ValueError where answers are not finite."""
    model.eval()
    right = 0
    for batch, ids in zip(images.split(batch_size), class_ids.split(batch_size)):
        logits = model(normalise(batch.to(device)))
        require_finite_answers('the trained model', logits=logits)
        right += int((logits.argmax(1).cpu() == ids).sum())
    return right / len(images)


def _significant_bits(dataset: ImageDataset) -> dict:
    """For the description: how images of more than 8 bits were scaled, where there were any."""
    bits = getattr(dataset, 'significant_bits', 0)
    return {'significant_bits': bits} if bits else {}


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """No weight decay on biases, norms, embeddings and special tokens, as timm and DeiT do."""
    kept_whole = set(model.no_weight_decay()) if hasattr(model, 'no_weight_decay') else set()
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or name in kept_whole else decayed).append(parameter)
    return [{'params': decayed, 'weight_decay': weight_decay}, {'params': plain, 'weight_decay': 0.0}]
