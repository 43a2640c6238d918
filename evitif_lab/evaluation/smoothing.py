"""How much answers flicker on video, and what the bridge's `smoothing` makes of it: `evitif evaluate smoothing`.

Nothing is lost. The head and the tail run once over each frame; the filters then take the probabilities and the changes of scene as the
bridge's do.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import ImageDataset, MovingFashion, open_images
from evitif.files import write_json
from evitif.heads import Features
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.smoothing import Smoothing
from evitif.recovery import Memories
from evitif.settings import SplitSettings
from evitif.vocabulary import Quantisation, Task
from evitif_lab.commands.configuration import ViewChoice, option
from evitif_lab.commands.options import not_negative_int, positive, positive_int
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import require_report

MEMORY_S = 2.0      # the bridge's default


@dataclass(frozen=True, kw_only=True)
class SmoothingEvaluation(ViewChoice):
    """What to measure; saved with the result."""

    data: list[str] = option(help='moving-fashion, or folders of frames that follow one another, or bags', nargs='+')
    head: str = option('', "a head that classifies or says masks, in the place of the model's own classifier", metavar='FOLDER')
    cut: int | None = option(None, "by whose tokens a change of scene is noticed (default: the model folder's, else half of the depth)",
                             not_negative_int)
    rate_hz: tuple[float, ...] | list[float] = option((30.0,), 'frames a second, one for all of --data or for each', positive, nargs='+')
    frames: int = option(300, 'of each of --data, the first so many', positive_int)
    clip: int = option(100, 'frames of a clip of moving-fashion', positive_int)
    smoothing: tuple[float, ...] | list[float] = option((0.1, 0.2, 0.3, 0.5, 1.0), 'time constants, seconds', positive, nargs='+')
    json: str | None = option(None, 'write the figures there, and beside it a table (.md)', metavar='FILE')


def evaluate_smoothing(configuration: SmoothingEvaluation, command: str = '') -> dict:
    """Measure and return, and write where asked, the figures. Raises ValueError, or one of its kinds, for what cannot be used."""
    c, began = configuration, time.monotonic()
    require_report(c.json)
    if len(c.rate_hz) not in (1, len(c.data)):
        raise ValueError(f'--rate-hz has {len(c.rate_hz)} numbers and --data {len(c.data)}: expected one, or as many')
    model = CutModel.load(SplitSettings(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=c.cut, device=c.device,
                                        quantisation=Quantisation.INT8, heads=c.head, **c.view), with_heads=True)
    if model.heads and model.heads[0].task not in (Task.CLASSIFY, Task.SEGMENT):
        raise ValueError(f'head {c.head}: its task is {model.heads[0].task}: expected one that classifies or says masks')
    rates = list(c.rate_hz) * (len(c.data) // len(c.rate_hz))
    videos = [_Video(source, rate, c, model) for source, rate in zip(c.data, rates, strict=True)]
    result = {'model': model.parameters.model, 'head': model.heads[0].name if model.heads else '', 'smoothing': list(c.smoothing),
              'videos': [video.figures(c.smoothing) for video in videos], 'seconds': round(time.monotonic() - began, 1),
              'torch': torch.__version__, 'command': command, 'identity': asdict(c)}
    if c.json:
        write_json(c.json, result)
    return result


class _Video:
    """Frames of one source, with what is said of each and whether it shows the scene of the frame before."""

    @torch.inference_mode()
    def __init__(self, source: str, rate_hz: float, c: SmoothingEvaluation, model: CutModel):
        self.source, self.rate_hz = source, rate_hz
        data, streams = _frames(source, rate_hz, c)
        head, split = (model.heads[0] if model.heads else None), model.split
        centre = model.blank_tokens
        whole = torch.ones(split.tokens, dtype=torch.bool, device=centre.device)
        said, self.same_scene, self.truth = [], [], []
        # As in the bridge (`evitif.pipeline.split_bridge`), where nothing but the change of scene is asked of the memory.
        memories = Memories(len(set(streams)), centre, torch.ones_like(centre[0]), split.prefix_tokens, MEMORY_S)
        for number, stream in enumerate(Progress(streams, desc=f'frames of {source}', unit='frame')):
            sample = data[number]
            tokens = model.head(model.preprocessor(sample.image))
            memory = memories.of(stream).see(tokens[0].float(), whole, self.stamp_ns(number))
            logits = split.tail(tokens) if head is None else head(Features.of(split, tokens, head.reading.blocks))
            said.append(logits[0].float().softmax(0).cpu())
            self.same_scene.append(memory is not None)
            self.truth.append(sample.class_id)
        self.streams, self.said = np.array(streams), said
        classes = model.class_names if head is None else head.labels
        self.known = said[0].ndim == 1 and tuple(data.class_names) == tuple(classes)

    def stamp_ns(self, number: int) -> int:
        """When a frame was taken."""
        return 1_000_000_000 + round(number * 1e9 / self.rate_hz)

    def figures(self, constants: tuple[float, ...] | list[float]) -> dict:
        """By time constant; 0 is no filter."""
        adjacent = self.streams[1:] == self.streams[:-1]
        by_constant = {}
        for constant in (0.0, *constants):
            answers = self._answers(constant)
            changes = np.array([np.mean(one != other) for one, other in zip(answers[1:], answers[:-1], strict=True)])[adjacent]
            found = {'changes': round(float(changes.mean()), 4)}
            if self.known:
                found |= {'right': round(float(np.mean([answer == true for answer, true in zip(answers, self.truth, strict=True)])), 4),
                          'delay_s': self._delay(answers)}
            by_constant[f'{constant:g}'] = found
        scenes = int(sum(not same for same, next_to in zip(self.same_scene[1:], adjacent, strict=True) if next_to))
        return {'source': self.source, 'rate_hz': self.rate_hz, 'frames': len(self.said), 'changes_of_scene': scenes,
                'by_constant': by_constant}

    def _answers(self, constant: float) -> list[np.ndarray]:
        """The most likely class of each frame, or of each of its places."""
        if not constant:
            return [said.argmax(0).numpy() for said in self.said]
        smoothing = Smoothing(constant, len(set(self.streams.tolist())))
        filtered = (smoothing.frame(int(stream), self.stamp_ns(number), same)('', said)
                    for number, (stream, same, said) in enumerate(zip(self.streams, self.same_scene, self.said, strict=True)))
        return [probabilities.argmax(0).numpy() for probabilities in filtered]

    def _delay(self, answers: list[np.ndarray]) -> float | None:
        """Seconds from a change of the true class to the first answer that is right, the median of the changes that were answered."""
        waited = []
        for number in range(1, len(answers)):
            if self.streams[number] == self.streams[number - 1] and self.truth[number] != self.truth[number - 1]:
                for later in range(number, len(answers)):
                    if self.streams[later] != self.streams[number] or self.truth[later] != self.truth[number]:
                        break
                    if answers[later] == self.truth[number]:
                        waited.append((later - number) / self.rate_hz)
                        break
        return round(float(np.median(waited)), 3) if waited else None


def _frames(source: str, rate_hz: float, c: SmoothingEvaluation) -> tuple[ImageDataset, list[int]]:
    """The frames, and of which stream each is."""
    if source.replace('_', '-').lower() == MovingFashion.name:
        clips = -(-c.frames // c.clip)
        return MovingFashion('test', clips=clips, length=c.clip, rate=rate_hz), [number // c.clip for number in range(c.frames)]
    data = open_images(source, 'test')
    return data, [0] * min(c.frames, len(data))


def markdown(result: dict) -> str:
    """A table for each video."""
    lines = [f'Share of adjacent frames whose most likely class is another{" (of masks: of their places)" if result["head"] else ""}, on '
             f'{result["model"]}{", head " + result["head"] if result["head"] else ""}, nothing lost:', '',
             '| `smoothing` | 0 | ' + ' | '.join(f'{constant:g} s' for constant in result['smoothing']) + ' |',
             '| --- |' + ' ---: |' * (1 + len(result['smoothing']))]
    for video in result['videos']:
        cells = list(video['by_constant'].values())
        title = f'{video["source"]}, {video["frames"]} frames at {video["rate_hz"]:g} Hz, {video["changes_of_scene"]} changes of scene'
        lines.append(f'| {title} | ' + ' | '.join(f'{100 * cell["changes"]:.1f} %' for cell in cells) + ' |')
        for name, what, text in (('right', 'right', lambda value: f'{100 * value:.1f} %'),
                                 ('delay_s', 'a new class is said first after', lambda value: f'{value:.2f} s')):
            if cells[0].get(name) is not None:
                lines.append(f'| … {what} | ' + ' | '.join('–' if cell[name] is None else text(cell[name]) for cell in cells) + ' |')
    return '\n'.join([*lines, '', f'Made by `{result["command"]}`.', ''])


def write_report(result: dict, json_path: str) -> list[str]:
    """Write the table beside the JSON file; a sentence about it."""
    path = Path(json_path).with_suffix('.md')
    path.write_text(markdown(result))
    return [f'the table is in {path}']

