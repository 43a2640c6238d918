"""What fuzzing has found stays found: every input that is kept, and some thousands more, pass through every target."""

import random
import time

import pytest

from fuzz import corpus
from fuzz.run import NAMES, seconds_of
from fuzz.seeds import genuine
from fuzz.targets import TARGETS

SECONDS = 0.2            # of mutated inputs for each target


def test_every_target_is_fuzzed():
    assert sorted(TARGETS) == sorted(NAMES)


def test_the_targets_share_the_time():
    assert 800 < sum(seconds_of(name, 15) for name in NAMES) <= 900 and seconds_of('sealed-two-robots', 15) > 3 * seconds_of('seal', 15)


@pytest.mark.parametrize('name', NAMES)
def test_kept_inputs_pass(name):
    for data in [*corpus.read(name), *genuine(name), b'']:
        TARGETS[name](data)


@pytest.mark.parametrize('name', NAMES)
def test_changed_inputs_pass(name):
    draw = random.Random(name)
    kept = [*corpus.read(name), *genuine(name), bytes(64)]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = bytearray(draw.choice(kept) + draw.randbytes(draw.randrange(16)))
        for _ in range(draw.randrange(6)):
            data[draw.randrange(len(data))] = draw.randrange(256) if data else 0
        TARGETS[name](bytes(data[draw.randrange(4):]))


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in corpus.FOLDER.glob('*.txt')) < 300_000
