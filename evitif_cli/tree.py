"""A command's tree of verbs. The module of a verb is imported when that verb is used: `evitif --help` needs neither PyTorch nor the
laboratory, and a robot without the laboratory's packages has `evitif key` and `evitif link`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class VerbParser(argparse.ArgumentParser):
    """A parser that gets its arguments from `fill` when it is first used."""

    def __init__(self, *args: object, fill: Callable[[argparse.ArgumentParser], None] | None = None, **keywords: object):
        super().__init__(*args, **keywords)
        self._fill = fill

    def fill(self) -> None:
        """Add the arguments, once."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)

    def parse_known_args(self, args: list[str] | None = None, namespace: argparse.Namespace | None = None) -> tuple:
        """As argparse's, which a verb above calls as well."""
        self.fill()
        return super().parse_known_args(args, namespace)


def add_verbs(parser: argparse.ArgumentParser, table: dict[str, tuple], metavar: str = 'VERB') -> None:
    """Add verbs to `parser`: by name a sentence, and a module's name (which has `add_arguments(parser)` and `run(options, command)`) or
    a table of further verbs."""
    verbs = parser.add_subparsers(required=True, metavar=metavar, parser_class=VerbParser)
    for name, (sentence, below) in table.items():
        description = sentence[:1].upper() + sentence[1:] + '.'
        if isinstance(below, dict):
            add_verbs(verbs.add_parser(name, help=sentence, description=description), below, metavar='WHAT')
        else:
            verbs.add_parser(name, help=sentence, description=description, fill=lambda parser, module=below: _fill(parser, module))


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    module = importlib.import_module(name)
    parser.set_defaults(run=module.run)
    module.add_arguments(parser)


def from_sources(name: str) -> ModuleType:
    """Import a module of the source tree, from PYTHONPATH or the folder that the command runs in.

    :raises ValueError: it is not there
    """
    if (Path.cwd() / name.replace('.', '/')).with_suffix('.py').is_file() and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f'{name}.'.startswith(f'{error.name}.'):
            raise
        raise ValueError(f'{error.name!r} is not here: this verb needs the source tree; run it in the folder that evitif '
                         'was installed from') from None
