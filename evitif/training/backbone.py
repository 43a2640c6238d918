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
from torch.nn import functional

from evitif.datasets import open_images
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.device import mixed_precision
from evitif.model.split import require_cuttable
from evitif.model.stored_weights import round_weights
from evitif.progress import Progress
from evitif.training.average import warmed_up_average
from evitif.training.calibration_split import training_split
from evitif.training.checkpoint import Checkpoint
from evitif.training.distillation import Teacher
from evitif.training.images import Normalise, erase, load_images, mixup, shift_and_flip
from evitif.training.initial_weights import commands_before, start_from


@dataclass(frozen=True)
class BackboneTraining:
    """The configuration of one training; printed at its start and saved with its result."""

    data: str
    output: str
    architecture: str = 'vit_tiny_patch16_224'
    model_kwargs: dict = field(default_factory=dict)
    initial_weights: str | None = None   # 'pretrained' (timm's hub), a checkpoint of the full architecture, or a model folder
    image_size: int = 28
    default_cut: int | None = None       # where the model is to be cut unless one says otherwise; None: half of the depth
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.1
    mixup_alpha: float = 0.1
    erase_probability: float = 0.25
    shift_pixels: int = 2
    average_decay: float = 0.999
    distil_from: str | None = None       # a model folder of the same classes and image size, whose answers are learned
    distil_weight: float = 0.7           # of its answers, against the labels
    distil_temperature: float = 2.0
    distil_views: bool = False           # the teacher answers to each view of an image instead of once to the image
    held_out: float = 0.0                # share of the training images left for `evitif calibrate`
    stored_as: str = 'float16'           # float32, float16 or int8; the figures are those of the stored weights
    seed: int = 0
    device: str = 'cpu'
    precision: str = 'fp32'              # of the arithmetic: fp32, or bf16 (automatic mixed precision; weights stay fp32)


def train_backbone(configuration: BackboneTraining, command: str = '') -> dict:
    """Train, write the model folder `configuration.output` and return the figures. Resumes where it was interrupted."""
    c = configuration
    train, test = (open_images(c.data, split, ranked=True) for split in ('train', 'test'))
    if not train.class_names:
        raise ValueError(f'{c.data}: training needs labels: expected one folder for each class')
    if train.class_names != test.class_names:
        raise ValueError(f'{c.data}: the training split has the classes {train.class_names}, the test split '
                         f'{test.class_names}')
    spec = ModelSpec(c.architecture, random_seed=c.seed, num_classes=len(train.class_names), image_size=c.image_size,
                     model_kwargs=c.model_kwargs)
    built = build_model(spec)
    require_cuttable(built.module)       # not after hours of training
    data_config = {'input_size': [3, c.image_size, c.image_size], 'mean': [0.5] * 3, 'std': [0.5] * 3,
                   'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}
    if c.initial_weights is not None:
        print(start_from(built.module, train.class_names, c.initial_weights, c.architecture, c.model_kwargs), flush=True)
    model = built.module.to(c.device)
    normalise = Normalise(data_config, c.device)
    images, class_ids = load_images(train, c.image_size, title='training images')
    if c.held_out:
        chosen = torch.from_numpy(training_split(len(train), c.held_out)[0])
        images, class_ids = images[chosen], class_ids[chosen]
    judged, judged_ids = load_images(test, c.image_size, title='test images')
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=warmed_up_average(c.average_decay))
    optimiser = torch.optim.AdamW(_groups(model, c.weight_decay), lr=c.learning_rate)
    steps = math.ceil(len(images) / c.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _warmup_cosine(step, c.warmup_epochs * steps, c.epochs * steps))
    teacher = None if c.distil_from is None else Teacher(c.distil_from, train.class_names, images, c.distil_weight,
                                                         c.distil_temperature, c.device, c.precision, c.distil_views)
    checkpoint = Checkpoint(c.output, asdict(c))
    history: list[dict] = []
    state = checkpoint.load()
    if state is not None:
        model.load_state_dict(state['model'])
        average.load_state_dict(state['average'])
        optimiser.load_state_dict(state['optimiser'])
        schedule.load_state_dict(state['schedule'])
        history = state['history']
    for epoch in range(len(history), c.epochs):
        generator = torch.Generator().manual_seed(c.seed * 100_003 + epoch)
        began, total = time.monotonic(), 0.0
        model.train()
        order = torch.randperm(len(images), generator=generator)
        bar = Progress(order.split(c.batch_size), desc=f'epoch {epoch + 1}/{c.epochs}', unit='step')
        for step, chosen in enumerate(bar):
            batch = shift_and_flip(images[chosen].to(c.device), c.shift_pixels, generator)
            batch = erase(batch, c.erase_probability, generator)
            targets = functional.one_hot(class_ids[chosen], len(train.class_names)).float()
            if teacher is not None and teacher.once is not None:         # side by side, so that both are mixed with the same weights
                targets = torch.cat((targets, teacher.once[chosen]), 1)
            batch, targets = mixup(batch, targets.to(c.device), c.mixup_alpha, generator)
            with mixed_precision(c.device, c.precision):
                logits = model(normalise(batch)).float()
            labels, answers = targets[:, :logits.shape[1]], targets[:, logits.shape[1]:]
            loss = functional.cross_entropy(logits, labels, label_smoothing=c.label_smoothing)
            if teacher is not None:
                loss = teacher.loss(loss, logits, answers if teacher.once is not None else teacher.softened(batch))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
            bar.set_postfix(loss=f'{total / (step + 1):.3f}')
        if epoch + 1 == c.epochs:
            round_weights(average.module, c.stored_as)
        accuracy = top1(average.module, judged, judged_ids, normalise, c.device)
        history.append({'epoch': epoch + 1, 'loss': round(total / steps, 4), 'top1': round(accuracy, 4),
                        'seconds': round(time.monotonic() - began, 1)})
        print(f'epoch {epoch + 1}: training loss {total / steps:.3f}, test accuracy {100 * accuracy:.2f} %', flush=True)
        checkpoint.save({'model': model.state_dict(), 'average': average.state_dict(),
                         'optimiser': optimiser.state_dict(), 'schedule': schedule.state_dict(), 'history': history})
    figures = {'test_top1': history[-1]['top1'], 'test_images': len(judged), 'epochs': c.epochs,
               'parameters': sum(parameter.numel() for parameter in model.parameters())}
    before = commands_before(c.initial_weights)
    save_model(c.output, average.module.eval(), {
        'name': Path(c.output).name, 'architecture': c.architecture,
        'model_kwargs': {**c.model_kwargs, 'img_size': c.image_size}, 'pretrained_cfg': data_config,
        'class_names': list(train.class_names), 'default_cut': c.default_cut, 'figures': figures, 'history': history,
        'made_by': {'command': command, **({'after': before} if before else {}), 'configuration': asdict(c), 'torch': torch.__version__}},
        c.stored_as)
    checkpoint.remove()
    return figures


@torch.inference_mode()
def top1(model: torch.nn.Module, images: torch.Tensor, class_ids: torch.Tensor, normalise: Normalise,
         device: str = 'cpu', batch_size: int = 250) -> float:
    """Share of the images uint8 [n, C, H, W] whose most likely class is the known one."""
    model.eval()
    right = 0
    for batch, ids in zip(images.split(batch_size), class_ids.split(batch_size)):
        right += int((model(normalise(batch.to(device))).argmax(1).cpu() == ids).sum())
    return right / len(images)


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """No weight decay on biases, norms, embeddings and special tokens, as timm and DeiT do."""
    kept_whole = set(model.no_weight_decay()) if hasattr(model, 'no_weight_decay') else set()
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or name in kept_whole else decayed).append(parameter)
    return [{'params': decayed, 'weight_decay': weight_decay}, {'params': plain, 'weight_decay': 0.0}]


def _warmup_cosine(step: int, warmup: float, total: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1.0, total - warmup))))
