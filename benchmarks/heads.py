"""What further heads cost on one frame: three beside the dearest of them alone, and that beside no head, batch 1 on the CPU.

The bridges take turns at the same frame, so that whatever else the machine does meets all alike; what is timed is the processor time of
the thread. The heads have random weights, which cost what trained ones do.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import command, save
from evitif.heads import Head, Reading, save_head
from evitif.heads.classify import LinearProbe
from evitif.heads.embed import EmbedHead
from evitif.heads.segment import SegmentHead
from evitif.model.build import ModelSpec, build_model
from evitif.model.split import SplitModel
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.strategy import blank_frame
from evitif.settings import bridge_settings

TITLE = 'Heads on one frame'
QUICK = 'fewer frames'
MODEL, CUT, CLASSES = 'vit_tiny_patch16_224', 6, 50
TARGET = 1.15           # three heads beside the dearest alone
WARM_UP = 10
# By title: the heads of a bridge, the dearest of the others' first.
BRIDGES = {'none': (), 'classify': ('rooms',), 'classify, classify, embed': ('rooms', 'things', 'view'), 'segment': ('areas',),
           'segment, classify, embed': ('areas', 'rooms', 'view')}
BESIDE = {'classify': 'none', 'classify, classify, embed': 'classify', 'segment': 'none', 'segment, classify, embed': 'segment'}


def heads_for(split: SplitModel) -> dict[str, Head]:
    """Heads of random weights by name."""
    def reading(*blocks: int) -> Reading:
        return Reading(blocks, True, split.image_size, split.grid, split.prefix_tokens, split.channels)
    labels = tuple(f'class {index}' for index in range(CLASSES))
    return {'rooms': LinearProbe(reading(12), labels), 'things': LinearProbe(reading(9), labels), 'view': EmbedHead(reading(12)),
            'areas': SegmentHead(reading(6, 9, 12), labels[:11])}


def times(repetitions: int) -> dict[str, np.ndarray]:
    """Seconds [repetitions] of a frame for each of BRIDGES."""
    module = build_model(ModelSpec(MODEL, random_seed=0)).module
    with tempfile.TemporaryDirectory() as folder:
        for name, head in heads_for(SplitModel(module, CUT)).items():
            save_head(Path(folder) / name, head, module, {'model': MODEL})
        bridges = {title: SplitBridge(bridge_settings(model=MODEL, random_seed=0, cut=CUT, quantisation='int8', memory_limit=0.0,
                                                      heads=','.join(str(Path(folder) / name) for name in names)))
                   for title, names in BRIDGES.items()}
    seconds = {title: np.empty(WARM_UP + repetitions) for title in bridges}
    for number in range(WARM_UP + repetitions):
        for title, bridge in bridges.items():
            frame = blank_frame(bridge.parameters, np.ones(bridge.parameters.units, bool))
            began = time.thread_time()
            bridge.answer_batch([frame])
            seconds[title][number] = time.thread_time() - began
    return {title: values[WARM_UP:] for title, values in seconds.items()}


def run(quick: bool, output: Path) -> dict:
    """The part of `evitif bench`."""
    threads, repetitions = torch.get_num_threads(), 20 if quick else 200
    torch.set_num_threads(1)
    try:
        seconds = times(repetitions)
    finally:
        torch.set_num_threads(threads)
    figures = {}
    for title, values in seconds.items():
        low, median, high = (1e3 * float(each) for each in np.percentile(values, (25, 50, 75)))
        beside = BESIDE.get(title, '')
        figures[title] = {'ms': median, 'quartiles_ms': [low, high], 'beside': beside,
                          'ratio': median / (1e3 * float(np.median(seconds[beside]))) if beside else None}
    return save(output, 'heads', command('heads'), figures, model=MODEL, cut=CUT, repetitions=repetitions, threads=1, target=TARGET,
                torch=torch.__version__)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    lines = [f'{result["model"]}, cut {result["cut"]}, what the bridge does with a whole frame, batch 1, one thread, processor time, '
             f'{result["repetitions"]} frames in turns. The target of three heads is {result["target"]:g} times the dearest of them.', '',
             '| heads | ms | quartiles | |', '| --- | ---: | --- | --- |']
    for title, row in result['figures'].items():
        ratio = f'{row["ratio"]:.3f} times {row["beside"]}' if row['ratio'] else ''
        lines.append(f'| {title} | {row["ms"]:.1f} | {row["quartiles_ms"][0]:.1f} to {row["quartiles_ms"][1]:.1f} | {ratio} |')
    return '\n'.join(lines)
