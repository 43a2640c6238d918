"""How many bytes a frame's tokens take on video, and what the answer loses by them, on a clean link: entropy-coded, in reference to an
earlier frame or alone, beside rows of fixed size and WebP.

The cost of an answer b is p(a) - p(b): what the uncut model says of its own answer a on the frame as it was, less what it says of b. Bytes
are of payloads: three packets a frame, each with the class token, without the headers of datagrams. States are those of the frame `lag`
frames before, as if each answer took so long to come back. The codes were fitted to photographs, never to these clips.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.part import ROOT, PartError, command, save
from benchmarks.plots import lines as draw_lines
from evitif.datasets import open_images
from evitif.files import write_text
from evitif.model.code_artifact import choose_code
from evitif.model.entropy_artifact import KIND, load_entropy_code
from evitif.model.entropy_code import EntropyCode, State
from evitif.model.folder import artifact_beside
from evitif.model.quantise import TokenQuantiser
from evitif.model.transform_code import RATES
from evitif.pipeline.cut_model import CutModel
from evitif.settings import SplitSettings
from evitif_lab.commands.options import whole
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT

TITLE = 'Bytes of coded tokens on video'
QUICK = 'fewer frames and steps'
SOURCES = ('evitif/model',)
CLIPS = {'CamVid, 15 Hz': ('data/camvid/val/images', 101), '7-Scenes kitchen, 30 Hz': ('data/seven-scenes-kitchen/images', 200)}
STEPS = (14, 15, 16, 17, 19)
LAGS = (0, 1, 4)            # 0: every frame alone
ROWS = ('klt1', 'klt1.5', 'klt2', 'int4')
WEBP = (80, 90, 95)
PACKETS, BATCH = 3, 25


def run(quick: bool, output: Path, cut: int = 6) -> dict:
    """Measure, and write coded_tokens.json and coded_tokens.md.

    :raises PartError: weights, code or clips are missing
    """
    model = Path(IMAGENET_CHECKPOINT).stem
    path = artifact_beside(model, cut, KIND)
    if path is None or not (ROOT / IMAGENET_CHECKPOINT).is_file():
        raise PartError(f'{IMAGENET_CHECKPOINT} or the entropy code of cut {cut} is not there')
    stream = CutModel.load(SplitSettings(model=model, checkpoint=str(ROOT / IMAGENET_CHECKPOINT), cut=cut, quantisation='fp16'))
    code, _ = load_entropy_code(path, stream.parameters.fingerprint)
    rows = []
    for name, (folder, count) in CLIPS.items():
        if not (ROOT / folder).is_dir():
            continue
        dataset = open_images(str(ROOT / folder))
        images = [dataset[index].image for index in range(min(count, 30 if quick else count, len(dataset)))]
        judge = _Judge(stream, images)
        for how, setting, lag, size, arrived in Progress(_contestants(stream, code, judge, images, cut, quick), desc=name, unit='setting'):
            rows.append({'clip': name, 'frames': len(images), 'how': how, 'setting': setting, 'lag': lag, 'bytes': round(size),
                         **judge.cost(arrived)})
    if not rows:
        raise PartError('no clip is there: ' + ', '.join(folder for folder, _ in CLIPS.values()))
    report = save(output, 'coded_tokens', command('coded_tokens', quick), {'cut': cut, 'rows': rows})
    write_text(output / 'coded_tokens.md', section(report, output))
    return report


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this part alone."""
    parser.add_argument('--cut', type=whole(), default=6, help='where the model is cut (default: 6)')


class _Judge:
    """What the uncut model says of frames as they were, and of what arrived."""

    @torch.inference_mode()
    def __init__(self, stream: CutModel, images: list[np.ndarray]):
        self.stream = stream
        self.inputs = torch.cat([stream.preprocessor(image) for image in images])
        self.tokens = torch.cat([stream.split.head(part) for part in self.inputs.split(BATCH)]).float()
        self.logits = self._answers(self.tokens)
        self.own = self.logits.argmax(1)

    def _answers(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.stream.split.tail(part) for part in tokens.split(BATCH)]).float()

    @torch.inference_mode()
    def cost(self, arrived: torch.Tensor) -> dict:
        """Cost, agreement and divergence in nats of tokens [n, N, D], or of inputs [n, 3, h, w], as they arrived."""
        logits = self._answers(arrived) if arrived.ndim == 3 else torch.cat([self.stream.split.whole(part)
                                                                             for part in arrived.split(BATCH)])
        certain, found = self.logits.softmax(1), logits.argmax(1)
        cost = (certain.gather(1, self.own[:, None]) - certain.gather(1, found[:, None]))[:, 0]
        divergence = torch.nn.functional.kl_div(logits.log_softmax(1), self.logits.log_softmax(1), log_target=True, reduction='batchmean')
        return {'cost': round(float(cost.mean()), 4), 'cost_error': round(float(cost.std() / len(cost)**0.5), 4),
                'agreement': round(float((found == self.own).float().mean()), 4), 'divergence': round(float(divergence), 4)}


def _contestants(stream: CutModel, code: EntropyCode, judge: _Judge, images: list[np.ndarray], cut: int,
                 quick: bool) -> Iterator[tuple[str, str, int, float, torch.Tensor]]:
    """How, its setting, the lag of the state, bytes a frame, and what arrives."""
    for lag in LAGS:
        for step in STEPS[::2] if quick else STEPS:
            size, arrived = coded(code, judge.tokens.numpy(), step, lag)
            yield 'entropy-coded', str(step), lag, size, torch.from_numpy(arrived)
    for kind in ROWS:
        _, found, _ = choose_code(stream.parameters.model, cut, stream.parameters.fingerprint, kind)
        quantiser = TokenQuantiser(kind, stream.split.channels, code=found if kind in RATES else None)
        rows = quantiser.quantise(judge.tokens.flatten(0, 1).numpy())
        yield 'rows', kind, 0, rows.shape[1] * stream.split.tokens, torch.from_numpy(quantiser.dequantise(rows)).view(judge.tokens.shape)
    for quality in WEBP:
        size, inputs = _webp(stream, images, quality)
        yield 'WebP', str(quality), 0, size, inputs


def coded(code: EntropyCode, tokens: np.ndarray, step: int, lag: int) -> tuple[float, np.ndarray]:
    """Bytes a frame and the tokens float32 [n, N, D] that arrive, each frame coded by the state of `lag` frames before; 0: alone."""
    states: list[State] = []
    sizes, arrived, prefix = [], [], len(code.analysis) - 1
    for index, frame in enumerate(tokens):
        state = states[index - lag] if lag and index >= lag else None
        plan = code.plan(code.quantise(frame), step, state)
        states.append(State(plan.levels, np.ones(code.tokens, bool)))
        patches = np.arange(code.tokens - prefix)
        parts = [np.concatenate([np.arange(prefix), prefix + patches[patches % PACKETS == part]]) for part in range(PACKETS)]
        sizes.append(sum(len(code.pack(plan, places)) for places in parts))
        arrived.append(code.reconstruct(plan.levels))
    return float(np.mean(sizes[lag:])), np.stack(arrived)


def _webp(stream: CutModel, images: list[np.ndarray], quality: int) -> tuple[float, torch.Tensor]:
    """Bytes a frame, and the inputs, where what the model sees of each image travels as WebP."""
    sizes, inputs = [], []
    mean, std = (torch.tensor(stream.preprocessor.data_config[name])[:, None, None] for name in ('mean', 'std'))
    for image in images:
        seen = ((stream.preprocessor(image)[0] * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        stored = io.BytesIO()
        Image.fromarray(seen).save(stored, 'WebP', quality=quality)
        sizes.append(stored.tell())
        decoded = torch.from_numpy(np.array(Image.open(stored).convert('RGB'))).permute(2, 0, 1) / 255
        inputs.append((decoded - mean) / std)
    return float(np.mean(sizes)), torch.stack(inputs)


def section(result: dict, images: Path) -> str:
    """The page, in Markdown, and its plot."""
    rows = result['figures']['rows']
    lines = [f'# {TITLE}', '', f'Measured by `{result["command"]}`, cut {result["figures"]["cut"]}. Bytes of payload a frame in '
             f'{PACKETS} packets; cost: the mean of p(a) - p(b), with its standard error over frames.', '']
    for clip in dict.fromkeys(row['clip'] for row in rows):
        lines += [f'## {clip}', '', '| how | setting | bytes | cost | agreement | divergence, nats |',
                  '| --- | --- | ---: | ---: | ---: | ---: |']
        lines += [f'| {_name(row)} | {row["setting"]} | {row["bytes"]:,} | {row["cost"]:.4f} ± {row["cost_error"]:.4f} | '
                  f'{100 * row["agreement"]:.1f} % | {row["divergence"]:.4f} |' for row in rows if row['clip'] == clip]
        lines += ['', f'![{clip}](coded_tokens_{_slug(clip)}.png)', '']
        _plot([row for row in rows if row['clip'] == clip], images / f'coded_tokens_{_slug(clip)}.png', clip)
    return '\n'.join(lines)


def _name(row: dict) -> str:
    if row['how'] != 'entropy-coded':
        return row['how']
    return 'entropy-coded, alone' if not row['lag'] else f'entropy-coded, a frame {row["lag"]} before known'


def _slug(clip: str) -> str:
    return clip.split(',')[0].split(' ')[0].lower()


def _plot(rows: list[dict], path: Path, title: str) -> None:
    series = {name: [(row['bytes'] / 1000, row['cost']) for row in rows if _name(row) == name] for name in map(_name, rows)}
    draw_lines(path, series, x='kB a frame', y='cost', title=title, logarithmic_x=True, bold=('entropy-coded, a frame 1 before known',))
