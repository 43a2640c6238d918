"""The console command `evitif`."""

from __future__ import annotations

import shlex
import sys

from evitif import __version__
from evitif_cli.tree import VerbParser, add_verbs
from evitif_lab.commands import command

OF_THE_LABORATORY = ('tqdm', 'matplotlib')      # the packages of requirements/laboratory.txt
VERBS = {
    'key': ('keys that seal the link between robot and bridge', {
        'new': ('write a new random key', 'evitif_cli.key'),
    }),
    'link': ('relay UDP with simulated loss, bursts, delay, …', 'evitif_cli.link'),
    'compare': ('say which way of sending is best for a recording, a model and a link', 'evitif_cli.compare'),
    'replay': ('play a recording through edge and bridge over a simulated link, and keep the answers as a bag and a film',
               'evitif_cli.replay'),
    'fetch': ('download a data set unless it is there', 'evitif_cli.fetch'),
    'divide': ('divide a folder of images into images to train with and images to judge by', 'evitif_cli.divide'),
    'train': ('train a model, a head, a recovery, a code or a partition', {
        'model': ('train a timm Vision Transformer and write a model folder', 'evitif_cli.train_model'),
        'recovery': ('train PALDN, or a method that it is compared with, for a model and cuts; needs images, no labels',
                     'evitif_cli.train_recovery'),
        'head': ('train a head beside a backbone, which stays as it is: own classes in a minute, class means of ten pictures, a vector',
                 'evitif_cli.train_head'),
        'code': ("fit the transform code (klt2 to klt0.125) of a model's tokens; needs images, no labels", 'evitif_cli.train_code'),
        'partition': ('divide a model by class among several devices: subsets, pruning, placement, retraining, fusion',
                      'evitif_cli.train_partition'),
    }),
    'calibrate': ('choose eta and delta of strategy selection for a wished accuracy or byte rate', 'evitif_cli.calibrate'),
    'evaluate': ('measure what a trained artifact does', {
        'recovery': ('accuracy over packet loss, for several methods of recovery', 'evitif_cli.evaluate_recovery'),
        'selection': ('accuracy over cost, bytes and loss of a light and a large model together', 'evitif_cli.evaluate_selection'),
        'partition': ('accuracy of a model divided among devices, with devices gone and packets lost', 'evitif_cli.evaluate_partition'),
        'heads': ('masks or depth over packet loss, for several methods of recovery', 'evitif_cli.evaluate_heads'),
        'smoothing': ("how much answers flicker on video, with and without the bridge's filter", 'evitif_cli.evaluate_smoothing'),
        'suite': ('every table and plot of docs/results/recovery.md, from the artifacts that ship', 'evitif_cli.evaluate_suite'),
        'strategies': ('put what was measured of the strategies side by side; writes what `strategy: auto` chooses by',
                       'evitif_cli.evaluate_strategies'),
    }),
    'bench': ('measure the link beside its rivals, and what the parts cost', 'evitif_cli.bench'),
    'soak': ('run a robot and a bridge over a bad link for 100,000 frames while both are restarted', 'evitif_cli.soak'),
    'fuzz': ('feed every parser and state machine with inputs that cover their code', 'evitif_cli.fuzz'),
}


def main(arguments: list[str] | None = None) -> int:
    """Run `evitif`; return the exit status: 0, 1 for a mistake that the message names, 2 for unknown arguments, 130 or 143 after an
    interruption."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = build_parser()
    said = shlex.join(['evitif', *arguments])

    def job() -> int:
        try:
            options = parser.parse_args(arguments)
            return options.run(options, said)
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] not in OF_THE_LABORATORY:
                raise
            raise ValueError(f'the Python package {error.name!r} is not here: this verb needs what requirements/laboratory.txt lists, '
                             'which `make setup` installs') from None
    return command.run('evitif', job)


def build_parser() -> VerbParser:
    """All verbs; each gets its arguments when it is used."""
    parser = VerbParser(prog='evitif', description='A large Vision Transformer for a small robot, over a bad radio link.')
    parser.add_argument('--version', action='version', version=f'evitif {__version__}')
    add_verbs(parser, VERBS)
    return parser
