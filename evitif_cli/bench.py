"""`evitif bench [PART]`: the benchmark of docs/benchmarks.md, or one part alone; needs the source tree (`make bench`)."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from evitif_cli.tree import VerbParser, from_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb: those of all parts together, and of each part its own."""
    suite = from_sources('benchmarks.suite')
    parser.description = ('Measure every part with a *, and write the page; or measure one PART, whose options follow its name. What was '
                          'measured with the same sources on this machine is not measured again; an interrupted part goes on.')
    for name, text in (('quick', 'less of everything, into reports/bench'), ('again', 'measure even what was measured already'),
                       ('page', 'measure nothing; write the page of what was measured')):
        parser.add_argument(f'--{name}', dest=f'all_{name}', action='store_true', help=text)
    parser.add_argument('--only', dest='all_only', nargs='+', default=[], metavar='NAME', help='these of the parts with a *')
    parser.add_argument('--output', dest='all_output', type=Path, metavar='DIR', help='(default: docs, or reports/bench with --quick)')
    parts = parser.add_subparsers(dest='part', metavar='PART', parser_class=VerbParser)
    for module in (*suite.PARTS, *suite.OTHER_PARTS):
        sentence = suite.sentence_of(module).replace('%', '%%')
        parts.add_parser(suite.name_of(module), help=('* ' if module in suite.PARTS else '') + sentence, description=sentence,
                         fill=lambda parser, module=module: _fill(parser, module))


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    module = from_sources(name)
    parser.set_defaults(module=module)
    if hasattr(module, 'QUICK'):
        parser.add_argument('--quick', action='store_true', help=module.QUICK)
    parser.add_argument('--output', type=Path, default=from_sources('benchmarks.part').ROOT / 'reports' / 'bench',
                        help='folder of the figures (default: %(default)s)')
    if hasattr(module, 'add_options'):
        module.add_options(parser)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status: 1 where nothing could be measured."""
    of_all = {name.removeprefix('all_'): value for name, value in vars(options).items() if name.startswith('all_')}
    if options.part is None:
        return from_sources('benchmarks.suite').run(**of_all)
    if misplaced := [f'--{name}' for name, value in of_all.items() if value]:
        raise ValueError(f'{", ".join(misplaced)} before {options.part}: expected behind it, `evitif bench {options.part} {misplaced[0]}`')
    given = {name: getattr(options, name) for name in inspect.signature(options.module.run).parameters}
    return from_sources('benchmarks.part').print_part(options.part, lambda: options.module.run(**given), options.module.section,
                                                      options.output)
