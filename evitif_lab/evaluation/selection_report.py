"""The figures of strategy selection for people: tables in Markdown and a plot of both fronts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evitif_lab.evaluation import drawing
from evitif_lab.evaluation.report import plus_minus
from evitif_lab.evaluation.selection import PIXELS, point_of
from evitif_lab.trials.front import Point, pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = (0.32, 0.20)        # of the paper's kind that the best of the sweep is shown for
SHARE_OF_CODEC = 0.40
STYLES = {PIXELS: ('#888888', 'v'), 'klt2': ('#0072B2', 's'), 'klt1.5': ('#009E73', 'D'), 'klt1': ('#D55E00', 'o'),
          'klt0.5': ('#CC79A7', 'P'), 'klt0.25': ('#AA4499', 'X'), 'WebP': ('#332288', '<'), 'JPEG': ('#882255', '>')}


def markdown(result: dict) -> str:
    """All tables."""
    light, large = result['top1']['light'], result['top1']['large']
    settings = result['settings']
    lines = [f'Light model {result["light"]} ({result["parameters"][0]:,} parameters, {100 * light:.2f} %), large model {result["large"]} '
             f'({result["parameters"][1]:,} parameters, {100 * large:.2f} %), {result["images"]} images of {result["data"]}, '
             f'{result["patches"]} patches each. *Bytes*: UDP payload for an image on average, sealed, with headers and all copies of the '
             'answers. *Cost*: the share of all patches that the robot sends.',
             '', f'Calibrated on training images: scores by {settings["score_rule"]}, gate {settings["gate_rule"]} with eta '
             f'{settings["eta"]:.3f}, delta {settings["delta"]:g}, patches as {settings["quantisation"]}, temperature '
             f'{settings["temperature"]:g}, prior {settings["prior_weight"]:g}; expected {_expected(result["expected"])}.', '',
             *_overview(result), '', *_loss_table(result), '', *_fronts(result), '', *_ablations(result)]
    return '\n'.join(lines)


def best_within(result: dict, by: str, limit: float) -> Point | None:
    """The most accurate point of the sweep that costs at most `limit`."""
    found = [point for point in _points(result) if getattr(point, by) <= limit and (by == 'cost' or point.quantisation != PIXELS)]
    return max(found, key=lambda point: (point.top1, -getattr(point, by)), default=None)


def codec_bytes(result: dict, codec: str = 'WebP', rate: float = 0.0) -> float | None:
    """Bytes of every image by the codec, at the quality that costs at most half a point; None where no quality does."""
    row = result['reference'][codec]
    return None if row is None else row[f'bytes at {rate:g}']


def _points(result: dict) -> list[Point]:
    return [point_of(row) for row in result['front']]


def _expected(expected: dict) -> str:
    if not expected:
        return 'nothing, since no figures came with it'
    return (f'{100 * (expected["top1_large"] - expected["top1"]):.2f} points below the large model, cost {expected["cost"]:.3f}, '
            f'{expected["bytes"]:.0f} bytes')


def _overview(result: dict) -> list[str]:
    large, webp = result['top1']['large'], codec_bytes(result)
    lines = ['| | top-1 in % | points below the large model | images asked about | cost | bytes | of WebP |',
             '| --- | ---: | ---: | ---: | ---: | ---: | ---: |']

    def row(name: str, top1: float, asked: float | None = None, cost: float | None = None, size: float | None = None) -> None:
        cells = [f'{100 * top1:.2f}', f'{100 * (large - top1):.2f}', '' if asked is None else f'{100 * asked:.0f} %',
                 '' if cost is None else f'{cost:.3f}', '' if size is None else f'{size:.0f}',
                 f'{size / webp:.2f}' if size is not None and webp else '']
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')

    row('light model alone', result['top1']['light'], 0.0, 0.0, 0.0)
    row('large model alone, pixels as they are', large, 1.0, 1.0)
    for codec, reference in result['reference'].items():
        if reference is not None:
            row(f'{codec} {reference["quality"]} of every image', reference['top1'], 1.0, None, reference['bytes at 0'])
    coded, pixels = (point_of(result['calibrated'][name]) for name in ('coded', PIXELS))
    row('as calibrated', coded.top1, coded.asked, coded.cost, coded.bytes)
    row('as calibrated, pixels as they are', pixels.top1, pixels.asked, pixels.cost)
    for limit in COSTS:
        if (point := best_within(result, 'cost', limit)) is not None:
            row(f'best of the sweep at cost {limit:g}: {_named(point)}', point.top1, point.asked, point.cost,
                None if point.quantisation == PIXELS else point.bytes)
    if webp and (point := best_within(result, 'bytes', SHARE_OF_CODEC * webp)) is not None:
        row(f'best of the sweep at {SHARE_OF_CODEC:g} of WebP: {_named(point)}', point.top1, point.asked, point.cost, point.bytes)
    return [*lines, '', 'The best of the sweep was chosen on the images that judge it; the calibration never saw them.']


def _named(point: Point) -> str:
    prior = f', prior {point.prior_weight:g}' if point.prior_weight else ''
    return f'{point.quantisation}, delta {point.delta:g}, eta {point.eta:.2f}{prior}'


def _loss_table(result: dict) -> list[str]:
    coded = point_of(result['calibrated']['coded'])
    lines = ['| loss | copies | patches lost | nothing arrives | top-1 in % | points more than without loss | bytes | WebP with parity, '
             'bytes | WebP images that arrive without |', '|' + ' ---: |' * 9,
             f'| 0 % | 1 | 0 % | 0 % | {100 * coded.top1:.2f} | 0 | {coded.bytes:.0f} | {_whole(codec_bytes(result))} | 100 % |']
    for rate, row in result['loss'].items():
        half = None if row['interval95'] is None else 100 * row['interval95']
        webp = result['reference']['WebP']
        arrive = '' if webp is None else f'{100 * webp[f"arrive at {rate} without parity"]:.0f} %'
        lines.append(f'| {100 * float(rate):g} % | {row["copies"]} | {100 * row["patches_lost"]:.1f} % | '
                     f'{100 * row["nothing_arrived"]:.2g} % | {plus_minus(100 * row["top1"], half)} | '
                     f'{plus_minus(100 * (coded.top1 - row["top1"]), half)} | {row["bytes"]:.0f} | '
                     f'{_whole(codec_bytes(result, rate=float(rate)))} | {arrive} |')
    return [*lines, '', f'Independent losses, {result["seeds"]} seeds, 95 % intervals. The parity is that of an ideal erasure code which '
            'saves 99 % of the images.']


def _whole(value: float | None) -> str:
    return '–' if value is None else f'{value:.0f}'


def _fronts(result: dict) -> list[str]:
    large, webp = result['top1']['large'], codec_bytes(result)
    lines = ['The best settings of the sweep by bytes:', '', '| bytes | of WebP | top-1 in % | points below | cost | setting |',
             '| ---: | ---: | ---: | ---: | ---: | --- |']
    for point in pareto([point for point in _points(result) if point.quantisation != PIXELS], 'bytes'):
        share = f'{point.bytes / webp:.2f}' if webp else ''
        lines.append(f'| {point.bytes:.0f} | {share} | {100 * point.top1:.2f} | {100 * (large - point.top1):.2f} | {point.cost:.3f} | '
                     f'{_named(point)} |')
    lines += ['', 'Whole images, coded:', '', '| codec | bytes | top-1 in % | points below |', '| --- | ---: | ---: | ---: |']
    for codec, rows in result['codecs'].items():
        lines += [f'| {codec} {row["quality"]} | {row["bytes at 0"]:.0f} | {100 * row["top1"]:.2f} | {100 * (large - row["top1"]):.2f} |'
                  for row in rows]
    lines += ['', 'The best settings of the sweep by the share of raw patches:', '', '| cost | top-1 in % | points below | setting |',
              '| ---: | ---: | ---: | --- |']
    lines += [f'| {point.cost:.3f} | {100 * point.top1:.2f} | {100 * (large - point.top1):.2f} | {_named(point)} |'
              for point in pareto([point for point in _points(result) if point.quantisation == PIXELS], 'cost')]
    return lines


def _ablations(result: dict) -> list[str]:
    found = result['ablation']
    lines = ['Half of the patches of every image, chosen by these scores:', '', '| scores | top-1 in % |', '| --- | ---: |',
             f'| none: the light model alone | {100 * result["top1"]["light"]:.2f} |']
    for rule, row in found['scores'].items():
        half = row.get('interval95')
        lines.append(f'| {"at random" if rule == "random" else rule} | {plus_minus(100 * row["top1"], half and 100 * half)} |')
    lines.append(f'| all patches | {100 * result["top1"]["large"]:.2f} |')
    for title, table in (('Half of the images, chosen by these gates, with all of their patches:', found['gates']),
                         ('Half of the patches of every image, by the calibrated scores; the others filled in by', found['recovery'])):
        weights = list(next(iter(table.values())))
        heads = [f'prior {weight}' if float(weight) else 'no prior' for weight in weights]
        lines += ['', title, '', '| | ' + ' | '.join(f'{head}, top-1 in %' for head in heads) + ' |', '| --- |' + ' ---: |' * len(weights)]
        lines += [f'| {name} | ' + ' | '.join(f'{100 * row[weight]:.2f}' for weight in weights) + ' |' for name, row in table.items()]
    lines += ['', 'The chosen patches of every image in forms of which each packet decodes alone (without headers and answers):', '',
              '| form | bytes | top-1 in % | divergence of the answer, nats |', '| --- | ---: | ---: | ---: |']
    lines += [f'| {_form(name)} | {row["bytes"]:.0f} | {100 * row["top1"]:.2f} | {row["divergence"]:.3f} |'
              for name, row in found['forms'].items()]
    return lines


def _form(name: str) -> str:
    return f'patch code, {name}' if name.startswith('klt') else f'scattered mosaics, {name}'


def write_report(result: dict, json_path: Path | str) -> list[str]:
    """Write the tables and the plot beside the JSON, with its name; return a sentence about each."""
    made = [f'Made by `{result["command"]}`.', ''] if result['command'] else []
    return drawing.write_beside(json_path, lambda png: '\n'.join([
        f'# Selection: {result["light"]} and {result["large"]}', '', markdown(result), '', f'![top-1 over bytes and over cost]({png.name})',
        '', *made]), partial(plot, result))


def plot(result: dict, path: Path | str) -> str:
    """Draw accuracy over bytes, beside the codecs, and over the paper's cost, as PNG; return a sentence about it."""
    return drawing.plot(partial(_paint, result), path, (11, 4.4), dpi=120)


def _paint(result: dict, figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    large, light = 100 * result['top1']['large'], 100 * result['top1']['light']
    for axes, by in ((left, 'bytes'), (right, 'cost')):
        for quantisation in dict.fromkeys(point.quantisation for point in _points(result)):
            if (quantisation == PIXELS) == (by == 'cost'):
                front = pareto([point for point in _points(result) if point.quantisation == quantisation], by)
                colour, marker = STYLES.get(quantisation, ('#000000', '.'))
                axes.plot([getattr(point, by) for point in front], [100 * point.top1 for point in front], color=colour, marker=marker,
                          markersize=4, label=f'patches, {quantisation}')
        axes.axhline(large, color='black', linestyle='--', linewidth=1)
        axes.axhline(light, color='black', linestyle=':', linewidth=1)
    for codec, rows in result['codecs'].items():
        colour, marker = STYLES[codec]
        left.plot([row['bytes at 0'] for row in rows], [100 * row['top1'] for row in rows], color=colour, marker=marker, markersize=4,
                  linestyle='--', label=f'whole image, {codec}')
    for axes, name, by in ((left, 'coded', 'bytes'), (right, PIXELS, 'cost')):
        point = point_of(result['calibrated'][name])
        axes.plot([getattr(point, by)], [100 * point.top1], marker='*', markersize=14, color='#E69F00', linestyle='none',
                  label='as calibrated')
        axes.legend(fontsize=8, loc='lower right')
    right.plot([0.3236], [large - 0.97], marker='x', color='black', linestyle='none', label="Im et al.'s ImageNet point, same points below")
    right.legend(fontsize=8, loc='lower right')
    left.set_ylim(light - 1, max(large, *(100 * point.top1 for point in _points(result))) + 0.7)
    left.set_xlabel('bytes on the wire for an image')
    right.set_xlabel('share of raw patches sent (cost)')
    left.set_ylabel('top-1 accuracy in %')
    figure.suptitle(f'{result["light"]} and {result["large"]}, {result["images"]} images (dashed: large alone, dotted: light alone)',
                    fontsize=10)
