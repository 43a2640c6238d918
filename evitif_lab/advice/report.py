"""The comparison for people: a table, two plots, and one HTML file that holds all of it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evitif.files import write_text
from evitif_lab.advice.advice import Finding
from evitif_lab.evaluation import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ('way', 'right by the deadline', 'answered', 'from memory', 'p50', 'p99', 'bytes a frame', 'Mbit/s', 'robot computes')
_STYLE = ('body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse}'
          'td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}'
          'tr.chosen{background:#e8f3ea;font-weight:600}img{max-width:100%}')
NEARLY_NOTHING_KB = 0.3      # below this the axis is linear
_FAMILIES = (('evitif', '#D55E00', 'o'), ('H.264', '#0072B2', 's'), ('JPEG', '#009E73', '^'), ('the robot', '#888888', 'X'))


def row(finding: Finding) -> tuple[str, ...]:
    """The cells of a way."""
    right = f'{100 * finding.right:.1f} %' + ('' if finding.interval is None else f' ± {100 * finding.interval:.1f}')
    return (finding.way, right, f'{100 * finding.answered:.1f} %', f'{100 * finding.repeated:.1f} %', _time(finding.p50_s),
            _time(finding.p99_s), f'{finding.bytes:,.0f}', f'{finding.mbit_s:.2f}', _time(finding.robot_s))


def markdown(findings: Sequence[Finding]) -> str:
    """The table."""
    lines = [HEAD, ('---', *(['---:'] * (len(HEAD) - 1))), *map(row, findings)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines) + '\n'


def write(folder: Path, title: str, findings: Sequence[Finding], advice: str, about: Sequence[str]) -> list[Path]:
    """Write `compare.md`, `compare.png` and `compare.html`; return what was written."""
    text = '\n\n'.join([f'# {title}', f'**{advice}**', markdown(findings).rstrip(), *about]) + '\n'
    paths = [folder / 'compare.md', folder / 'compare.html']
    write_text(paths[0], text)
    picture = folder / 'compare.png'
    drawn = drawing.draw(lambda figure: _paint(figure, findings), picture, (11, 4.2), 110)
    content = base64.b64encode(picture.read_bytes()).decode() if drawn else ''
    image = f'<img alt="accuracy over bytes and over delay" src="data:image/png;base64,{content}">' if drawn else ''
    head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in HEAD)
    rows = ''.join(f'<tr{" class=chosen" if advice.startswith(finding.way + ":") else ""}>'
                   + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row(finding)) + '</tr>' for finding in findings)
    remarks = ''.join(f'<p>{html.escape(sentence)}</p>' for sentence in about)
    write_text(paths[1], f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
                         f'<h1>{html.escape(title)}</h1><p><strong>{html.escape(advice)}</strong></p>{image}'
                         f'<table><tr>{head}</tr>{rows}</table>{remarks}</html>\n')
    return [*paths, *([picture] if drawn else [])]


def _time(seconds: float | None) -> str:
    return '–' if seconds is None else f'{1e3 * seconds:.1f} ms'


def _paint(figure: Figure, findings: Sequence[Finding]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for family, colour, marker in _FAMILIES:
        own = [finding for finding in findings if finding.way.startswith(family)]
        if not own:
            continue
        rights = [100 * finding.right for finding in own]
        left.plot([finding.bytes / 1e3 for finding in own], rights, marker, color=colour, label=family)
        shown = [(1e3 * finding.p50_s, value) for finding, value in zip(own, rights, strict=True) if finding.p50_s is not None]
        right.plot([x for x, _ in shown], [y for _, y in shown], marker, color=colour, label=family)
    left.set_xscale('symlog', linthresh=NEARLY_NOTHING_KB)      # who sends nothing is at 0
    left.set_xlabel('kB a frame on the uplink')
    left.set_ylabel("the uncut model's answer by the deadline (%)")
    right.set_xlabel('image to answer, median (ms)')
    left.legend(frameon=False)
