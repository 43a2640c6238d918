"""The demo's masks: how good those that reached the robot are, with and without loss, and a picture of some."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image as Picture
from sensor_msgs.msg import Image

from evitif.datasets import MovingFashion
from evitif.heads import Features, load_heads
from evitif.mask_colours import coloured, overlaid
from evitif.pipeline.cut_model import CutModel
from evitif.settings import SplitSettings
from evitif_edge_node.image_sources import open_source
from evitif_lab.commands.progress import Progress
from evitif_lab.trials.place_figures import MaskFigures
from scripts.demo.monitor import Monitor

SHOWN, SIDE = 4, 192        # frames in the picture, and pixels of the side of each


def mask_figures(options: argparse.Namespace, monitor: Monitor, config: SplitSettings) -> dict:
    """The mean intersection over union of the masks that came, and of the same frames' without a link; writes the picture masks.png.

    A frame whose mask did not come counts as wrong everywhere.
    """
    stream = CutModel.load(config, with_heads=False)
    (head,) = load_heads(config.heads, stream.parameters.model, stream.split, stream.split.module)
    truths, source = MovingFashion('test'), open_source(options.images, loop=True, shuffle=True, seed=options.seed)
    came, whole, by_class, shown = 0, MaskFigures(head.labels), MaskFigures(head.labels), []
    stamps = sorted(monitor.truth)              # the camera's images, in its order
    step = max(1, len(stamps) // SHOWN)
    for number, stamp in enumerate(Progress(stamps, desc='the same frames without a link', unit='frame', leave=False)):
        image = source.next_image()
        clip, frame = map(int, image.name.split('-')[-2:])
        truth = truths.frame(clip, frame).mask
        with torch.inference_mode():
            tokens = stream.split.head(stream.preprocessor(image.image))
            whole.add(head(Features.of(stream.split, tokens, head.reading.blocks)), [truth])
        said = monitor.masks.get(stamp)
        came += said is not None
        by_class.add_classes(np.full(truth.shape, 255, np.uint8) if said is None else one_channel(said), truth)
        sure = monitor.confidences.get(stamp)
        if said is not None and sure is not None and number % step == step // 2:
            shown.append((image.image, truth, one_channel(said), one_channel(sure)))
    source.close()
    if shown:
        save_masks(shown, options.reports / 'masks.png')
    return {'masks': came, 'miou': round(by_class.value, 4), 'miou_lossless': round(whole.value, 4),
            'iou': {name: [by_class.by_class[name], whole.by_class[name]] for name in head.labels}}


def mask_rows(figures: dict) -> list[tuple[str, str]]:
    """For the table: the mean, and class by class."""
    def percent(value: float | None) -> str:
        return '–' if value is None else f'{100 * value:.1f} %'
    return [('masks on the robot', str(figures['masks'])),
            ('mIoU with loss, without', f'{percent(figures["miou"])}, {percent(figures["miou_lossless"])}'),
            *((f'  {name}', f'{percent(lossy)}, {percent(lossless)}') for name, (lossy, lossless) in figures['iou'].items())]


def one_channel(message: Image) -> np.ndarray:
    """A mono8 message as uint8 [H, W]."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :message.width]


def save_masks(shown: list[tuple[np.ndarray, ...]], path: Path) -> None:
    """Rows of image, what is there, what the robot was told, and how sure that is."""
    rows = [np.hstack([_large(picture) for picture in (
        image, coloured(truth), overlaid(image, said, np.full_like(said, 255)), np.repeat(sure[..., None], 3, 2))])
        for image, truth, said, sure in shown]
    Picture.fromarray(np.vstack(rows)).save(path)


def _large(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
