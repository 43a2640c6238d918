"""The figures of a demo, for summary.json."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields

import numpy as np

from evitif.pipeline import StageTimes
from evitif_edge_node.image_sources import open_source
from evitif_lab.commands.progress import Progress
from evitif_msgs.msg import LinkStats, Prediction
from scripts.demo.monitor import Monitor
from scripts.demo.reference import Reference

STAGES = [field.name for field in fields(StageTimes)]
BATCH = 20


def summarise(monitor: Monitor, reference: Reference, lossless: float | None, options: argparse.Namespace, ros: str) -> dict:
    """All figures but the memory. `lossless` is the accuracy without a link; at least one prediction has to be there."""
    answered = sorted(monitor.predictions)
    predictions = [monitor.predictions[stamp] for stamp in answered]
    return {
        'frames_sent': options.frames,     # the camera fails if it cannot publish as many
        'predictions': len(answered),
        'sequences_missing': missing_sequences(predictions),
        'accuracy': accuracy(monitor, answered),
        'accuracy_lossless': lossless,
        'packet_loss_asked': options.loss,
        **link_figures(predictions),
        **time_figures(predictions, 1e3 * np.array([monitor.delays[stamp] for stamp in answered])),
        **counts_of(monitor),
        **answer_figures(predictions),
        **STRATEGY_FIGURES[options.strategy](predictions, monitor),
        'strategy': options.strategy, 'lossless': reference.lossless, **reference.about,
        'images': options.images, 'rate': options.rate, 'burst': options.burst, 'seed': options.seed,
        'device': reference.device, 'ros': ros,
    }


def link_figures(predictions: list[Prediction]) -> dict:
    """What travelled, and what of it was lost."""
    return {
        # As the bridge measured it: it answers a frame once it has a copy of everything, before the frame's last packet.
        'packet_loss': last_loss(predictions),
        'uplink_bytes_per_frame': round(float(np.mean([p.uplink_bytes for p in predictions])), 1),
        'downlink_bytes_per_frame': round(float(np.mean([p.downlink_bytes for p in predictions])), 1),
        'packets_per_frame': round(sum(p.packets_sent for p in predictions) / len(predictions), 2),
    }


def time_figures(predictions: list[Prediction], delays_ms: np.ndarray) -> dict:
    """From an image's stamp to its prediction, the stages between, and what is neither head nor tail."""
    overhead = [p.time_total - p.time_preprocess - p.time_head - p.time_tail for p in predictions]
    computed = [p.time_head + p.time_tail for p in predictions]
    return {
        'latency_ms': {'p50': round(float(np.percentile(delays_ms, 50)), 2), 'p99': round(float(np.percentile(delays_ms, 99)), 2)},
        'stage_ms': {stage: rounded_median([1e3 * getattr(p, f'time_{stage}') for p in predictions]) for stage in STAGES},
        'overhead_ms': rounded_median([1e3 * value for value in overhead]),
        'overhead_share_of_head_and_tail': rounded_median([a / b for a, b in zip(overhead, computed)], 3),
    }


def counts_of(monitor: Monitor) -> dict:
    """What edge and bridge counted."""
    edge, bridge = monitor.link, monitor.bridge
    return {
        'edge_counts': frame_counts(edge, 'received', 'replaced', 'rate_limited', 'sent', 'answered', 'expired', 'unsent'),
        'edge_drops': dict(zip(edge.drop_kinds, map(int, edge.drop_counts), strict=True)),
        'bridge_counts': None if bridge is None else frame_counts(bridge, 'received', 'replaced', 'failed'),
    }


def answer_figures(predictions: list[Prediction]) -> dict:
    """Who answered, by which recovery, and with which classes."""
    return {
        'predicted': predicted_classes(predictions),
        'answered_by': dict(sorted(Counter(f'{p.strategy}/{p.recovery}' for p in predictions).items())),
        'how': dict(Counter(p.how for p in predictions).most_common()),
    }


def predicted_classes(predictions: list[Prediction]) -> dict[str, int]:
    """How often each class came first, by label, with the id behind it if several classes have that label."""
    counts = Counter((p.labels[0], p.class_ids[0]) for p in predictions if p.labels)
    shared = Counter(label for label, _ in counts)
    return {label if shared[label] == 1 else f'{label} ({class_id})': count for (label, class_id), count in counts.most_common()}


def frame_counts(stats: LinkStats, *names: str) -> dict[str, int]:
    """The counts `frames_<name>`."""
    return {name: int(getattr(stats, f'frames_{name}')) for name in names}


def missing_sequences(predictions: list[Prediction]) -> list[int]:
    """The frames between the first and the last prediction that have none."""
    seen = {p.sequence for p in predictions}
    return sorted(set(range(min(seen), max(seen) + 1)) - seen)


def last_loss(predictions: list[Prediction]) -> float | None:
    """As the bridge measured it last; None if it answered nothing."""
    known = [p.packet_error_rate for p in predictions if math.isfinite(p.packet_error_rate)]
    return round(float(known[-1]), 4) if known else None


def patch_figures(predictions: list[Prediction], monitor: Monitor) -> dict:
    """Strategy selection: the share of the images that the light model answered, and the shares of the patches that were sent and lost."""
    asked = [p for p in predictions if p.patches]
    return {'answered_by_light_model': mean(p.how == 'local' for p in predictions),
            'patches_sent': mean(p.tokens_sent / len(p.patches) for p in asked),
            'patches_lost': mean(1 - p.tokens_received / p.tokens_sent for p in asked)}


def device_figures(predictions: list[Prediction], monitor: Monitor) -> dict:
    """Strategy partition: devices in an answer, and accuracy, while all ran and afterwards."""
    figures = {}
    stamps = sorted(monitor.predictions)
    before, after = [s for s in stamps if s < monitor.killed_at], [s for s in stamps if s >= monitor.killed_at]
    for name, part in (('all_running', before), ('one_killed', after)):
        answers = [monitor.predictions[stamp] for stamp in part]
        figures[name] = {'frames': len(part), 'accuracy': accuracy(monitor, part),
                         'devices_answered': mean(sum(p.devices_answered) for p in answers if p.how == 'off-board')}
    return {'devices': list(monitor.edges), 'killed': monitor.killed, **figures}


STRATEGY_FIGURES = {'split': lambda predictions, monitor: {}, 'selection': patch_figures, 'partition': device_figures}


def accuracy(monitor: Monitor, stamps: list[int]) -> float | None:
    """Share of right answers among the images with a class that the model knows; None without such images."""
    return mean(bool(ids := monitor.predictions[stamp].class_ids) and ids[0] == monitor.truth[stamp]
                for stamp in stamps if monitor.truth.get(stamp, -1) >= 0)


def lossless_accuracy(options: argparse.Namespace, reference: Reference) -> float | None:
    """Share of the same images that the whole model, or all devices, get right without a link; None if no class is known."""
    source = open_source(options.images, loop=True, shuffle=True, seed=options.seed)
    right = []
    count = options.frames if source.labelled else 0
    with Progress(total=count, desc=f'the same frames through {reference.lossless}', unit='frame', leave=False) as bar:
        while bar.n < count:
            images = [source.next_image() for _ in range(min(BATCH, count - bar.n))]
            class_ids = [reference.class_id_of(image.label, image.class_id) for image in images]
            answers = reference.answers([image.image for image in images])
            right += [answer == class_id for answer, class_id in zip(answers, class_ids, strict=True) if class_id >= 0]
            bar.update(len(images))
    source.close()
    return mean(right)


def memory_growth(samples: list[float]) -> dict[str, float] | None:
    """Resident memory (MiB) after a tenth of the run and at its end: medians of a tenth of the samples each."""
    part = max(1, len(samples) // 10)
    if len(samples) < 3:
        return None
    early, late = float(np.median(samples[part:2 * part])), float(np.median(samples[-part:]))
    return {'early': round(early, 1), 'late': round(late, 1), 'growth': round(late - early, 1)}


def rounded_median(values: list[float], digits: int = 2) -> float | None:
    """Of the finite values; None without any."""
    known = [value for value in values if math.isfinite(value)]
    return round(float(np.median(known)), digits) if known else None


def mean(values: Iterable[float]) -> float | None:
    """To four digits; None of nothing."""
    values = list(values)
    return round(sum(values) / len(values), 4) if values else None
