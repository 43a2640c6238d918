"""What coding a frame of entropy-coded tokens takes of a processor, on the robot and on the bridge, by number of packets.

ViT-Tiny/16 on ImageNet at cut 6: 197 tokens of 192 coefficients, drawn from the spread that the shipped code expects, and moved for the
next frame. Figures are the least processor time of some repetitions, which take turns, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.part import PartError, command, save
from evitif.files import write_text
from evitif.model import native
from evitif.model.entropy_artifact import KIND, load_entropy_code
from evitif.model.entropy_code import EntropyCode, State
from evitif.model.entropy_tables import MIDDLE, OCTAVE, STEPS
from evitif.model.folder import artifact_beside
from evitif.protocol.frames.interleaving import scattered_order
from evitif_lab.commands.options import positive_int
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT

TITLE = 'Coding a frame'
QUICK = 'fewer repetitions'
SOURCES = ('evitif/model',)
CUT, STEP, ROOM = 6, 16, 1080
PACKETS = ((1, 1), (24, 1), (24, 4))        # of the frame at least, copies
MOVED = 0.35                                # of the spread, from one frame to the next
GRID = (14, 14)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this part alone."""
    parser.add_argument('--repeat', type=positive_int, help='(default: 60)')


def tokens_of(code: EntropyCode, frames: int, seed: int = 0) -> np.ndarray:
    """Tokens float32 [frames, N, D] of the spread that the code expects."""
    random = np.random.default_rng(seed)
    label = code.tables.base[0, :, STEP].astype(float)
    spread = (STEPS[STEP] * 2 ** ((label - MIDDLE) / OCTAVE))[code.sorts]
    first = random.laplace(0, spread / math.sqrt(2))
    levels = [first * math.cos(MOVED * k) + random.laplace(0, spread / math.sqrt(2)) * math.sin(MOVED * k) for k in range(frames)]
    return np.stack([code.reconstruct(np.clip(each, -32767, 32767).astype(np.int16)) for each in levels])


def steps_of(code: EntropyCode, tokens: np.ndarray, state: State | None, packets: int, copies: int) -> tuple[dict[str, Callable], dict]:
    """What is done to a frame, in order, and what it becomes."""
    levels = code.quantise(tokens)
    plan = code.plan(levels, STEP, state)
    each = max(packets // copies, math.ceil(plan.bits[1:].sum() / 8 / (ROOM - plan.bits[0] / 8)))
    shift = code.tokens // each // copies        # so that no two copies are cut alike
    parts = [np.concatenate([[0], 1 + np.sort(patches)]) for copy in range(copies)
             for patches in np.array_split(np.roll(scattered_order(GRID), -copy * shift), each)]
    payloads = code.pack_parts(plan, parts)
    return {'quantise': lambda: code.quantise(tokens), 'plan': lambda: code.plan(levels, STEP, state),
            'pack': lambda: code.pack_parts(plan, parts), 'unpack': lambda: code.unpack_parts(payloads, parts, STEP, state),
            'reconstruct': lambda: code.reconstruct(plan.levels)}, {'packets': len(parts), 'bytes': sum(map(len, payloads))}


def run(quick: bool, output: Path, repeat: int | None = None) -> dict:
    """
    Measure, and write coding_cost.json and coding_cost.md.

    :raises PartError: the code is missing, or the C library, which `make build` brings
    """
    path = artifact_beside(Path(IMAGENET_CHECKPOINT).stem, CUT, KIND)
    if path is None:
        raise PartError(f'the entropy code of {Path(IMAGENET_CHECKPOINT).stem} at cut {CUT} is not there')
    library, repeat = native.library(), repeat or (10 if quick else 60)
    if library is None:
        raise PartError(f'{native.NAME} is not below AMENT_PREFIX_PATH: expected a built and sourced workspace')
    rows, runs = [], []
    for found in (library, None):
        code, _ = load_entropy_code(path, None)         # its own tables for each way
        tokens = tokens_of(code, 2)
        with patch.object(native, 'library', lambda found=found: found):
            state = State(code.plan(code.quantise(tokens[0]), STEP).levels, np.ones(code.tokens, bool))
            for before in (None, state):
                for packets, copies in PACKETS:
                    steps, about = steps_of(code, tokens[1], before, packets, copies)
                    rows.append({'library': found is not None, 'after_a_frame': before is not None, 'copies': copies, **about})
                    runs.append((found, steps))
    for _ in range(repeat):
        for row, (found, steps) in zip(rows, runs, strict=True):
            with patch.object(native, 'library', lambda found=found: found):
                for name, step in steps.items():
                    began = time.thread_time()
                    step()
                    row[name] = min(row.get(name, math.inf), round(1e3 * (time.thread_time() - began), 3))
    report = save(output, 'coding_cost', command('coding_cost', repeat=repeat), {'step': STEP, 'rows': rows})
    write_text(output / 'coding_cost.md', section(report, output))
    return report


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    lines = [f'# {TITLE}', '',
             f'Made by `{result["command"]}`; do not edit. ViT-Tiny/16 on ImageNet at cut {CUT}, step {STEP}, tokens drawn '
             'as the code expects them; bytes of payload. Milliseconds of processor time of one core, the least of the repetitions.', '',
             '| | | packets | bytes | quantise | plan | pack | unpack | reconstruct | both ways |',
             '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |']
    for row in result['figures']['rows']:
        figures = [row[name] for name in ('quantise', 'plan', 'pack', 'unpack', 'reconstruct')]
        copies = f', {row["copies"]} copies' if row['copies'] > 1 else ''
        how = 'C library' if row['library'] else 'numpy and constriction'
        lines.append(f'| {how} | {"after a frame" if row["after_a_frame"] else "alone"} | {row["packets"]}{copies} | {row["bytes"]:,} | '
                     + ' | '.join(f'{figure:.2f}' for figure in [*figures, sum(figures)]) + ' |')
    return '\n'.join(lines) + '\n'
