"""How much of a token is unknown if the same place one frame before, or its four neighbours, are known: of real and of made video.

The energy of tokens is that around their mean over the clip. A token is predicted linearly, and each half of a clip is judged by what the
other half was fitted to. The frame before gives one factor for each principal component of the clip's tokens; of the neighbours the mean
of the four is taken, with a full matrix. Figures are shares of the energy that stay unknown.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import ROOT, PartError, command, save
from evitif.datasets import DatasetError, MovingFashion, open_images
from evitif.files import write_text
from evitif.pipeline.cut_model import CutModel
from evitif.settings import SplitSettings
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT

TITLE = 'What the frame before tells'
QUICK = 'fewer clips'
CLIPS, FRAMES, BATCH = 6, 200, 16
RIDGE = 1e-2            # of the mean variance, for the matrix
MODEL = SplitSettings(model=Path(IMAGENET_CHECKPOINT).stem, checkpoint=str(ROOT / IMAGENET_CHECKPOINT), cut=6, quantisation='fp16')
FOLDERS = {'CamVid, 15 Hz': 'data/camvid/val/images', '7-Scenes kitchen, 30 Hz': 'data/seven-scenes-kitchen/images'}


@dataclass(frozen=True)
class Video:
    """A name, and the frames uint8 [H, W, 3] of each clip."""

    name: str
    clips: Callable[[int], Iterator[list[np.ndarray]]]      # at most so many


def videos() -> list[Video]:
    """What of it is on this machine. Raises PartError where Fashion-MNIST is not."""
    try:
        MovingFashion('test')
    except DatasetError as error:
        raise PartError(str(error)) from None
    made = [Video(f'moving-fashion, {rate:g} Hz', lambda count, rate=rate: (
        [frame.image for frame in MovingFashion('test', rate=rate).video(clip, FRAMES)] for clip in range(count))) for rate in (30.0, 10.0)]
    return made + [Video(name, lambda _, folder=folder: iter([_images(ROOT / folder)])) for name, folder in FOLDERS.items()
                   if (ROOT / folder).is_dir()]


def _images(folder: Path) -> list[np.ndarray]:
    dataset = open_images(str(folder))
    return [dataset[index].image for index in range(min(FRAMES, len(dataset)))]


@torch.inference_mode()
def patch_tokens(stream: CutModel, frames: list[np.ndarray]) -> torch.Tensor:
    """The tokens of the patches at the model's cut, float64 [frames, rows, columns, channels]."""
    found = [stream.split.head(torch.cat([stream.preprocessor(frame) for frame in frames[at:at + BATCH]]))[:, stream.split.prefix_tokens:]
             for at in range(0, len(frames), BATCH)]
    return torch.cat(found).double().unflatten(1, stream.parameters.grid)


def unknown_shares(tokens: torch.Tensor) -> dict[str, float]:
    """Of tokens [frames, rows, columns, channels] of a clip: the share of their energy that stays unknown, by what is known."""
    tokens = tokens - tokens.mean((0, 1, 2))
    inner = tokens[:, 1:-1, 1:-1]
    around = (tokens[:, :-2, 1:-1] + tokens[:, 2:, 1:-1] + tokens[:, 1:-1, :-2] + tokens[:, 1:-1, 2:]) / 4
    return {'last_known': _share(tokens[:-1], tokens[1:], lambda known, _: torch.eye(known.shape[1], dtype=known.dtype)),
            'frame_before': _share(tokens[:-1], tokens[1:], _factors), 'neighbours': _share(around, inner, _matrix)}


def _share(known: torch.Tensor, wanted: torch.Tensor, fit: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    """The unknown share of `wanted` given `known`, both [frames, …, channels]; `fit` finds the matrix that predicts."""
    half, error = len(known) // 2, 0.0
    for fitted, judged in itertools.permutations((slice(0, half), slice(half, None))):
        a, b, c, d = (tokens[part].flatten(0, -2) for part in (fitted, judged) for tokens in (known, wanted))
        error += float(((d - c @ fit(a, b))**2).sum())
    return error / float((wanted**2).sum())


def _factors(known: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    axes = torch.linalg.eigh(known.T @ known).eigenvectors
    a, b = known @ axes, wanted @ axes
    return axes @ torch.diag((a * b).sum(0) / (a * a).sum(0).clamp_min(1e-12)) @ axes.T


def _matrix(known: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    square = known.T @ known
    return torch.linalg.solve(square + RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype), known.T @ wanted)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the figures of docs/moving-fashion.md are."""
    parser.set_defaults(output=ROOT / 'docs' / 'results')


def run(quick: bool, output: Path) -> dict:
    """Measure, and write video_statistics.json and video_statistics.md.

    :raises PartError: Fashion-MNIST or the model's weights are missing
    """
    if not Path(MODEL.checkpoint).is_file():
        raise PartError(f'the weights of {MODEL.model} are not there: expected {IMAGENET_CHECKPOINT}')
    stream, rows = CutModel.load(MODEL), []
    for video in Progress(videos(), desc=MODEL.model, unit='video'):
        shares = [unknown_shares(patch_tokens(stream, frames)) for frames in video.clips(2 if quick else CLIPS)]
        rows.append({'video': video.name, 'clips': len(shares),
                     'unknown': {name: [round(share[name], 3) for share in shares] for name in shares[0]}})
    report = save(output, 'video_statistics', command('video_statistics', quick),
                  {'model': MODEL.model, 'cut': MODEL.cut, 'frames': FRAMES, 'rows': rows})
    write_text(output / 'video_statistics.md', section(report, output))
    return report


def section(result: dict, _images: Path) -> str:
    """The page, in Markdown."""
    figures = result['figures']
    lines = [f'# {TITLE}', '', f'Measured by `{result["command"]}`: shares of the energy of {figures["model"]}\'s tokens at cut '
             f'{figures["cut"]} that stay unknown, median and range over clips of at most {figures["frames"]} frames.', '',
             '| video | the last known token kept | predicted from the frame before | predicted from four neighbours |',
             '| --- | ---: | ---: | ---: |']
    for row in figures['rows']:
        cells = [_of_clips(row['unknown'][name]) for name in ('last_known', 'frame_before', 'neighbours')]
        lines.append(f'| {row["video"]} | {" | ".join(cells)} |')
    return '\n'.join([*lines, ''])


def _of_clips(shares: list[float]) -> str:
    spread = '' if len(shares) == 1 else f' ({100 * min(shares):.0f} to {100 * max(shares):.0f})'
    return f'{100 * float(np.median(shares)):.0f} %{spread}'
