"""What the demo reports: a summary, a table, pictures and a plot."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from demo_monitor import Monitor
from demo_reference import Reference
from PIL import Image as Picture

from evitif.pipeline import StageTimes
from evitif_edge_node.image_conversion import image_to_rgb
from evitif_edge_node.image_sources import open_source
from evitif_lab.commands.progress import Progress
from evitif_msgs.msg import LinkStats, Prediction

STAGES = list(StageTimes().as_dict())
BATCH = 20


def live_line(monitor: Monitor) -> str:
    recent = list(monitor.predictions)[-50:]
    latency = np.median([monitor.delays[stamp] for stamp in recent])
    loss = monitor.link.uplink_packet_error_rate if monitor.link else math.nan
    lost = 'unknown' if math.isnan(loss) else f'{100 * loss:.0f} %'
    right = accuracy(monitor, recent)
    return f'{"" if right is None else f"right {100 * right:.0f} %, "}{1e3 * latency:.0f} ms, loss {lost}'


def accuracy(monitor: Monitor, stamps: list[int]) -> float | None:
    """Share of the images with a class that the model knows for which it was predicted; None without such images."""
    return mean(bool(ids := monitor.predictions[stamp].class_ids) and ids[0] == monitor.truth[stamp]
                for stamp in stamps if monitor.truth.get(stamp, -1) >= 0)


def mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return round(sum(values) / len(values), 4) if values else None


def lossless_accuracy(options: argparse.Namespace, reference: Reference) -> float | None:
    """Share of the same images that the whole model, or all devices, get right without a link; None where no class is known."""
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


def summarise(monitor: Monitor, reference: Reference, lossless: float | None, options: argparse.Namespace, ros: str) -> dict:
    answered = sorted(monitor.predictions)
    predictions = [monitor.predictions[stamp] for stamp in answered]
    delays = 1e3 * np.array([monitor.delays[stamp] for stamp in answered])
    stages = {stage: [1e3 * getattr(p, f'time_{stage}') for p in predictions] for stage in STAGES}
    overhead = [p.time_total - p.time_preprocess - p.time_head - p.time_tail for p in predictions]
    computed = [p.time_head + p.time_tail for p in predictions]
    sent = sum(p.packets_sent for p in predictions)
    return {
        'frames_sent': options.frames,     # the camera ends with an error where it cannot publish as many
        'predictions': len(answered),
        'sequences_missing': missing_sequences(predictions),
        'accuracy': accuracy(monitor, answered),
        'accuracy_lossless': lossless,
        # As the bridge measured it: a frame is answered as soon as it has a copy of everything, before its last packet.
        'packet_loss': last_loss(predictions),
        'packet_loss_asked': options.loss,
        'uplink_bytes_per_frame': round(float(np.mean([p.uplink_bytes for p in predictions])), 1),
        'downlink_bytes_per_frame': round(float(np.mean([p.downlink_bytes for p in predictions])), 1),
        'packets_per_frame': round(sent / len(answered), 2),
        'latency_ms': {'p50': round(float(np.percentile(delays, 50)), 2),
                       'p99': round(float(np.percentile(delays, 99)), 2)},
        'stage_ms': {stage: rounded_median(values) for stage, values in stages.items()},
        'overhead_ms': rounded_median([1e3 * value for value in overhead]),
        'overhead_share_of_head_and_tail': rounded_median([a / b for a, b in zip(overhead, computed)], 3),
        'edge_counts': frame_counts(monitor.link, 'received', 'replaced', 'rate_limited', 'sent', 'answered', 'expired', 'unsent'),
        'edge_drops': dict(zip(monitor.link.drop_kinds, map(int, monitor.link.drop_counts), strict=True)),
        'bridge_counts': None if monitor.bridge is None else frame_counts(monitor.bridge, 'received', 'replaced', 'failed'),
        'predicted': predicted_classes(predictions),
        'answered_by': {name: sum(f'{p.strategy}/{p.recovery}' == name for p in predictions)
                        for name in sorted({f'{p.strategy}/{p.recovery}' for p in predictions})},
        'how': dict(Counter(p.how for p in predictions).most_common()),
        **STRATEGY_FIGURES[options.strategy](predictions, monitor),
        'strategy': options.strategy, 'lossless': reference.lossless, **reference.about,
        'images': options.images, 'rate': options.rate, 'burst': options.burst, 'seed': options.seed,
        'device': reference.device, 'ros': ros,
    }


def predicted_classes(predictions: list[Prediction]) -> dict[str, int]:
    """How often each class came first, by label; with the id behind it where several had one label."""
    counts = Counter((p.labels[0], p.class_ids[0]) for p in predictions if p.labels)
    shared = Counter(label for label, _ in counts)
    return {label if shared[label] == 1 else f'{label} ({class_id})': count for (label, class_id), count in counts.most_common()}


def frame_counts(stats: LinkStats, *names: str) -> dict[str, int]:
    return {name: int(getattr(stats, f'frames_{name}')) for name in names}


def missing_sequences(predictions: list[Prediction]) -> list[int]:
    """Of the frames between the first prediction and the last, those without one."""
    seen = {p.sequence for p in predictions}
    return sorted(set(range(min(seen), max(seen) + 1)) - seen)


def last_loss(predictions: list[Prediction]) -> float | None:
    """As the bridge measured it last; None where it answered nothing."""
    known = [p.packet_error_rate for p in predictions if math.isfinite(p.packet_error_rate)]
    return round(float(known[-1]), 4) if known else None


def patch_figures(predictions: list[Prediction], monitor: Monitor) -> dict:
    """Of the strategy selection: the share of the images that the light model answered, and of the patches that were sent."""
    asked = [p for p in predictions if p.patches]
    return {'answered_by_light_model': mean(p.how == 'local' for p in predictions),
            'patches_sent': mean(p.tokens_sent / len(p.patches) for p in asked),
            'patches_lost': mean(1 - p.tokens_received / p.tokens_sent for p in asked)}


def device_figures(predictions: list[Prediction], monitor: Monitor) -> dict:
    """Of the strategy partition: how many devices had a part in the answers, and accuracy, while all ran and afterwards."""
    figures = {}
    stamps = sorted(monitor.predictions)
    before, after = [s for s in stamps if s < monitor.killed_at], [s for s in stamps if s >= monitor.killed_at]
    for name, part in (('all_running', before), ('one_killed', after)):
        answers = [monitor.predictions[stamp] for stamp in part]
        figures[name] = {'frames': len(part), 'accuracy': accuracy(monitor, part),
                         'devices_answered': mean(sum(p.devices_answered) for p in answers if p.how == 'off-board')}
    return {'devices': list(monitor.edges), 'killed': monitor.killed, **figures}


STRATEGY_FIGURES = {'split': lambda predictions, monitor: {}, 'selection': patch_figures, 'partition': device_figures}


def memory_growth(samples: list[float]) -> dict[str, float] | None:
    """Resident memory (MiB) after a tenth of the run and at its end: medians of a tenth of the samples each."""
    part = max(1, len(samples) // 10)
    if len(samples) < 3:
        return None
    early, late = float(np.median(samples[part:2 * part])), float(np.median(samples[-part:]))
    return {'early': round(early, 1), 'late': round(late, 1), 'growth': round(late - early, 1)}


def rounded_median(values: list[float], digits: int = 2) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return round(float(np.median(known)), digits) if known else None


def print_table(summary: dict, reports: Path) -> None:
    rows = [('frames answered', f'{summary["predictions"]} of {summary["frames_sent"]}'),
            ('accuracy', as_percent(summary['accuracy'])),
            (f'  without loss, {summary["lossless"]}', as_percent(summary['accuracy_lossless'])),
            ('packets lost on the uplink', as_percent(summary['packet_loss'])),
            ('uplink', f'{summary["uplink_bytes_per_frame"] / 1e3:.1f} kB in {summary["packets_per_frame"]:.0f} '
                       'packets a frame'),
            ('image stamp to prediction', f'{summary["latency_ms"]["p50"]:.1f} ms (p50), '
                                          f'{summary["latency_ms"]["p99"]:.1f} ms (p99)')]
    rows += [(f'  {stage}', f'{value:.1f} ms') for stage, value in summary['stage_ms'].items() if value is not None]
    if summary['overhead_ms'] is not None:
        rows.append(('everything but preprocess, head, tail',
                     f'{summary["overhead_ms"]:.1f} ms, {as_percent(summary["overhead_share_of_head_and_tail"])} of head + tail'))
    if summary['strategy'] == 'selection':
        rows += [('answered by the light model', as_percent(summary['answered_by_light_model'])),
                 ('patches sent of the others', as_percent(summary['patches_sent'])),
                 ('  of these lost', as_percent(summary['patches_lost']))]
    for name, title in (('all_running', 'all devices running'), ('one_killed', f'{summary.get("killed")} killed')):
        if name in summary:
            part = summary[name]
            rows.append((title, f'{part["frames"]} frames, {part["devices_answered"]} devices in an answer, '
                                f'{as_percent(part["accuracy"])} right'))
    rows += [('answered by', ', '.join(f'{name} {count}' for name, count in summary['answered_by'].items()))]
    rows += [(f'memory of the {name}', f'{values["early"]:.0f} MiB early, {values["late"]:.0f} MiB late')
             for name, values in summary['memory_mib'].items() if values]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f'  {name:<{width}}  {value}')
    print(f'\ndemo: {reports}/summary.json, {", ".join(sorted(path.name for path in reports.glob("*.png")))}')


def as_percent(share: float | None) -> str:
    return 'unknown' if share is None else f'{100 * share:.1f} %'


def save_pictures(monitor: Monitor, reports: Path) -> None:
    """Three annotated pictures, spread over the run."""
    stamps = sorted(monitor.pictures)
    for index, stamp in enumerate(stamps[len(stamps) // 4::max(1, len(stamps) // 4)][:3], 1):
        Picture.fromarray(image_to_rgb(monitor.pictures[stamp])).save(reports / f'annotated_{index}.png')


def plot_latency(predictions: list[Prediction], path: Path) -> None:
    """Where the time of each frame went, stacked by stage."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    stages = [stage for stage in STAGES if stage != 'total']
    values = [np.nan_to_num([1e3 * getattr(p, f'time_{stage}') for p in predictions]) for stage in stages]
    figure, axes = pyplot.subplots(figsize=(9, 4), layout='constrained')
    axes.stackplot(range(len(predictions)), values, labels=stages, colors=matplotlib.colormaps['tab10'].colors)
    axes.plot([1e3 * p.time_total for p in predictions], color='black', linewidth=0.7, label='total')
    axes.set(xlabel='frame', ylabel='ms', title='Image at the edge to answer at the edge',
             xlim=(0, max(1, len(predictions) - 1)))
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
