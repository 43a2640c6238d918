"""Measure what the steps of an entropy code cost, and what lost patches cost with and without a memory: the table by which a robot chooses
how its coded frames travel (`evitif.pipeline.coded_table`). The unit is that of `rate_measurement`; no labels are used.

Of some hundred images a fine step turns a few answers round, so what it costs by these alone is uncertain by about as much as a robot may
lose. But all images say how far the answers moved. For small errors the divergence and the expected cost are both in proportion to the
squared error: so their ratio is taken over all steps that cost little, and such a step costs what follows from its divergence.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from evitif.model.entropy_code import EntropyCode
from evitif.model.entropy_tables import STEPS
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import LinearCompletion, Memories, Recovery
from evitif.recovery.methods import LastKnown
from evitif.selection.large import PatchModel
from evitif_lab.commands.progress import Progress
from evitif_lab.training.rate_measurement import BATCH, SHARES_LOST, lost_costs
from evitif_lab.trials.headed import cost, divergence

WORTHLESS = 0.5         # cost of a step that is not worth a row of the table
EXACT, FINE = 0.0003, 8     # from this step on, no finer one is measured than one that costs no more than this
COARSE = 0.0007         # what two steps may differ by without the one between them
LITTLE = 0.03           # up to this cost a step's is taken to be in proportion to its divergence
SHARES = (0.25, 0.5, 0.75, 1.0)     # of the patches lost after a frame that is remembered
FRAME_S, LIMIT_S = 1 / 30, 2.0       # between two frames, and of the memory
POINTS = 8              # of the cost by what differs from what is remembered


@torch.inference_mode()
def measure_steps(stream: CutModel, code: EntropyCode, recovery: Recovery, digest: str, tokens: torch.Tensor, answers: torch.Tensor,
                  video: torch.Tensor | None, seed: int = 0, pixels: PatchModel | None = None, before: dict | None = None) -> dict:
    """
    :param tokens: exact ones of training images, [n, N, D], and the tail's logits on them, `answers` [n, classes]
    :param video: of frames that follow one another, [paths, frames, N, D]; None: what is remembered is not measured
    :param pixels: the same model where the tokens are patches of pixels
    :param before: an earlier table; where it was made with the same recovery, what lost patches cost is taken from there
    """
    probabilities, prefix = answers.softmax(1), (pixels or stream.split).prefix_tokens
    coding, diverged, sizes = {}, {}, {}
    levels = [code.quantise(image) for image in tokens.numpy()]

    def measure(step: int) -> None:
        plans = [code.plan(each, step) for each in levels]
        arrived = torch.from_numpy(np.stack([code.reconstruct(plan.levels) for plan in plans]))
        diverged[step], coding[step] = answer_errors(stream, answers, arrived, pixels)
        sizes[step] = float(np.mean([plan.bits[prefix:].sum() for plan in plans])) / 8
        bar.update()
    known = before is not None and before.get('recovery_digest') == digest and before.get('recovery') == recovery.name
    with Progress(total=len(STEPS) + (0 if known else len(SHARES_LOST)) + len(SHARES), unit='row',
                  desc=f'cost of steps and loss at cut {stream.split.cut}') as bar:
        for step in range(len(STEPS) - 2, -1, -2):
            measure(step)
            if step <= FINE and coding[step] <= EXACT:
                break
        if pixels is not None:      # what is lost is made up for behind the embedding
            tokens = torch.cat([pixels.embed(part.to(stream.placement.device)).float().cpu() for part in tokens.split(BATCH)])
        lost = before['lost'] if known else lost_costs(stream, recovery, tokens, probabilities, seed, bar)
        remembered = None if video is None else remembered_costs(stream, code, recovery, video, seed, bar)
    coding = {step: cost for step, cost in coding.items() if cost < WORTHLESS}
    expected = expected_costs({step: diverged[step] for step in coding}, coding)
    filmed = {} if video is None else {'videos': len(video), 'remembered': remembered}
    return {'recovery': recovery.name, 'recovery_digest': digest, 'images': len(tokens), **filmed,
            'coding': {str(step): round(cost, 6) for step, cost in expected.items()},
            'bytes': {str(step): round(between(sizes, step), 1) for step in expected}, 'lost': lost,
            'measured': {str(step): [round(diverged[step], 6), coding[step]] for step in sorted(coding)}}


def answer_errors(stream: CutModel, answers: torch.Tensor, arrived: torch.Tensor, pixels: PatchModel | None = None) -> tuple[float, float]:
    """The divergence in nats of the answers to tokens [n, N, D] as they arrived from those to the exact ones, logits [n, classes, …], and
    what the answers that were turned round cost."""
    diverged, classes = 0.0, []
    for part, exact in zip(arrived.split(BATCH), answers.split(BATCH), strict=True):
        logits = (pixels or stream.split).tail(part.to(stream.placement.device)).float().cpu()
        diverged += float(divergence(logits, exact)) * len(part)
        classes.append(logits.argmax(1))
    return max(diverged / len(arrived), 1e-9), round(cost(answers.softmax(1), torch.cat(classes)), 6)


def expected_costs(divergences: dict[int, float], costs: dict[int, float]) -> dict[int, float]:
    """What steps cost, ascending: where that is little, in proportion to their divergence, else as measured. Steps between those that were
    measured are added where their neighbours' costs differ."""
    steps, little = sorted(divergences), [step for step in divergences if costs[step] <= LITTLE]
    ratio = sum(costs[step] for step in little) / max(sum(divergences[step] for step in little), 1e-9)
    found = [ratio * divergences[step] if step in little else costs[step] for step in steps]
    expected = dict(zip(steps, np.maximum.accumulate(found).tolist(), strict=True))     # a coarser step that costs less is chance
    for step, after in itertools.pairwise(steps):
        if after == step + 2 and expected[after] - expected[step] > COARSE:
            expected[step + 1] = between(expected, step + 1)
    return dict(sorted(expected.items()))


def between(values: dict[int, float], step: int) -> float:
    """The value at a step, or the geometric mean of those of its neighbours."""
    return values[step] if step in values else math.sqrt(values[step - 1] * values[step + 1])


def remembered_costs(stream: CutModel, code: EntropyCode, recovery: Recovery, video: torch.Tensor, seed: int,
                     bar: Progress) -> list[list[float]]:
    """Pairs, ascending: the share of the patches' energy by which lost patches differ from what is remembered of them, weighted as the edge
    weights them (`evitif.pipeline.coded_edge.patches_of`), and what that costs. Of each path the first frame is remembered whole, and of
    the others some patches are lost."""
    split, device, generator = stream.split, stream.placement.device, torch.Generator().manual_seed(seed)
    if not recovery.takes_memory:
        recovery = LastKnown(stream.blank_tokens, split.prefix_tokens, split.grid)
    if isinstance(recovery, LinearCompletion):
        about = recovery.mean, recovery.scale, split.prefix_tokens, LIMIT_S, float(recovery.chance)
    else:
        about = stream.blank_tokens, torch.ones_like(stream.blank_tokens[0]), split.prefix_tokens, LIMIT_S, None
    probabilities = torch.stack([split.tail(path[1:].float().to(device)).float().softmax(1).cpu() for path in video])
    everything, points = torch.ones(split.tokens, dtype=torch.bool), []
    levels = np.stack([[code.quantise(frame) for frame in path] for path in video.float().numpy()])[:, :, split.prefix_tokens:]
    for share in SHARES:
        for path, known, of_path in zip(video, levels, probabilities, strict=True):
            for number in range(1, len(path)):
                received = everything.clone()
                received[split.prefix_tokens:] = torch.rand(split.tokens - split.prefix_tokens, generator=generator) >= share
                stream_memory = Memories(1, *about).of(1)
                stream_memory.see(path[0].float().to(device), everything.to(device), 0)
                memory = stream_memory.see(path[number].float().to(device), received.to(device), round(1e9 * number * FRAME_S))
                recovered = recovery.recover((path[number].float() * received[:, None]).to(device)[None], received[None].to(device),
                                             torch.tensor([share], device=device), memory)
                said = recovered.logits(split).argmax(1).cpu()
                now, gone = known[number].astype(np.float64), ~received[split.prefix_tokens:].numpy()
                weights = code.weights_of_patches(known[number])
                differs = (weights * np.square(now - known[0]).sum(1))[gone].sum() / max((weights * np.square(now).sum(1)).sum(), 1e-9)
                points.append((differs, cost(of_path[number - 1:number], said)))
        bar.update()
    parts = np.array_split(np.array(sorted(points)), POINTS)
    return smooth([(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts])


def smooth(points: list[tuple[float, float]]) -> list[list[float]]:
    """Pairs of a share and its cost, ascending, as c share^e, e from 0.8 to 2 by least squares.

    Few frames are answered with another class, so what is measured at each share alone is uncertain.
    """
    shares, costs = (np.maximum(np.array(part), 1e-9) for part in zip(*points, strict=True))

    def law(exponent: float) -> np.ndarray:
        return shares**exponent * costs.sum() / (shares**exponent).sum()
    best = min((law(exponent) for exponent in np.arange(0.8, 2.01, 0.1)), key=lambda found: float(np.square(found - costs).sum()))
    return [[0.0, 0.0], *([round(float(share), 5), round(float(cost), 6)] for share, cost in zip(shares, best, strict=True))]
