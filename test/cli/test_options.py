"""Every numeric option of every command refuses what is no number, not finite or negative in one sentence, before anything is read."""

import argparse

import pytest

from evitif_cli.main import build_parser

NEGATIVE_MEANT = {'--held-out'}       # of `evitif train partition`, which says itself what it expects


def leaves(parser):
    parser.fill()
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for one in action.choices.values():
            yield from leaves(one)


def numeric_options(parser):
    """The options of a parser whose type makes a number of one of a few texts."""
    for action in parser._actions:
        for text in ('1', '0.5', '2', '20'):
            try:
                value = action.type(text) if action.type else text
            except (argparse.ArgumentTypeError, TypeError, ValueError, OSError):
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield action
                break


def check(parser):
    found = 0
    for leaf in leaves(parser):
        for action in numeric_options(leaf):
            found += 1
            name = action.option_strings[-1] if action.option_strings else action.dest
            for text in ('nan', 'inf', '-inf', '1e999', 'abc', '', '-1', '-0.5'):
                if text.startswith('-') and name in NEGATIVE_MEANT:
                    continue
                with pytest.raises(argparse.ArgumentError) as refused:
                    leaf._get_value(action, text)
                told = str(refused.value)
                assert repr(text) in told and '\n' not in told and len(told) < 250, (leaf.prog, name, told)
    return found


def test_the_options_of_evitif():
    assert check(build_parser()) > 100


def test_a_number_that_is_too_large_is_told_what_is_expected(capsys):
    with pytest.raises(SystemExit) as refused:
        build_parser().parse_args(['train', 'model', '--data', 'd', '--output', 'o', '--learning-rate', '1e30'])
    assert refused.value.code == 2
    assert "'1e30' is not a finite number of more than 0 and at most 1e+12" in capsys.readouterr().err
