"""The page about the latency from image to answer: tables, plots, and who is best where."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from benchmarks.link.conditions import ANSWERED, DEADLINE_MS, MAIN, PHOTOGRAPHS
from benchmarks.link.contestants import CONTESTANTS
from benchmarks.plots import lines

CLOSE = 1.1     # within a tenth of the best is as good, since the machine is shared
HEADINGS = {MAIN: 'Loss, at 5 ms of delay', 'delay': 'Delay', 'rate': 'Rate', 'bursts': 'Bursts',
            PHOTOGRAPHS: 'Photographs, ViT-Tiny at 224 × 224', ANSWERED: 'Answered by the deadline, longer runs'}
SUMMARISED = ('evitif', 'tcp-cubic', 'tcp-bbr', 'tcp-jpeg', 'ros-jpeg-reliable', 'ros-jpeg-best-effort', 'parity-jpeg', 'local')


def section(result: dict, images: Path) -> str:
    """Markdown; draws the plots into `images`."""
    entries = result['figures']['conditions']
    text = [*_about(result)]
    for note in result['notes']:
        text += ['', f'**{note}**']
    for name, heading in HEADINGS.items():
        group = [entry for entry in entries if entry['group'] == name and entry['contestants']]
        if not group:
            continue
        text += ['', f'### {heading}', '', *_tables(group)]
        if name == MAIN:
            text += ['', *_plots(group, images), '', '### Who is best where', '', *_best(entries)]
    for name, reason in result['left_out'].items():
        text += ['', f'{CONTESTANTS[name].title} was left out: {reason}.']
    return '\n'.join(text)


def summary(result: dict) -> str:
    """Latency and share answered over the loss, of the contestants that people would take instead."""
    group = [entry for entry in result['figures']['conditions'] if entry['group'] == MAIN and entry['contestants']]
    if not group:
        return 'Not measured over the loss.'
    names = [name for name in SUMMARISED if any(name in entry['contestants'] for entry in group)]
    columns = [f'{100 * entry["condition"]["loss"]:g} % loss' for entry in group]
    condition = group[0]['condition']
    return '\n'.join([f'{group[0]["rate"]:g} images a second, {condition["delay_ms"]:g} ms of delay one way, losses in both directions. '
                      'Milliseconds from the image on the robot to the answer on the robot; *> 1000*: no answer within that time.', '',
                      *_table('p50 / p99 in ms', columns, group, names, _latency), '',
                      *_table(f'answered by {DEADLINE_MS:g} ms, % of all images', columns, group, names, _answered)])


def _about(result: dict) -> list[str]:
    about = result['figures']['about']
    text = []
    for model in about.values():
        if 'model' in model:
            text.append(f'- {model["model"]}: {model["images"]}, {model["image_size"][0]} × {model["image_size"][1]} pixels; '
                        f'{model["tokens"]} tokens of {model["channels"]} channels, {model["int8_bytes"]:,} bytes as int8.')
    if 'datagrams_a_packet' in about:
        counted = ', '.join(f'{value:.2f} ({name})' for name, value in about['datagrams_a_packet'].items())
        text.append(f'- Datagrams that travel as one packet, counted: {counted}.')
    return text


def _tables(group: list[dict]) -> list[str]:
    names = [name for name in CONTESTANTS if any(name in entry['contestants'] for entry in group)]
    text = []
    for heading, cell in (('p50 / p99 in ms', _latency), (f'answered by {DEADLINE_MS:g} ms, % of all images', _answered),
                          ('the link\'s part of p50 in ms: there, back and waiting', _link)):
        text += [*_table(heading, [entry['name'] for entry in group], group, names, cell), '']
    return text[:-1]


def _table(heading: str, columns: list[str], group: list[dict], names: list[str], cell: Callable[[dict | None], str]) -> list[str]:
    lines = [f'| {heading} | ' + ' | '.join(columns) + ' |', '| --- |' + ' ---: |' * len(columns)]
    return lines + [f'| {CONTESTANTS[name].title} | ' + ' | '.join(cell(entry['contestants'].get(name)) for entry in group) + ' |'
                    for name in names]


def _latency(figures: dict | None) -> str:
    return '–' if figures is None else f'{_ms(figures, "p50_ms")} / {_ms(figures, "p99_ms")}'


def _ms(figures: dict, name: str) -> str:
    value = figures[name]
    return f'> {figures["gives_up_ms"]:.0f}' if value is None else f'{value:.0f}' if value >= 100 else f'{value:.1f}'


def _answered(figures: dict | None) -> str:
    return '–' if figures is None else f'{100 * figures["answered"]:.1f}'


def _link(figures: dict | None) -> str:
    return '–' if figures is None or figures['link_ms'] is None else f'{figures["link_ms"]:.1f}'


def _best(entries: list[dict]) -> list[str]:
    """For each condition the contestants with the least p99, except the robot alone, and how evitif stands beside them."""
    text = ['Only those that use the link. Whoever has the least p99 comes first; others within a tenth of it follow.', '',
            '| | least p99 | p99, ms | evitif by default, ms | evitif loses by |', '| --- | --- | ---: | ---: | ---: |']
    for entry in entries:
        found = {name: figures for name, figures in entry['contestants'].items() if name != 'local'}
        if entry['group'] == ANSWERED or 'evitif' not in found:
            continue
        p99 = {name: math.inf if figures['p99_ms'] is None else figures['p99_ms'] for name, figures in found.items()}
        least = min(p99.values())
        if math.isinf(least):
            continue
        best = [CONTESTANTS[name].title for name, value in sorted(p99.items(), key=lambda item: item[1]) if value <= CLOSE * least]
        ours = p99['evitif']
        loses = '' if ours <= CLOSE * least else f'{ours / least:.1f} times' if math.isfinite(ours) else 'no answer'
        text.append(f'| {entry["model"]} model, {entry["name"]} | {", ".join(best)} | {least:.0f} | {_ms(found["evitif"], "p99_ms")} '
                    f'| {loses} |')
    return text


def _plots(group: list[dict], images: Path) -> list[str]:
    shown = [name for name in CONTESTANTS if any(name in entry['contestants'] for entry in group)]
    text = []
    for file, name, label, scale in (('bench-p99', 'p99_ms', 'p99 from image to answer in ms', 1.0),
                                     ('bench-answered', 'answered', 'answered by 200 ms, % of all images', 100.0)):
        series = {}
        for contestant in shown:
            points = []
            for entry in group:
                figures = entry['contestants'].get(contestant)
                if figures is not None:
                    value = figures[name] if figures[name] is not None else figures['gives_up_ms']
                    points.append((100 * entry['condition']['loss'], scale * value))
            series[CONTESTANTS[contestant].title] = points
        if lines(images / f'{file}.png', series, x='packets lost in %, both ways', y=label, bold=(CONTESTANTS['evitif'].title,),
                 title='5 ms one way; at 3 or 5 s there was no answer' if name == 'p99_ms' else '5 ms one way',
                 logarithmic=name == 'p99_ms'):
            text += [f'![{label}]({{images}}/{file}.png)', '']
    return text[:-1]
