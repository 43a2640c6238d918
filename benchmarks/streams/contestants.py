"""Who is compared on video. A further way to send a clip is one more entry here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from benchmarks.streams.codecs import Parity, Still, Video, last_answer
from benchmarks.streams.contestant import Contestant
from benchmarks.streams.evitif_split import Split
from benchmarks.streams.h264 import INTRA, Coding, av
from evitif.vocabulary import Strategy

NOTHING = 'the answer of the frame before'
EVITIF, EVITIF_OMISSION, EVITIF_CODED = 'evitif, PALDN', 'evitif, omission', 'evitif, entropy-coded'
EVITIF_SELECTION = 'evitif selection'         # a robot without a model
CHROMAS = {420: 'H.264 4:2:0', 444: 'H.264 4:4:4'}
PARITIES: dict[str, Parity | None] = {
    'ideal parity': Parity(), 'ideal parity, small datagrams': Parity(small=True),
    'adaptive parity': Parity(adaptive=True, small=True), 'no parity': None}
KEYS = {30: 'key frame every 30', 10: 'key frame every 10', INTRA: 'key frames alone'}
IDEAL_CRF, QUICK_IDEAL_CRF = (16, 24, 20, 12, 8, 30, 4), (12, 24)
OTHER_CRF, QUICK_OTHER_CRF = (24, 16), (24,)        # where each loss makes other pictures, which takes long
STILLS = {'WEBP': 'WebP', 'JPEG': 'JPEG'}
QUALITIES, QUICK_QUALITIES = (90, 80, 95, 50, 98), (80,)
BUDGETS, QUICK_BUDGETS = (8000, 16000, math.inf, 4000, 32000), (math.inf, 8000)      # bytes of a frame
MARGINS, QUICK_MARGINS = (0.002, 0.01, 0.02, 0.005, 0.04), (0.01,)       # of entropy-coded frames, in reference to acknowledged ones
FIXED, QUICK_FIXED = ('klt2', 'int4', 'klt1', 'int8'), ('klt2',)


def contestants(quick: bool) -> Iterator[Contestant]:
    """All of them, those first whose figures are asked for most."""
    yield Contestant(NOTHING, '', '', last_answer)
    usual, *others = KEYS
    yield from videos(quick, (usual,), ideal=True)
    yield from stills(quick, ('WEBP',), ideal=True)
    yield from evitif(quick)
    yield from videos(quick, (usual,), ideal=False)
    if not quick:
        yield from videos(quick, others, ideal=True)
        yield from stills(quick, ('WEBP',), ideal=False)
        yield from videos(quick, others, ideal=False)
    yield from stills(quick, ('JPEG',), ideal=True)
    yield from stills(quick, ('JPEG',), ideal=False)


def parities_of(ideal: bool) -> list[tuple[str, Parity | None]]:
    """The protection that nobody can have, or what a robot can."""
    return [(name, parity) for name, parity in PARITIES.items() if name.startswith('ideal') == ideal]


def videos(quick: bool, intervals: Iterable[int], ideal: bool) -> Iterator[Contestant]:
    """H.264, where PyAV is there."""
    rates = (QUICK_IDEAL_CRF if ideal else QUICK_OTHER_CRF) if quick else IDEAL_CRF if ideal else OTHER_CRF
    for interval, crf, (chroma, title), (name, parity) in itertools.product(
            intervals if av is not None else (), rates, CHROMAS.items(), parities_of(ideal)):
        yield Contestant(f'{title}, {name}', KEYS[interval], f'CRF {crf}', Video(Coding(chroma, crf, interval), parity))


def stills(quick: bool, codecs: Iterable[str], ideal: bool) -> Iterator[Contestant]:
    """Each frame a picture of its own."""
    for codec, quality, (name, parity) in itertools.product(codecs, QUICK_QUALITIES if quick else QUALITIES, parities_of(ideal)):
        if parity is not None:
            yield Contestant(f'{STILLS[codec]}, {name}', '', f'quality {quality}', Still(codec, quality, parity))


def evitif(quick: bool) -> Iterator[Contestant]:
    """What ships: how a frame travels as the edge chooses within so many bytes, and fixed ones, each token once."""
    for most in QUICK_BUDGETS if quick else BUDGETS:
        title = 'any' if math.isinf(most) else f'at most {most:,} bytes'
        yield Contestant(EVITIF_CODED, 'within so many bytes', title, Split({}, {}, most))
    for margin in QUICK_MARGINS if quick else MARGINS:
        yield Contestant(EVITIF_CODED, 'in reference to what was answered', f'accuracy margin {margin:g}',
                         Split({'accuracy_margin': margin}, {}))
    selection = {'strategy': Strategy.SELECTION}
    for margin in QUICK_MARGINS if quick else MARGINS:
        yield Contestant(EVITIF_SELECTION, 'patches that moved', f'accuracy margin {margin:g}',
                         Split({**selection, 'accuracy_margin': margin}, selection))
    for kind in QUICK_FIXED if quick else FIXED:
        for family, recovery in ((EVITIF, 'auto'), (EVITIF_OMISSION, 'omission')):
            yield Contestant(family, 'each token once', kind, Split({'quantisation': kind, 'patch_copies': 1},
                                                                  {'quantisation': kind, 'recovery': recovery}))
