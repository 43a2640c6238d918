"""What the demo shows people: a line while it runs, a table, pictures and a plot."""

from __future__ import annotations

import math
from operator import itemgetter
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from evitif.pictures.ros_images import image_to_rgb
from evitif_msgs.msg import Prediction
from scripts.demo.monitor import Monitor
from scripts.demo.summary import STAGES, accuracy


def live_line(monitor: Monitor) -> str:
    """The last 50 frames, behind the progress bar."""
    recent = list(monitor.predictions)[-50:]
    latency = np.median([monitor.delays[stamp] for stamp in recent])
    loss = monitor.link.uplink_packet_error_rate if monitor.link else math.nan
    lost = 'unknown' if math.isnan(loss) else f'{100 * loss:.0f} %'
    right = accuracy(monitor, recent)
    return f'{"" if right is None else f"right {100 * right:.0f} %, "}{1e3 * latency:.0f} ms, loss {lost}'


def print_table(summary: dict, reports: Path) -> None:
    """Print the summary for people."""
    rows = [*link_rows(summary), *time_rows(summary), *strategy_rows(summary),
            ('answered by', ', '.join(f'{name} {count}' for name, count in summary['answered_by'].items())),
            *((f'memory of the {name}', f'{values["early"]:.0f} MiB early, {values["late"]:.0f} MiB late')
              for name, values in summary['memory_mib'].items() if values)]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f'  {name:<{width}}  {value}')
    written = sorted(path.name for kind in ('png', 'gif') for path in reports.glob(f'*.{kind}'))
    print(f'\ndemo: {reports}/summary.json, {", ".join(written)}')


def link_rows(summary: dict) -> list[tuple[str, str]]:
    """What was answered, how well, and what that took."""
    return [('frames answered', f'{summary["predictions"]} of {summary["frames_sent"]}'),
            ('accuracy', as_percent(summary['accuracy'])),
            (f'  without loss, {summary["lossless"]}', as_percent(summary['accuracy_lossless'])),
            ('packets lost on the uplink', as_percent(summary['packet_loss'])),
            ('uplink', f'{summary["uplink_bytes_per_frame"] / 1e3:.1f} kB in {summary["packets_per_frame"]:.0f} packets a frame')]


def time_rows(summary: dict) -> list[tuple[str, str]]:
    """Where the time went."""
    latency = summary['latency_ms']
    rows = [('image stamp to prediction', f'{latency["p50"]:.1f} ms (p50), {latency["p99"]:.1f} ms (p99)')]
    rows += [(f'  {stage}', f'{value:.1f} ms') for stage, value in summary['stage_ms'].items() if value is not None]
    if summary['overhead_ms'] is not None:
        share = as_percent(summary['overhead_share_of_head_and_tail'])
        rows.append(('everything but preprocess, head, tail', f'{summary["overhead_ms"]:.1f} ms, {share} of head + tail'))
    return rows


def strategy_rows(summary: dict) -> list[tuple[str, str]]:
    """What only one strategy has."""
    rows = []
    if summary['strategy'] == 'selection':
        if summary['light_model']:
            rows += [('answered by the light model', as_percent(summary['answered_by_light_model'])),
                     ('patches sent of the others', as_percent(summary['patches_sent']))]
        rows.append(('patches lost of those sent', as_percent(summary['patches_lost'])))
    for name, title in (('all_running', 'all devices running'), ('one_killed', f'{summary.get("killed")} killed')):
        if name in summary:
            part = summary[name]
            rows.append((title, f'{part["frames"]} frames, {part["devices_answered"]} devices in an answer, '
                                f'{as_percent(part["accuracy"])} right'))
    return rows


def as_percent(share: float | None) -> str:
    """A share as text."""
    return 'unknown' if share is None else f'{100 * share:.1f} %'


def save_pictures(monitor: Monitor, reports: Path) -> None:
    """Three annotated pictures, spread over the run."""
    stamps = sorted(monitor.pictures)
    for index, stamp in enumerate(stamps[len(stamps) // 4::max(1, len(stamps) // 4)][:3], 1):
        Picture.fromarray(image_to_rgb(monitor.pictures[stamp])).save(reports / f'annotated_{index}.png')


def save_film(monitor: Monitor, rate: float, path: Path) -> None:
    """The last annotated pictures in the order of their stamps, at half their size and the camera's speed."""
    pictures = [Picture.fromarray(image_to_rgb(message)) for _, message in sorted(monitor.film, key=itemgetter(0))]
    if not pictures:
        return
    shown = [picture.resize((picture.width // 2, picture.height // 2), Picture.Resampling.BOX) for picture in pictures]
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=max(20, round(1e3 / rate)), loop=0)


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
