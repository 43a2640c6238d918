"""The messages' constants are the vocabulary's words: those that a subscriber compares with, all of them and no other."""

import re
from pathlib import Path

import pytest

from evitif.message_fields import Patch
from evitif.vocabulary import How, LinkState, RecoveryName, SendingState, Strategy

MESSAGES = Path(__file__).parents[2] / 'evitif_msgs' / 'msg'


@pytest.mark.parametrize(('message', 'prefix', 'words'), [
    ('Prediction', 'STRATEGY', Strategy), ('Prediction', 'HOW', How), ('Prediction', 'RECOVERY', RecoveryName),
    ('LinkStats', 'STATE', LinkState), ('LinkStats', 'SENDING', SendingState)])
def test_the_constants_are_the_words(message, prefix, words):
    constants = dict(re.findall(rf'^string {prefix}_(\w+)="([^"]*)"', (MESSAGES / f'{message}.msg').read_text(), re.MULTILINE))
    assert constants == {word.name: word.value for word in words}


def test_the_constants_of_patches_are_those_of_the_library():
    constants = dict(re.findall(r'^uint8 PATCH_(\w+)=(\d+)', (MESSAGES / 'Prediction.msg').read_text(), re.MULTILINE))
    assert constants == {patch.name: str(patch.value) for patch in Patch}
