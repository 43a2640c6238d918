"""The page of all tables and plots that the suite measured, in Markdown."""

from __future__ import annotations

from pathlib import Path

from evitif_lab.evaluation.report import choices_in_words, losses_in_words, markdown, plus_minus, title, tokens_in_words

TARGETS = {'0.3': 0.3, '0.6': 1.0, '0.8': 2.0, '0.9': 5.0}      # points of top-1 that PALDN may lose, by packet loss

MAIN = ('iid', 'burst8', 'iid-int8', 'burst8-int8')           # of the first table
METHODS = 'methods'                                           # every method at one cut; drawn as well

Entry = tuple[str, str, dict]       # name of the files, label, result


def page(models: dict[str, list[Entry]], command: str, notes: list[str], plots: Path) -> str:
    """The whole page. `plots` is where the PNGs lie; the page itself lies beside that folder."""
    entries = [entry for group in models.values() for entry in group]
    lines = ['# Recovery, measured', '',
             f'Made by `{command}`; do not edit. Each measurement is a JSON file in [{plots.name}/]({plots.name}), with the command that '
             'repeats it. *Points lost* are points of top-1 against the uncut model on the same images. Intervals are 95 %, by '
             'Student\'s t over seeds of the losses; they say nothing about other images or another training. Each method gets '
             'the packet error rate that the bridge would have measured over its last 512 datagrams.', '',
             '## Points lost, and the target', '',
             *_targets([entry for entry in entries if entry[1] in MAIN])]
    for name, group in models.items():
        result = group[0][2]
        lines += ['', f'## {name}', '',
                  f'On {result["images"]:,} images of {result["data"]} the uncut model has {100 * result["top1_uncut"]:.2f} %.']
        for file, label, result in group:
            if label == METHODS:
                lines += ['', f'### Cut {result["cut"]}, all methods', '', markdown(result)]
                if (plots / f'{file}.png').is_file():
                    lines += ['', f'![accuracy over loss]({plots.name}/{file}.png)']
        others = [entry for entry in group if entry[1] not in (*MAIN, METHODS)]
        if others:
            lines += ['', '### Other links and quantisations', '', *_others(others)]
        adaptive = [result for _, label, result in group if label in MAIN and result['quantisation'] == 'adaptive']
        if adaptive:
            lines += ['', '### How tokens travelled', '', 'At each rate of loss, the most frequent first:', '',
                      *(f'- cut {result["cut"]}, {losses_in_words(result)}: {choices_in_words(result)}' for result in adaptive)]
    if notes:
        lines += ['', '## Left out', '', *(f'- {note}' for note in notes)]
    return '\n'.join(lines) + '\n'


def _targets(entries: list[Entry]) -> list[str]:
    lines = ['| model | cut | losses | tokens | images | method | ' + ' | '.join(f'{100 * float(rate):g} %' for rate in TARGETS) + ' |',
             '| --- | ---: | --- | --- | ---: | --- |' + ' ---: |' * len(TARGETS),
             '| target | | | | | | ' + ' | '.join(f'{target:g}' for target in TARGETS.values()) + ' |']
    for _, _, result in entries:
        tokens = f'{tokens_in_words(result)}, {result["bytes_per_frame"]:,} bytes'
        for name, row in result['top1'].items():
            cells = [_against_target(row.get(rate), target) for rate, target in TARGETS.items()]
            lines.append(f'| {result["model"]} | {result["cut"]} | {losses_in_words(result)} | {tokens} | '
                         f'{result["images"]:,} | {title(name)} | ' + ' | '.join(cells) + ' |')
    return [*lines, '', '✓: the mean meets the target.']


def _against_target(cell: dict | None, target: float) -> str:
    if cell is None:
        return '–'
    return plus_minus(cell['lost'], cell['lost_interval95']) + (' ✓' if round(cell['lost'], 2) <= target else '')


def _others(entries: list[Entry]) -> list[str]:
    lines = ['| losses | tokens | bytes a frame | method | loss | points lost | frames of which nothing arrives |',
             '| --- | --- | ---: | --- | ---: | ---: | ---: |']
    for _, _, result in entries:
        for name, row in result['top1'].items():
            for rate, cell in row.items():
                lines.append(f'| {losses_in_words(result)} | {tokens_in_words(result)} | {result["bytes_per_frame"]:,} | '
                             f'{title(name)} | {100 * float(rate):g} % | {plus_minus(cell["lost"], cell["lost_interval95"])} | '
                             f'{100 * result["frames_unanswerable"][rate]:.2f} % |')
    return lines
