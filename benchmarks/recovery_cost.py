"""What PALDN costs beside the tail that follows it: shares of multiply-adds and of time, at batch 1 on the CPU.

Every repetition draws the losses of one frame in whole packets and the rate that the last datagrams would have shown, then times
recovery, the same once more, the tail alone, and the tail with the certainties that PALDN gives it, one after the other, so that
whatever else the machine does meets all alike. The first recovery comes after a tail, as on the bridge, and finds the processor's
caches full of the tail's weights; the second finds its own there, and what it takes is what the computing itself takes.
What is reported is the median of the repetitions' ratios and the quartiles around it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import ROOT, PartError, command, save
from evitif.model.folder import DESCRIPTION_FILE
from evitif.pipeline.cut_model import CutModel
from evitif.protocol.rate.statistics import WINDOW
from evitif.recovery import ArtifactError, LearnedRecovery, load_recovery
from evitif.settings import SplitSettings
from evitif_lab.commands.options import positive_int
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT, ShippedModel, shipped_models
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.multiply_adds import tail_multiply_adds

WARM_UP = 10
TITLE = 'Recovery beside the tail'
QUICK = 'fewer frames'
LOSS = 0.6


def find_artifacts(folder: Path, imagenet_checkpoint: Path) -> list[tuple[ShippedModel, int, Path]]:
    """The models that have a PALDN in `folder`, the cut, and the description of it."""
    for path in sorted(folder.glob(f'*/{DESCRIPTION_FILE}')):
        if not list(path.parent.glob('paldn-cut*.json')):
            print(f'{path.parent.name}: skipped, no PALDN was trained for it', flush=True)
    return [(model, cut, folder / model.name / f'paldn-cut{cut}.json')
            for model in shipped_models(folder, {}, imagenet_checkpoint)
            for cut, kinds in sorted(model.kinds.items()) if 'paldn' in kinds]


def measure(model: ShippedModel, cut: int, artifact: Path, repetitions: int) -> dict:
    """The figures of one model and cut.

    :raises ArtifactError: the artifact cannot be read or is not for this model
    :raises ValueError: the model cannot be read
    """
    stream = CutModel.load(SplitSettings(model=model.model, checkpoint=model.checkpoint, pretrained=model.pretrained, cut=cut,
                                         quantisation='int8'))
    split = stream.split
    if tail_multiply_adds(split) == 0:
        raise ArtifactError(f'recovery artifact {artifact}: there is no block after cut {cut} to compare with')
    network, _ = load_recovery(artifact, stream.parameters.fingerprint, split)
    seconds = _times(stream, network, repetitions)
    recovery, again, tail, weighted = seconds.T
    return {'model': stream.parameters.model, 'cut': cut, 'fingerprint': stream.parameters.fingerprint,
            'tokens': split.tokens, 'channels': split.channels, 'parameters': sum(p.numel() for p in network.parameters()),
            'multiply_adds': network.multiply_adds(), 'tail_multiply_adds': tail_multiply_adds(split),
            'share_of_tail_multiply_adds': network.multiply_adds() / tail_multiply_adds(split),
            'share_of_tail_time': _quartiles(recovery / tail), 'share_of_tail_time_again': _quartiles(again / tail),
            'weighted_tail_of_tail_time': _quartiles(weighted / tail),
            'recovery_ms': _quartiles(1e3 * recovery), 'tail_ms': _quartiles(1e3 * tail)}


@torch.inference_mode()
def _times(stream: CutModel, network: LearnedRecovery, repetitions: int) -> np.ndarray:
    """Seconds [repetitions, 4] of recovery, the same at once again, tail, and tail with what recovery hands it."""
    split, generator = stream.split, torch.Generator().manual_seed(0)
    pattern, rates = PacketLoss(stream.parameters), torch.tensor([LOSS])
    tokens = split.head(torch.randn(1, split.input_channels, *split.image_size, generator=generator))
    seconds = np.empty((WARM_UP + repetitions, 4))
    for row in Progress(seconds, desc=f'{stream.parameters.model} cut {split.cut}', unit='frame'):
        received = torch.ones(1, split.tokens, dtype=torch.bool)
        while bool(received.all()):         # without loss nothing is recovered
            received = pattern.received_tokens(pattern.received_packets(rates, 1, generator))
        damaged = tokens * received[:, :, None]
        measured = torch.binomial(torch.tensor([float(WINDOW)]), rates, generator=generator) / WINDOW
        start = time.perf_counter()
        recovered = network.recover(damaged, received, measured)
        first_at = time.perf_counter()
        network.recover(damaged, received, measured)
        recovered_at = time.perf_counter()
        split.tail(recovered.tokens)
        tail_at = time.perf_counter()
        recovered.logits(split)
        row[:] = first_at - start, recovered_at - first_at, tail_at - recovered_at, time.perf_counter() - tail_at
    return seconds[WARM_UP:]


def _quartiles(values: np.ndarray) -> dict:
    low, median, high = np.percentile(values, (25, 50, 75))
    return {'median': float(median), 'quartiles': [float(low), float(high)]}


def measure_all(artifacts: Path, imagenet_checkpoint: Path, repetitions: int) -> list[dict]:
    """The figures of every PALDN below `artifacts`; says which are skipped."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    results = []
    try:
        for model, cut, artifact in find_artifacts(artifacts, imagenet_checkpoint):
            try:
                results.append(measure(model, cut, artifact, repetitions))
            except ValueError as error:
                print(f'{model.name}: {artifact.name} skipped: {error}', flush=True)
    finally:
        torch.set_num_threads(threads_before)
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    """Further options of `evitif bench recovery_cost`."""
    parser.add_argument('--artifacts', type=Path, default=ROOT / 'artifacts', help='folder of model folders (default: artifacts)')
    parser.add_argument('--repetitions', type=positive_int, help='frames a model and cut (default: 100)')


def run(quick: bool, output: Path, artifacts: Path = ROOT / 'artifacts', repetitions: int | None = None) -> dict:
    """
    The part of `make bench`.

    :raises PartError: there is no PALDN
    """
    repetitions = repetitions or (20 if quick else 100)
    results = measure_all(artifacts, ROOT / IMAGENET_CHECKPOINT, repetitions)
    if not results:
        raise PartError(f'nothing was measured: no PALDN that can be used lies in {artifacts}')
    return save(output, 'recovery_cost', command('recovery_cost', repetitions=repetitions), {'results': results},
                loss=LOSS, repetitions=repetitions, threads=1, torch=torch.__version__)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    return (f'What PALDN costs beside the tail: {100 * result["loss"]:g} % of the packets lost, batch 1, one thread, '
            f'{result["repetitions"]} frames.\n\n' + markdown(result['figures']['results']))


def markdown(results: list[dict]) -> str:
    """One line a model and cut."""
    lines = ['| model | cut | PALDN\'s multiply-adds, of the tail\'s | PALDN\'s time, of the tail\'s (quartiles) '
             '| the same, called again at once | tail\'s time with certainties, of that without | PALDN, ms | tail, ms |',
             '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |']
    for result in results:
        share, weighted = result['share_of_tail_time'], result['weighted_tail_of_tail_time']
        low, high = share['quartiles']
        lines.append(f'| {result["model"]} | {result["cut"]} | {100 * result["share_of_tail_multiply_adds"]:.1f} % '
                     f'| {100 * share["median"]:.0f} % ({100 * low:.0f} to {100 * high:.0f}) '
                     f'| {100 * result["share_of_tail_time_again"]["median"]:.0f} % | {100 * weighted["median"]:.0f} % '
                     f'| {result["recovery_ms"]["median"]:.2f} | {result["tail_ms"]["median"]:.2f} |')
    return '\n'.join(lines)
