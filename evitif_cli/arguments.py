"""What several verbs share: a configuration from the options, and arguments of the command line alone."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from types import ModuleType
from typing import Any, TypeVar

from evitif.files import parse_json
from evitif_lab.commands.configuration import chosen

Configuration = TypeVar('Configuration')


def keyword(text: str) -> tuple[str, Any]:
    """`name=value`, the value in JSON where it is that."""
    name, equals, value = text.partition('=')
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form name=value')
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """The flag that lets a command replace `what`."""
    parser.add_argument('--overwrite', action='store_true', help=f'replace {what}')


def configured(options: argparse.Namespace, kind: type[Configuration]) -> Configuration:
    """The configuration that the options describe, printed. Raises ValueError for a value out of its range."""
    configuration = kind(**chosen(options, kind))
    show(configuration)
    return configuration


def show(configuration: object) -> None:
    """Print a configuration, one field a line."""
    for name, value in asdict(configuration).items():
        print(f'{name:>24}: {value}')


def show_report(result: dict, report: ModuleType, json_path: str | None) -> None:
    """Print the figures of an evaluation; where they are in a file, write the table and the plot beside it.

    :param report: has `markdown(result)` and `write_report(result, json_path)`
    """
    print(report.markdown(result))
    if json_path:
        print('', f'the figures are in {json_path}', *report.write_report(result, json_path), sep='\n')
