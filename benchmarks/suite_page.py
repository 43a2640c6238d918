"""The page of all that the benchmark measured, in Markdown: `page.md` with what was measured put in."""

from __future__ import annotations

import json
from pathlib import Path

TEMPLATE = Path(__file__).with_name('page.md')
VERDICTS = {True: 'yes', False: '**no**', None: '–'}


def page(sections: list[tuple[str, dict, str | None]], command: str, left_out: dict[str, str], *, results: Path, images: Path) -> str:
    """
    The whole page.

    :param sections: title, result and Markdown (None: the figures as they are) of each part
    :param left_out: by name of a part, why it could not be measured
    :param results: where the JSON files lie, as seen from the page
    :param images: the same for the plots; stands for `{images}` in a section
    """
    of = next(result['machine'] for _, result, _ in sections)
    machine = f'{of["processor"]}, {of["cpus"]} CPUs, {of["system"]} ({of["architecture"]}), Python {of["python"]}'
    lines = []
    for title, result, text in sections:
        text = f'```\n{json.dumps(result["figures"], indent=1)}\n```' if text is None else text.replace('{images}', str(images))
        lines += [f'## {title}', '', text, '', f'`{result["command"]}` makes this part alone.', '']
    if left_out:
        lines += ['## Left out', '', *(f'- {name}: {reason}' for name, reason in left_out.items()), '']
    filled = {'command': command, 'results': str(results), 'machine': machine, 'targets': _targets(sections),
              'sections': '\n'.join(lines[:-1])}
    text = TEMPLATE.read_text()
    for name, value in filled.items():
        text = text.replace(f'{{{name}}}', value)
    return text


def _targets(sections: list[tuple[str, dict, str | None]]) -> str:
    entries = [entry for _, result, _ in sections for entry in result['targets']]
    if not entries:
        return 'No part with a target was measured.'
    lines = ['| | target | measured | holds |', '| --- | --- | --- | :---: |']
    lines += [f'| {entry["name"]} | {entry["target"]} | {entry["measured"]} | {VERDICTS[entry["holds"]]} |' for entry in entries]
    notes = [f'- {entry["name"]}: {entry["note"]}' for entry in entries if entry['note']]
    return '\n'.join(lines + ([''] + notes if notes else []))
