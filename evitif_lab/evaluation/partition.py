"""Judge partitions: the whole system's accuracy, with devices gone and packets lost, and what a device costs.

Every figure is of the whole system on all classes, with features quantised as they travel; a sub-model's score on its own
classes alone is never reported. Figures of one partition stay in the JSON, so that an interrupted command goes on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import open_images
from evitif.files import read_json, write_json
from evitif.model.device import place
from evitif.model.quantise import TokenQuantiser
from evitif.model.tensors import require_finite_answers
from evitif.partition.artifact import Description, DeviceModel, Fusion, load_device, load_fusion
from evitif.pipeline.partition_edge import FEWEST_COPIES, LOST
from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES, Packetiser, TokenFrame
from evitif.protocol.rate.copies import sufficient_copies
from evitif.protocol.wire.parameters import StreamParameters
from evitif_lab.commands.configuration import option
from evitif_lab.commands.options import positive_int, rate_below_one, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of
from evitif_lab.evaluation.partial import require_report
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.multiply_adds import fusion_multiply_adds
from evitif_lab.partition.sizes import multiply_adds_of, parameters_of
from evitif_lab.plain import plain
from evitif_lab.trials.images import Normalise, load_images
from evitif_lab.trials.original import Original, load_original, model_of

FORMAT = 2
BATCH = 64
TIMED_RUNS = 40
JudgeBaselines = Callable[[Description, Original, str, torch.Tensor, torch.Tensor], dict]
LINK_RATES = (1e5, 1e6, 1e7)        # bit/s that all devices share, for the share of the network in the latency


@dataclass(frozen=True, kw_only=True)
class PartitionEvaluation:
    """What to measure; the configuration of one run."""

    partitions: tuple[str, ...] | list[str] = option(help='folders that `evitif train partition` wrote', nargs='+', metavar='DIR')
    data: tuple[str, ...] | list[str] = option((), 'for each partition, or one for all (default: what each was trained for)', nargs='+')
    model: str | None = option(None, 'the original (default: what the partition names)')
    loss: tuple[float, ...] | list[float] = option((0.3, 0.6), 'packet error rates', rate_below_one, nargs='+', metavar='RATE')
    copies: int | None = option(None, "datagrams that carry a device's features (default: as many as it sends at that loss)",
                                whole(1, MAX_PATCH_COPIES), metavar='N')
    seeds: int = option(5, 'repetitions with other losses', positive_int)
    images: int | None = option(None, 'judge by so many images (default: all)', positive_int)
    baselines: bool = option(False, 'train a small ViT of the same size, as many of them as there are devices, and a split CNN, and judge '
                             'them')
    json: str | None = option(None, 'write the figures there, beside those that it has of other partitions, and beside it a table (.md) '
                              'and a plot (.png)', metavar='FILE')


def evaluate_partitions(configuration: PartitionEvaluation, command: str = '', judge_baselines: JudgeBaselines | None = None) -> dict:
    """Measure every partition and return, and write where asked, the figures.

    :param judge_baselines: trains and judges what partitions are compared with, where the configuration asks for `baselines`
        (`evitif_lab.training.partition_baselines`)

    :raises ValueError: or one of its kinds, for a partition, data or a model that cannot be used
    """
    c = configuration
    if c.data and len(c.data) not in (1, len(c.partitions)):
        raise ValueError(f'data names {len(c.data)} data sets: expected one, or one for each of the {len(c.partitions)} partitions')
    require_report(c.json)
    found = _earlier(c.json)
    settings = plain({name: getattr(c, name) for name in ('loss', 'copies', 'seeds', 'images', 'baselines')})
    entries, references = [], {}
    for index, folder in enumerate(c.partitions):
        fusion = load_fusion(folder)
        data = c.data[index if len(c.data) > 1 else 0] if c.data else fusion.partition.content['made_by']['configuration']['data']
        identity = {'format': FORMAT, 'partition': fusion.partition.fingerprint, **settings}
        pictures = digest_of(open_images(data, 'test', class_names=fusion.partition.class_names))
        entry = next((one for one in found if one['identity'] == identity and (one.get('pictures') or pictures) == pictures), None)
        if entry is None:
            entry = {'identity': identity, 'pictures': pictures, 'command': command,
                     **_measure(c, fusion, data, references, judge_baselines)}
        else:
            print(f'{folder}: measured already', flush=True)
        entries.append(entry)
        if c.json:      # those of other partitions stay, but not of one that was in the same folder before
            others = [one for one in found if not any(one['identity']['partition'] == known['identity']['partition']
                                                      or one['partition'] == known['partition'] for known in entries)]
            write_json(c.json, {'format': FORMAT, 'entries': [*others, *entries]})
    return {'format': FORMAT, 'entries': entries if not c.json else read_json(c.json)['entries']}


def _measure(c: PartitionEvaluation, fusion: Fusion, data: str, references: dict, judge_baselines: JudgeBaselines | None) -> dict:
    """`references` keeps the originals' classes, which several partitions share."""
    description, made = fusion.partition, fusion.partition.content['made_by']['configuration']
    original = _original(c, fusion)
    devices = [load_device(description.folder, entry.index) for entry in description.devices]
    normalise = Normalise(description.data_config)
    images, ids = _test_images(c, fusion, data)
    features = _features(devices, images, normalise)
    key = original.fingerprint, data, len(images)
    if key not in references:
        references[key] = _classes(original, images, normalise)
    top1_original = float((references[key] == ids).float().mean())
    present = torch.ones(features.shape[:2], dtype=torch.bool)
    top1 = _top1(fusion, features, present, ids)
    arrived = _quantised(features)
    whole = _top1(fusion, arrived, present, ids)
    copies = {f'{rate:g}': c.copies or sufficient_copies(rate, LOST, FEWEST_COPIES, MAX_PATCH_COPIES) for rate in (0.0, *c.loss)}
    result = {
        'partition': made['output'], 'model': description.model, 'data': data, 'images': len(images),
        'devices': len(devices), 'redundancy': description.redundancy,
        'subsets': made['subsets'], 'class_subsets': [list(entry.classes) for entry in description.devices], **_sizes(original, fusion),
        'retraining': made, 'body': description.content['figures'].get('body', []),
        'top1_original': top1_original, 'top1_unquantised': top1, 'top1': whole,
        'points_below_original': round(100 * (top1_original - whole), 2),
        'device_gone': _devices_gone(fusion, arrived, ids, whole), 'copies': copies,
        'packet_loss': {f'{rate:g}': _packet_loss(fusion, arrived, ids, rate, copies[f'{rate:g}'], c.seeds, whole) for rate in c.loss},
        'bytes_per_frame': {rate: len(devices) * count * datagram_bytes(fusion) for rate, count in copies.items()},
        'latency': _latency(original, devices, fusion, images[:1], normalise)}
    if c.baselines:
        result['baselines'] = judge_baselines(description, original, data, images, ids)
    return {**result, 'torch': torch.__version__, 'threads': torch.get_num_threads(), 'device': place().sentence}


def _test_images(c: PartitionEvaluation, fusion: Fusion, data: str) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = open_images(data, 'test', class_names=fusion.partition.class_names)
    images, ids = load_images(dataset, fusion.partition.data_config, 'test images')
    if c.images is not None and c.images < len(images):
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:c.images]
        images, ids = images[chosen], ids[chosen]
    return images, ids


def _sizes(original: Original, fusion: Fusion) -> dict:
    largest = max(entry.parameters for entry in fusion.partition.devices)
    return {'parameters_original': parameters_of(original.module), 'parameters_largest': largest,
            'parameters_fusion': parameters_of(fusion.network),
            'multiply_adds_original': multiply_adds_of(original.module),
            'multiply_adds_largest': max(entry.multiply_adds for entry in fusion.partition.devices),
            'multiply_adds_fusion': fusion_multiply_adds(fusion.network),
            'reduction': round(parameters_of(original.module) / largest, 2)}


def _devices_gone(fusion: Fusion, features: torch.Tensor, ids: torch.Tensor, whole: float) -> dict:
    """What the system loses with each device gone, and what it may lose."""
    gone = {}
    for index, entry in enumerate(fusion.partition.devices if len(fusion.partition.devices) > 1 else ()):
        present = torch.ones(features.shape[:2], dtype=torch.bool)
        present[:, index] = False
        share = len(entry.classes) / len(fusion.partition.class_names)
        lost = 100 * (whole - _top1(fusion, features, present, ids))
        gone[entry.name] = {'points_lost': round(lost, 2), 'share_of_classes': share,
                            'allowed': 3.0 if fusion.partition.redundancy > 1 else round(100 * share + 2, 2)}
    return gone


def _original(c: PartitionEvaluation, fusion: Fusion) -> Original:
    original = load_original(*([c.model] if c.model else model_of(fusion.partition)))
    if original.fingerprint != fusion.partition.original:
        raise ValueError(f'the partition {fusion.partition.folder} is of the model {fusion.partition.model!r} with fingerprint '
                         f'{fusion.partition.original[:16]}…, {original.built.name!r} has {original.fingerprint[:16]}…')
    return original


@torch.inference_mode()
def _features(devices: list[DeviceModel], images: torch.Tensor, normalise: Normalise) -> torch.Tensor:
    """Features float32 [n, N, F] before quantisation."""
    features = torch.cat([torch.stack([device.features_of(batch) for device in devices], 1) for batch in
                          (normalise(part) for part in Progress(images.split(BATCH), desc='features', unit='batch'))])
    require_finite_answers('the sub-models', features=features)
    return features


@torch.inference_mode()
def _classes(original: Original, images: torch.Tensor, normalise: Normalise) -> torch.Tensor:
    """The original's classes [n]."""
    logits = torch.cat([original.module(normalise(part))
                        for part in Progress(images.split(BATCH), desc='original', unit='batch')])
    require_finite_answers('the original', logits=logits)
    return logits.argmax(1)


def _quantised(features: torch.Tensor) -> torch.Tensor:
    quantiser = TokenQuantiser('int8', features.shape[2])
    rows = quantiser.quantise(features.flatten(0, 1).numpy())
    return torch.from_numpy(quantiser.dequantise(rows)).view(features.shape)


@torch.inference_mode()
def _top1(fusion: Fusion, features: torch.Tensor, present: torch.Tensor, ids: torch.Tensor) -> float:
    logits = fusion.network(features, present)
    require_finite_answers('the fusion', logits=logits)
    return float((logits.argmax(1) == ids).float().mean())


def _packet_loss(fusion: Fusion, features: torch.Tensor, ids: torch.Tensor, rate: float, copies: int, seeds: int, whole: float) -> dict:
    """Independent losses of packets, each device's features in `copies` of them. A frame of which nothing comes counts as wrong."""
    runs, nothing = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        packets = torch.rand(*features.shape[:2], copies, generator=generator) >= rate
        present = packets.any(2)
        with torch.inference_mode():
            right = (fusion.network(features, present).argmax(1) == ids) & present.any(1)
        runs.append(float(right.float().mean()))
        nothing.append(float((~present.any(1)).float().mean()))
    half = half_interval95(runs)
    return {'top1': float(np.mean(runs)), 'points_lost': round(100 * (whole - float(np.mean(runs))), 3),
            'interval95': None if half is None else round(100 * half, 3), 'frames_of_nothing': float(np.mean(nothing)), 'runs': runs}


@torch.inference_mode()
def _latency(original: Original, devices: list[DeviceModel], fusion: Fusion, image: torch.Tensor, normalise: Normalise) -> dict:
    """Milliseconds for one frame on one CPU thread, medians; original, the largest sub-model and fusion in turn, so that what
    else the machine does meets all of them alike."""
    largest = max(devices, key=lambda device: device.entry.multiply_adds)
    batch, count = normalise(image), len(devices)
    features, present = np.zeros((count, fusion.partition.features), np.float32), np.ones(count, bool)
    jobs = {'original': lambda: original.module(batch), 'sub_model': lambda: largest.features(batch),
            'fusion': lambda: fusion.answer(features, present)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    try:
        for run in range(TIMED_RUNS + 5):
            for name, job in jobs.items():
                began = time.perf_counter()
                job()
                if run >= 5:
                    times[name].append(1e3 * (time.perf_counter() - began))
    finally:
        torch.set_num_threads(threads)
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ratios = [original / small for original, small in zip(times['original'], times['sub_model'], strict=True)]
    return {'milliseconds': medians, 'fastest': {name: round(min(values), 3) for name, values in times.items()},
            'runs': TIMED_RUNS, 'speed_up': round(statistics.median(ratios), 2)}


def datagram_bytes(fusion: Fusion) -> int:
    """UDP payload of the datagram that carries one device's features, unsealed (a seal adds 16)."""
    entry, features = fusion.partition.devices[0], fusion.partition.features
    row_bytes = TokenQuantiser('int8', features).row_bytes
    parameters = StreamParameters(model=entry.name, fingerprint=entry.fingerprint, cut=0, quantisation='int8', image_size=(1, 1), tokens=1,
                                  prefix_tokens=0, grid=(1, 1), channels=features, groups=1, row_bytes=row_bytes,
                                  classes=len(fusion.partition.class_names))
    frame = TokenFrame(0, 0, 'camera', np.zeros((1, row_bytes), np.uint8))
    datagrams = Packetiser(parameters).packetise(frame)
    return sum(len(datagram) for datagram in datagrams)


def _earlier(path: str | None) -> list[dict]:
    """What an earlier run of the command left in its JSON. Raises ValueError where that is something else."""
    if path is None or not Path(path).is_file():
        return []
    try:
        content = read_json(path)
        if content['format'] == FORMAT:
            return list(content['entries'])
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f'{path} is not a report of this command: expected a new file, or one of format {FORMAT} to add to')
