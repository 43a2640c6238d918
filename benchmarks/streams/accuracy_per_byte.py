"""Accuracy for the bytes on the wire, over loss: evitif at several budgets beside JPEG and WebP with ideal parity.

Both are given the same images, as the model sees them: resized and cropped. Images are coded and decoded really; that the erasure code
gives back what went in is the same for all of them, so that of it only datagrams and failures are counted. Bytes are of IP packets; neither
side is sealed. Entropy-coded frames are those of edge and bridge as they run, in simulated time, the images one after the other and none of
them remembered for the next; nobody tells them the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.link.images import decode, encode
from benchmarks.link.parity import data_datagrams, failure_of, protected_bytes
from benchmarks.part import ROOT, PartError, command, ratio_interval95, save
from benchmarks.plots import lines
from benchmarks.streams.clips import Source
from benchmarks.streams.evitif_split import Split
from benchmarks.streams.traces import Link
from evitif.model.errors import ArtifactError
from evitif.transport.impairment import HEADER_BYTES
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.recovery import Measurement, RecoveryEvaluation
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT, Job
from evitif_lab.evaluation.suite import measure as measure_job

TITLE = 'Accuracy for the bytes on the wire'
QUICK = 'fewer images, budgets and losses'
SOURCES = ('evitif_lab/evaluation', 'evitif/recovery', 'evitif/model', 'benchmarks/link/images.py', 'benchmarks/link/parity.py')
LOSSES = (0.0, 0.1, 0.3, 0.6)
QUALITIES = (5, 10, 20, 40, 60, 80, 90)
ROWS, CODED = 'evitif, rows', 'evitif, entropy-coded'
CODECS = {'JPEG': 'JPEG, ideal parity', 'WEBP': 'WebP, ideal parity'}
# Quantisation and copies of each patch; 0: automatic.
BUDGETS = (('auto', 0), ('int8', 1), ('klt2', 1), ('klt2', 2), ('klt1', 1), ('klt1', 2), ('klt0.5', 2))
QUICK_BUDGETS, QUICK_QUALITIES, QUICK_LOSSES = (('auto', 0), ('int8', 1), ('klt2', 1)), (10, 40, 90), (0.0, 0.6)
MARGINS, QUICK_MARGINS = (0.002, 0.01, 0.02, 0.04), (0.01,)     # of entropy-coded frames
RATE_HZ, WARM_UP = 20.0, 60         # of these, and how many images go before those that are judged, so that the loss is known
POINTS = 1.0            # that may be lost where the least bytes are asked for
BATCH = 50


@dataclass(frozen=True)
class Judged:
    """A model, its cut, the images that judge it, and of them how many."""

    name: str
    model: str
    cut: int
    data: str
    images: int
    quick_images: int
    checkpoint: str | None = None


MODELS = (
    Judged('CIFAR-10, 32 × 32', 'artifacts/cifar10_vit', 4, 'data/cifar10', 250, 100),
    Judged('Tiny ImageNet, 50 classes, 64 × 64', 'artifacts/tiny_imagenet_50', 4, 'data/tiny-imagenet-50', 250, 100),
    Judged('photographs, ViT-Tiny, 224 × 224', Path(IMAGENET_CHECKPOINT).stem, 6, 'data/imagenet-photos', 150, 30, IMAGENET_CHECKPOINT),
)


def configuration_of(judged: Judged, quick: bool, quantisation: str, copies: int, json: Path) -> RecoveryEvaluation:
    """The evaluation of one setting."""
    return RecoveryEvaluation(model=judged.model, checkpoint=judged.checkpoint, cut=judged.cut, data=judged.data, quantisation=quantisation,
                              patch_copies=copies, methods=('paldn',), loss=QUICK_LOSSES if quick else LOSSES,
                              images=judged.quick_images if quick else judged.images, json=str(json))


def evitif_points(judged: Judged, quick: bool, folder: Path) -> list[dict]:
    """By budget the bytes of a frame and the accuracy over loss."""
    points = []
    for quantisation, copies in QUICK_BUDGETS if quick else BUDGETS:
        label = f'{quantisation}-{copies}' if copies else quantisation
        name = f'{Path(judged.model).name}-{label}'
        result = measure_job(Job(name, label, configuration_of(judged, quick, quantisation, copies, folder / f'{name}.json')))
        points.append({'budget': label, 'bytes': result['bytes_per_frame'] + HEADER_BYTES * result['packets_per_frame'],
                       'top1': {loss: cell['mean'] for loss, cell in result['top1']['paldn'].items()}, 'uncut': result['top1_uncut'],
                       'images': result['images']})
    return points


class Stills:
    """The images that judge a model, one after the other, as `Split` takes a clip: the last ones also go before them."""

    @torch.inference_mode()
    def __init__(self, judged: Judged, quick: bool):
        measurement = measurement_of(judged, quick)
        samples = [measurement.dataset[int(index)] for index in measurement.order]
        self.class_ids = np.array([sample.class_id for sample in samples])
        pixels = [measurement.stream.preprocessor(sample.image) for sample in (*samples[-WARM_UP:], *samples)]
        self.source = Source(judged.name, judged.data, RATE_HZ, len(pixels), judged.model, judged.cut, judged.checkpoint)
        self.rate_hz = RATE_HZ
        self.frames = np.zeros((len(pixels), *pixels[0].shape[2:], 3), np.uint8)        # only their shape counts
        self.tokens = [measurement.stream.head(image).float() for image in pixels]


def coded_points(judged: Judged, quick: bool) -> list[dict]:
    """By accuracy margin the mean bytes of an entropy-coded frame and the accuracy, both over loss; none where there is no code."""
    stills, points = Stills(judged, quick), []
    first = len(stills.frames) - len(stills.class_ids)
    for margin in Progress(QUICK_MARGINS if quick else MARGINS, desc=f'{judged.name}, entropy-coded', unit='margin'):
        run = Split({'quantisation': 'coded', 'accuracy_margin': margin, 'answer_memory': 0.0},
                    {'quantisation': 'coded', 'memory_limit': 0.0})
        found: dict[str, dict] = {'bytes': {}, 'top1': {}}
        for loss in QUICK_LOSSES if quick else LOSSES:
            try:
                result = run(stills, Link('', loss).trace(0, len(stills.frames), RATE_HZ))
            except ArtifactError:
                return []
            found['bytes'][f'{loss:g}'] = float(result.bytes[first:].mean())
            found['top1'][f'{loss:g}'] = float((result.answers[first:] == stills.class_ids).mean())
        points.append({'margin': margin, **found})
    return points


def measurement_of(judged: Judged, quick: bool) -> Measurement:
    """Model and images of the evaluation, of which nothing is saved."""
    return Measurement(replace(configuration_of(judged, quick, 'int8', 1, Path()), json=None))


@torch.inference_mode()
def codec_points(judged: Judged, quick: bool) -> list[dict]:
    """By codec and quality the mean bytes of a frame and the accuracy, both over loss, of the whole model."""
    measurement = measurement_of(judged, quick)
    stream, chosen = measurement.stream, measurement.order
    mean, std = (torch.tensor(stream.preprocessor.data_config[name])[:, None, None] for name in ('mean', 'std'))
    samples = [measurement.dataset[int(index)] for index in chosen]
    pixels = [((stream.preprocessor(sample.image)[0] * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
              for sample in samples]
    points = []
    for codec in CODECS:
        for quality in Progress(QUICK_QUALITIES if quick else QUALITIES, desc=f'{judged.name}, {codec}', unit='quality'):
            files = [encode(image, codec, quality) for image in pixels]
            right = []
            for at in range(0, len(files), BATCH):
                images = torch.stack([torch.from_numpy(decode(file).copy()).permute(2, 0, 1) / 255 for file in files[at:at + BATCH]])
                logits = stream.split.whole((images - mean) / std)
                right += (logits.argmax(1) == torch.tensor([sample.class_id for sample in samples[at:at + BATCH]])).tolist()
            points.append({'codec': codec, 'quality': quality, 'file_bytes': float(np.mean([len(file) for file in files])),
                           **over_loss(files, right, QUICK_LOSSES if quick else LOSSES)})
    return points


def over_loss(files: list[bytes], right: list[bool], losses: tuple[float, ...]) -> dict:
    """Mean bytes of a frame's IP packets, and the accuracy with the frames that cannot be decoded counted as wrong."""
    found: dict[str, dict] = {'bytes': {}, 'top1': {}}
    for loss in losses:
        sizes, decoded = [], []
        for file, hit in zip(files, right, strict=True):
            count, payload = protected_bytes(len(file), loss)
            sizes.append(payload + HEADER_BYTES * count)
            decoded.append(hit * (1 - failure_of(data_datagrams(len(file)), count, loss)))
        found['bytes'][f'{loss:g}'], found['top1'][f'{loss:g}'] = float(np.mean(sizes)), float(np.mean(decoded))
    return found


def least_bytes(points: list[tuple[float, float]], uncut: float, points_lost: float = POINTS) -> float | None:
    """The least bytes of (bytes, top-1) that lose at most so many points against `uncut`; None where none does."""
    enough = [size for size, top1 in points if 100 * (uncut - top1) <= points_lost + 1e-9]
    return min(enough) if enough else None


def run(quick: bool, output: Path) -> dict:
    """
    The part of `make bench`.

    :raises PartError: none of the models has its images and weights here
    """
    figures, left_out = {}, {}
    for judged in MODELS:
        try:
            if judged.checkpoint and not (ROOT / judged.checkpoint).is_file():
                raise ValueError(f'its weights, {judged.checkpoint}, are not there')
            evitif = evitif_points(judged, quick, output / 'accuracy_per_byte')
            figures[judged.name] = {'evitif': evitif, 'coded': coded_points(judged, quick), 'codecs': codec_points(judged, quick),
                                    'uncut': evitif[0]['uncut'], 'images': evitif[0]['images'], 'data': judged.data, 'cut': judged.cut}
        except (ValueError, OSError) as error:
            left_out[judged.name] = str(error)
            print(f'{judged.name} was left out: {error}', flush=True)
    if not figures:
        raise PartError('; '.join(f'{name}: {reason}' for name, reason in left_out.items()))
    return save(output, 'accuracy_per_byte', command('accuracy_per_byte', quick), figures,
                left_out=left_out)


# --- the page ---

def summary(result: dict) -> str:
    """The fewest bytes for nearly the whole accuracy."""
    lines = []
    for name, cell in result['figures'].items():
        losses = list(cell['evitif'][0]['top1'])
        if not lines:
            lines = [f'The fewest bytes on the wire for a frame, IP headers included, that lose at most {POINTS:g} point of top-1 against '
                     'the uncut model; –: no setting does.', '',
                     '| | | ' + ' | '.join(f'{100 * float(loss):g} % loss' for loss in losses) + ' |',
                     '| --- | --- |' + ' ---: |' * len(losses)]
        for title, series in _series(cell, losses).items():
            lines.append(f'| {name} | {title} | ' + ' | '.join(_least_bytes(series, losses, cell['uncut'])) + ' |')
    return '\n'.join(lines)


def _least_bytes(series: dict[str, list[tuple[float, float]]], losses: list[str], uncut: float) -> list[str]:
    sizes = (least_bytes(series[loss], uncut) for loss in losses)
    return ['–' if size is None else f'{size:,.0f}' for size in sizes]


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    text = ['evitif with PALDN, as rows at several budgets of bytes (quantisation, copies of each patch) and entropy-coded by accuracy '
            'margin, beside the whole model on decoded images. Entropy-coded frames are those of edge and bridge as they run; nobody tells '
            'them the loss, and no image is remembered for the next. Bytes are those of a frame\'s IP packets, on average. The first table '
            f'of each data set has the fewest bytes that lose at most {POINTS:g} point of top-1.']
    for number, (name, cell) in enumerate(result['figures'].items()):
        losses = list(cell['evitif'][0]['top1'])
        low, high = ratio_interval95(round(cell['uncut'] * cell['images']), cell['images'])
        text += ['', f'### {name}', '',
                 f'{cell["images"]} images of {cell["data"]}, cut after block {cell["cut"]}; the uncut model has '
                 f'{100 * cell["uncut"]:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}). Everyone gets the same images.', '',
                 f'| bytes for at most {POINTS:g} point lost | ' + ' | '.join(f'{100 * float(loss):g} % loss' for loss in losses) + ' |',
                 '| --- |' + ' ---: |' * len(losses)]
        for title, series in _series(cell, losses).items():
            text.append(f'| {title} | ' + ' | '.join(_least_bytes(series, losses, cell['uncut'])) + ' |')
        text += ['', '| bytes: top-1 in % | ' + ' | '.join(f'{100 * float(loss):g} % loss' for loss in losses) + ' |',
                 '| --- |' + ' ---: |' * len(losses)]
        for title, points in _rows(cell):
            cells = [f'{points[loss][0]:,.0f}: {100 * points[loss][1]:.1f}' for loss in losses]
            text.append(f'| {title} | {" | ".join(cells)} |')
        for loss in (losses[1], losses[-1]) if len(losses) > 2 else losses[-1:]:
            file = f'bench-bytes-{number}-{100 * float(loss):g}.png'
            if lines(images / file, {title: sorted(series[loss]) for title, series in _series(cell, losses).items()},
                     x='bytes of a frame on the wire', y='top-1, share of 1', logarithmic_x=True, bold=(CODED, ROWS),
                     title=f'{name}, {100 * float(loss):g} % of the packets lost'):
                text += ['', f'![accuracy over bytes at {100 * float(loss):g} % loss]({{images}}/{file})']
    for name, reason in result['left_out'].items():
        text += ['', f'{name} was left out: {reason}.']
    return '\n'.join(text)


def _rows(cell: dict) -> list[tuple[str, dict[str, tuple[float, float]]]]:
    """A title and (bytes, top-1) by loss for each budget and each quality."""
    rows = [(f'{ROWS}, {point["budget"]}', {loss: (point['bytes'], top1) for loss, top1 in point['top1'].items()})
            for point in cell['evitif']]
    rows += [(f'{CODED}, margin {point["margin"]:g}', {loss: (point['bytes'][loss], top1) for loss, top1 in point['top1'].items()})
             for point in cell.get('coded', ())]
    return rows + [(f'{CODECS[point["codec"]]}, quality {point["quality"]}',
                    {loss: (point['bytes'][loss], top1) for loss, top1 in point['top1'].items()}) for point in cell['codecs']]


def _series(cell: dict, losses: list[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """(bytes, top-1) by loss for evitif and each codec."""
    rows = _rows(cell)
    return {title: {loss: [points[loss] for name, points in rows if name.startswith(f'{title},')] for loss in losses}
            for title in (*([CODED] if cell.get('coded') else []), ROWS, *CODECS.values())}
