"""The figures of partitions for people: tables in Markdown and a plot."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evitif_lab.evaluation import drawing
from evitif_lab.evaluation.partition import LINK_RATES
from evitif_lab.evaluation.report import plus_minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ('#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00')       # by number of devices
# Reduction and points below the original that a partition is to reach, by classes and devices.
TARGETS = {(10, 10): (28.9, 1.0), (10, 5): (10.0, 0.5), (50, 10): (34.1, 2.0)}


def markdown(result: dict) -> str:
    """The tables."""
    entries = sorted(result['entries'], key=lambda one: (one['model'], one['redundancy'], one['devices'], one['reduction']))
    lines = ['Top-1 is that of the whole system on the test images of all classes, with features in int8 as they travel. *Smaller* is '
             "the original's parameters over the largest sub-model's.", '',
             '| model | devices | largest sub-model | smaller | multiply-adds | fewer | original | whole system | points below | steps |',
             '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |']
    for one in entries:
        lines.append(f'| {_name(one)} | {one["devices"]} | {one["parameters_largest"]:,} | {one["reduction"]:.1f}× | '
                     f'{one["multiply_adds_largest"] / 1e6:.1f} M | {one["multiply_adds_original"] / one["multiply_adds_largest"]:.1f}× | '
                     f'{100 * one["top1_original"]:.2f} % | {100 * one["top1"]:.2f} % | {one["points_below_original"]:.2f}{_met(one)} | '
                     f'{one["retraining"]["steps"]} × {one["retraining"]["batch_size"]} |')
    lines += ['', '✓: the target is met; ✗: it is not. The targets: '
              + '; '.join(f'{reduction}× smaller and at most {points} points below for {classes} classes on {devices} devices'
                          for (classes, devices), (reduction, points) in TARGETS.items()) + '.']
    return '\n'.join([*lines, *sizes_within_points(entries), '', '## Devices gone', '', *_gone(entries), '', '## Packets lost', '',
                      *_lost(entries), '', '## Latency', '', *_latency(entries), *_bodies(entries), *_baselines(entries)])


def _name(one: dict) -> str:
    return one['model'] + (f', each class on {one["redundancy"]}' if one['redundancy'] > 1 else '') \
        + (', random subsets' if one['subsets'] == 'random' else '') \
        + (', a view each' if one['retraining'].get('device_views') else '') \
        + (', fusion from images held out' if one['retraining'].get('held_out') else '')


def _target(one: dict) -> tuple[float, float] | None:
    """What it is to reach, as in `TARGETS`; None where nothing was asked of so many classes and devices."""
    if one['redundancy'] > 1:
        return None
    return TARGETS.get((len({index for subset in one['class_subsets'] for index in subset}), one['devices']))


def _met(one: dict) -> str:
    target = _target(one)
    if target is None:
        return ''
    return ' ✓' if one['reduction'] >= target[0] and one['points_below_original'] <= target[1] else ' ✗'


def sizes_within_points(entries: list[dict]) -> list[str]:
    """At which size the points that a target allows were measured, and what the size that it asks for costs."""
    groups: dict[tuple, list[dict]] = {}
    for one in entries:
        if (target := _target(one)) is not None:
            groups.setdefault((one['model'], one['devices'], *target), []).append(one)
    rows = []
    for (model, devices, reduction, points), found in sorted(groups.items()):
        within = max((one for one in found if one['points_below_original'] <= points), key=lambda one: one['reduction'], default=None)
        asked = min((one for one in found if one['reduction'] >= reduction), key=lambda one: one['points_below_original'], default=None)
        rows.append(f'| {model} | {devices} | {points:.1f} | '
                    + (f'{within["reduction"]:.1f}× ({within["points_below_original"]:.2f} below) | ' if within else '– | ')
                    + (f'{asked["points_below_original"]:.2f} at {asked["reduction"]:.1f}× |' if asked else '– |'))
    if not rows:
        return []
    return ['', '## The smallest within the target', '',
            'Of those measured, the smallest sub-models whose system stays within the points of the target, and the best result at the '
            'size of the target. –: none was measured.', '',
            '| model | devices | points allowed | smallest within them | points below at the size of the target |',
            '| --- | ---: | ---: | ---: | ---: |', *rows]


def _gone(entries: list[dict]) -> list[str]:
    lines = ['Points lost when one device is gone, against the whole system. The target: at most the share of its classes plus 2 points, '
             'or 3 points if each class is on two devices.', '',
             '| model | devices | points lost, each device in turn | most | target |', '| --- | ---: | --- | ---: | ---: |']
    for one in entries:
        if one['device_gone']:
            gone = list(one['device_gone'].values())
            met = '✓' if all(each['points_lost'] <= each['allowed'] for each in gone) else '✗'
            lines.append(f'| {_name(one)} | {one["devices"]} | ' + ', '.join(f'{each["points_lost"]:.1f}' for each in gone)
                         + f' | {max(each["points_lost"] for each in gone):.2f} {met} | {min(each["allowed"] for each in gone):.1f} |')
    return lines


def _lost(entries: list[dict]) -> list[str]:
    rates = sorted({rate for one in entries for rate in one['packet_loss']}, key=float)
    lines = ['Points lost with independent losses, against the whole system without loss; ± is half of the 95 % interval over seeds of the '
             'losses. A frame of which nothing arrives counts as wrong. *Copies*: datagrams that carry a device\'s features of a frame. '
             '*Bytes a frame*: UDP payload of all devices, unsealed. Both at '
             f'{" / ".join(f"{100 * float(rate):g}" for rate in ("0", *rates))} % loss.', '',
             '| model | devices | copies | bytes a frame | ' + ' | '.join(f'{100 * float(rate):g} %' for rate in rates) + ' |',
             '| --- | ---: | ---: | ---: |' + ' ---: |' * len(rates)]
    for one in entries:
        cells = [plus_minus(cell['points_lost'], cell['interval95']) if (cell := one['packet_loss'].get(rate)) else '–' for rate in rates]
        copies, sizes = (' / '.join(f'{one[name][rate]:,}' if rate in one[name] else '–' for rate in ('0', *rates))
                         for name in ('copies', 'bytes_per_frame'))
        lines.append(f'| {_name(one)} | {one["devices"]} | {copies} | {sizes} | ' + ' | '.join(cells) + ' |')
    return lines


def _latency(entries: list[dict]) -> list[str]:
    lines = ['Milliseconds for one frame on one CPU thread, medians of '
             f'{entries[0]["latency"]["runs"] if entries else 0} runs in turn with the original\'s; *faster* is the median of the ratios. '
             'The last columns are computed: how long the bytes of all devices take on a shared link without loss, and in brackets the '
             'share of the whole that fusion and network then take.', '',
             '| model | devices | original | sub-model | faster | fusion | '
             + ' | '.join(f'{rate / 1e6:g} Mbit/s' for rate in LINK_RATES) + ' |',
             '| --- | ---: | ---: | ---: | ---: | ---: |' + ' ---: |' * len(LINK_RATES)]
    for one in entries:
        times = one['latency']['milliseconds']
        cells = []
        for rate in LINK_RATES:
            network = 8e3 * one['bytes_per_frame']['0'] / rate
            rest = network + times['fusion']
            cells.append(f'{network:.1f} ms ({100 * rest / (rest + times["sub_model"]):.0f} %)')
        lines.append(f'| {_name(one)} | {one["devices"]} | {times["original"]:.1f} | {times["sub_model"]:.1f} | '
                     f'{one["latency"]["speed_up"]:.1f}× | {times["fusion"]:.2f} | ' + ' | '.join(cells) + ' |')
    return lines


def _bodies(entries: list[dict]) -> list[str]:
    rows = {}
    for one in entries:
        for number, stage in enumerate(one.get('body', ())):
            steps = ', '.join(f'{before["reduction"]:.1f}×: {before["training"]["steps"]}' for before in one['body'][:number + 1])
            rows[one['model'], stage['reduction'], steps] = (
                f'| {one["model"]} | {stage["parameters"]:,} | {stage["reduction"]:.1f}× | {100 * stage["top1"]:.2f} % | '
                f'{100 * (one["top1_original"] - stage["top1"]):.2f} | {steps} |')
    if not rows:
        return []
    return ['', '## The model that is divided', '',
            'One model of all classes, pruned and trained in stages; the sub-models are pruned from the last stage. Alone it reaches, on '
            'all test images:', '', '| model | parameters | smaller | top-1 | points below | steps at each size |',
            '| --- | ---: | ---: | ---: | ---: | --- |', *(rows[key] for key in sorted(rows))]


def _baselines(entries: list[dict]) -> list[str]:
    judged = [one for one in entries if one.get('baselines')]
    if not judged:
        return []
    lines = ['', '## Beside the partition', '',
             'Trained on the same images for as many steps: one ViT for all classes, as large as the largest sub-model and distilled from '
             'the original; one such ViT for each device, their answers averaged; and a CNN, pruned and split over as many devices.', '',
             '| model | devices | original | partition | one small ViT | averaged | CNN, whole | CNN, split |',
             '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |']
    for one in judged:
        base = one['baselines']
        cnn = base.get('cnn')
        lines.append(f'| {_name(one)} | {one["devices"]} | {100 * one["top1_original"]:.2f} % | {100 * one["top1"]:.2f} % | '
                     f'{100 * base["distilled"]["top1"]:.2f} % | {100 * base["averaged"]["top1"]:.2f} % | '
                     + (f'{100 * cnn["top1_original"]:.2f} % ({cnn["parameters_original"]:,}) | {100 * cnn["top1"]:.2f} % '
                        f'({cnn["parameters_largest"]:,} each) |' if cnn else '– | – |'))
    return lines


def write_report(result: dict, json_path: Path | str) -> list[str]:
    """Write the tables and the plot beside the JSON, with its name; return a sentence about each."""
    name, commands = Path(json_path).name, sorted({one['command'] for one in result['entries'] if one['command']})
    return drawing.write_beside(json_path, lambda png: '\n'.join([
        '# Partitions, measured', '', markdown(result), '', 'Made by:', '', '```', *commands, '```', '',
        f'The figures are in [{name}]({name}), with the configuration by which each partition was trained.', '',
        f'![top-1 over the size of a sub-model]({png.name})', '']), partial(plot, result))


def plot(result: dict, path: Path | str) -> str:
    """Draw the points below the original over the reduction, a panel a model, as PNG; return a sentence about it."""
    models = len({one['model'] for one in result['entries']})
    return drawing.plot(partial(_paint, result), path, (max(6.0, 3.6 * models), 4.2), dpi=130)


def _paint(result: dict, figure: Figure) -> None:
    models = sorted({one['model'] for one in result['entries']})
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    counts = sorted({one['devices'] for one in result['entries']})
    colours = {devices: COLOURS[number % len(COLOURS)] for number, devices in enumerate(counts)}
    for axes, model in zip(panels, models, strict=True):
        entries = [one for one in result['entries'] if one['model'] == model]
        below = [one['points_below_original'] for one in entries]
        for devices in sorted({one['devices'] for one in entries}):
            colour = colours[devices]
            for views in (False, True):
                points = [(one['reduction'], one['points_below_original']) for one in entries
                          if one['devices'] == devices and bool(one['retraining'].get('device_views')) is views]
                axes.scatter(*zip(*points, strict=True) if points else ((), ()), edgecolors=colour, facecolors=colour if views else 'none')
            axes.scatter((), (), color=colour, label=f'{devices} device{"s" if devices > 1 else ""}')
            for target in {target for one in entries if one['devices'] == devices and (target := _target(one)) is not None}:
                axes.scatter(*target, marker='*', s=130, edgecolors=colour, facecolors='none')
        axes.axhline(0, color='grey', linestyle='--', linewidth=1)
        axes.set_title(f'{model}, {100 * entries[0]["top1_original"]:.2f} %', fontsize=9)
        axes.set_xscale('log')
        axes.set_xlim(1, max(40, 1.3 * max(one['reduction'] for one in entries)))
        axes.set_xticks((1, 2, 4, 10, 20, 40), ('1', '2', '4', '10', '20', '40'))
        axes.minorticks_off()
        axes.set_ylim(max(3.5, 1.1 * max(below)), min(-0.5, 1.1 * min(below)))
        axes.legend(frameon=False, fontsize=7, loc='lower left')
    panels[0].set_ylabel('points below the original')
    figure.supxlabel("the original's parameters over a sub-model's (filled: each device has its own view; star: the aim)", fontsize=9)
