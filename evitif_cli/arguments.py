"""Types and groups of arguments that several verbs share; a bad value is refused by the parser."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from types import ModuleType
from typing import Any

from evitif.files import parse_json
from evitif.vocabulary import Quantisation
from evitif_lab.commands.options import not_negative_int


def keyword(text: str) -> tuple[str, Any]:
    """`name=value`, the value in JSON where it is that."""
    name, equals, value = text.partition('=')
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form name=value')
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value


def add_model(parser: argparse.ArgumentParser, several_cuts: bool = False,
              quantisation: str | None = None) -> None:
    """The arguments that name a model with its weights, and its cut or cuts; `quantisation` is the default where it is asked."""
    parser.add_argument('--model', required=True, help='a model folder, or the name of a timm model')
    parser.add_argument('--checkpoint', help='a file with weights, for a timm name')
    parser.add_argument('--pretrained', action='store_true', help="weights from timm's hub, for a timm name")
    parser.add_argument('--cut', type=not_negative_int, nargs='+' if several_cuts else None,
                        help='cut after this block (default: the model folder\'s, else half of the depth)')
    if quantisation is not None:
        parser.add_argument('--quantisation', choices=('auto', *Quantisation.values()), default=quantisation,
                            help='how tokens travel (default: %(default)s; auto: as the loss asks for where a transform code was '
                                 'fitted, else as int8)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:0, mps, … (default: cpu)')


def add_overwrite(parser: argparse.ArgumentParser, what: str) -> None:
    """The flag that lets a command replace `what`."""
    parser.add_argument('--overwrite', action='store_true', help=f'replace {what}')


def chosen(options: argparse.Namespace, kind: type) -> dict:
    """The options that are fields of the dataclass `kind`, where they were given."""
    names = kind.__dataclass_fields__
    return {name: value for name, value in vars(options).items() if name in names and value is not None}


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
