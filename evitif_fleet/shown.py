"""A fleet's status as a table for people."""

from __future__ import annotations

from typing import Any

_COLUMNS = {'number': 'no.', 'name': 'bridge', 'address': 'address', 'state': 'state', 'version': 'version', 'robots': 'robots',
            'capacity': 'most', 'load': 'load', 'wait_ms': 'wait, ms', 'answered': 'answered', 'expired': 'expired',
            'heard_s': 'heard, s ago'}


def table_of(status: dict[str, Any]) -> str:
    """The bridges, one a line, and a sentence about the whole."""
    rows = [[*_COLUMNS.values()]] + [[str(bridge[name]) for name in _COLUMNS] for bridge in status['bridges']]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ['  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    serving = sum(bridge['state'] == 'serving' for bridge in status['bridges'])
    robots = sum(bridge['robots'] for bridge in status['bridges'] if bridge['state'] != 'gone')
    wanted = f', version {status["wanted_version"]} is wanted' if status['wanted_version'] else ''
    return '\n'.join([*lines, f'{serving} bridges serve, {robots} robots{wanted}'])
