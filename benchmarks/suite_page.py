"""The pages of what the benchmark measured, in Markdown: one for each part, and `page.md` with the tables that matter put in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name('page.md')
VERDICTS = {True: 'yes', False: '**no**', None: '–'}


@dataclass(frozen=True)
class Measured:
    """A part of the benchmark, and what it has to show."""

    title: str
    result: dict
    section: str | None         # all of its tables and plots; None: the figures as they are
    summary: str | None         # its table on the page of the whole, where it has one

    @property
    def page(self) -> str:
        """The name of its page."""
        return f'{self.result["name"]}.md'


def part_page(part: Measured, images: Path) -> str:
    """
    The page of one part.

    :param images: where the plots lie, as seen from the page; stands for `{images}` in a section
    """
    result = part.result
    figures = f'```\n{json.dumps(result["figures"], indent=1)}\n```' if part.section is None else part.section
    lines = [f'# {part.title}', '', f'Made by `{result["command"]}` on {_machine(result)}; do not edit. The figures are in '
             f'[{result["name"]}.json]({result["name"]}.json).', '', figures.replace('{images}', images.as_posix())]
    if result['targets']:
        lines += ['', '## Targets', '', *_targets(result['targets'])]
    return '\n'.join(lines) + '\n'


def page_of(parts: list[Measured], command: str, left_out: dict[str, str], results: Path) -> str:
    """
    The page of the whole.

    :param left_out: by name of a part, why it could not be measured
    :param results: where the parts' pages lie, as seen from this page
    """
    tables = []
    for part in parts:
        if part.summary is not None:
            tables += [f'## {part.title}', '', part.summary, '', f'More: [{part.page}]({(results / part.page).as_posix()}).', '']
    links = [f'- [{part.title}]({(results / part.page).as_posix()})' for part in parts]
    if left_out:
        links += ['', '## Left out', '', *(f'- {name}: {reason}' for name, reason in left_out.items())]
    filled = {'command': command, 'machine': _machine(parts[0].result), 'tables': '\n'.join(tables[:-1]), 'missed': _missed(parts),
              'parts': '\n'.join(links)}
    text = TEMPLATE.read_text()
    for name, value in filled.items():
        text = text.replace(f'{{{name}}}', value)
    return text


def _machine(result: dict) -> str:
    of = result['machine']
    return f'{of["processor"]}, {of["cpus"]} CPUs, {of["system"]} ({of["architecture"]}), Python {of["python"]}'


def _targets(entries: list[dict]) -> list[str]:
    lines = ['| | target | measured | holds |', '| --- | --- | --- | :---: |']
    lines += [f'| {entry["name"]} | {entry["target"]} | {entry["measured"]} | {VERDICTS[entry["holds"]]} |' for entry in entries]
    notes = [f'- {entry["name"]}: {entry["note"]}' for entry in entries if entry['note']]
    return lines + ([''] + notes if notes else [])


def _missed(parts: list[Measured]) -> str:
    entries = [entry for part in parts for entry in part.result['targets'] if entry['holds'] is not None]
    missed = [entry for entry in entries if not entry['holds']]
    if not entries:
        return 'No part with a target was measured.'
    text = f'{len(entries) - len(missed)} of {len(entries)} targets are reached.'
    if missed:
        text += ' These are not; the page of each part says why:\n\n| | target | measured |\n| --- | --- | --- |\n'
        text += '\n'.join(f'| {entry["name"]} | {entry["target"]} | {entry["measured"]} |' for entry in missed)
    return text
