"""What evitif is meant to reach on video, and whether it does: bytes at a cost, alone and beside H.264, and what bursts and drift leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.part import target
from benchmarks.streams.cells import Cells, chosen, distinct, front, least_bytes
from benchmarks.streams.contestants import CHROMAS, NOTHING

EVITIF = 'evitif'                   # what the families of it begin with
COSTS = (0.03, 0.01)
# Most bytes of a frame for each cost.
ALONE = {'0 %': (3500, 6000), '30 %': (5000, 9000), '60 %': (7500, 13000)}
# Most of the bytes of H.264 with ideal parity, by chroma.
BESIDE = {'0 %': {420: 1.0, 444: 1.5}, '5 %': {420: 1.0, 444: 1.0}, '10 %': {420: 1.0, 444: 1.0}, '30 %': {420: 0.5, 444: 0.5},
          '60 %': {420: 0.5, 444: 0.5}}
PARITIES = ('ideal parity', 'ideal parity, small datagrams')
ANSWERED = 0.999


def targets_of(cells: Cells) -> list[dict]:
    """Each target with what was measured, on all clips together; those of which nothing was measured are left out."""
    found = [*_alone(cells), *_beside(cells), *_bursts(cells), *_drifts(cells)]
    return [entry for entry in found if entry is not None]


def _own(cells: Cells) -> Cells:
    return [cell for cell in cells if cell['family'].startswith(EVITIF)]


def _alone(cells: Cells) -> list[dict | None]:
    found: list[dict | None] = []
    for link, most in ALONE.items():
        own = {clip: _own(chosen(cells, clip=clip, link=link)) for clip in distinct(cells, 'clip')}
        for cost, limit in zip(COSTS, most, strict=True):
            sizes = {clip: _least_of_families(of_clip, cost) for clip, of_clip in own.items() if of_clip}
            holds = all(size is not None and size <= limit for size in sizes.values())
            found.append(sizes and target(f'cost of at most {cost:g}, {link} loss', f'at most {limit:,} bytes a frame',
                                          _listed(sizes, _bytes), holds) or None)
    return found


def _least_of_families(cells: Cells, cost: float) -> float | None:
    found = [size for family in distinct(cells, 'family') if (size := least_bytes(chosen(cells, family=family), cost)) is not None]
    return min(found) if found else None


def _beside(cells: Cells) -> list[dict | None]:
    """The share of H.264's bytes at each cost that it reaches; where evitif does not get there, the target is missed."""
    found: list[dict | None] = []
    for parity in PARITIES:
        for link, shares in BESIDE.items():
            for chroma, most in shares.items():
                ratios: dict[str, float | None] = {}
                for clip in distinct(cells, 'clip'):
                    on_link = chosen(cells, clip=clip, link=link)
                    for cost in COSTS:
                        rival = least_bytes(chosen(on_link, family=f'{CHROMAS[chroma]}, {parity}'), cost)
                        if rival is not None and _own(on_link):
                            own = _least_of_families(_own(on_link), cost)
                            ratios[f'{clip} {cost:g}'] = None if own is None else own / rival
                holds = all(ratio is not None and ratio <= most for ratio in ratios.values())
                found.append(ratios and target(f'beside {CHROMAS[chroma]}, {parity}, {link} loss',
                                               f'at most {most:g} times its bytes at equal cost', _listed(ratios, _times), holds) or None)
    return found


def _bursts(cells: Cells) -> list[dict | None]:
    found: list[dict | None] = []
    for link in distinct(cells, 'link'):
        if 'bursts' in link:
            best, limits = {}, {}
            for clip in distinct(cells, 'clip'):
                on_link = chosen(cells, clip=clip, link=link)
                nothing = chosen(on_link, family=NOTHING)
                if _own(on_link) and nothing:
                    best[clip], limits[clip] = min(_own(on_link), key=lambda cell: (-cell['answered'], cell['cost'])), nothing[0]['cost']
            found.append(best and target(
                f'answered in time, {link}', f'at least {100 * ANSWERED:g} %, at a cost of at most that of the frame before',
                _listed(best, lambda cell: f'{100 * cell["answered"]:.1f} %, {cell["cost"]:.3f}'),
                all(cell['answered'] >= ANSWERED and cell['cost'] <= limits[clip] for clip, cell in best.items())) or None)
    return found


def _drifts(cells: Cells) -> list[dict | None]:
    """Whether evitif has something of less cost in the same bytes for every setting of H.264 with adaptive parity."""
    found: list[dict | None] = []
    for link in distinct(cells, 'link'):
        if link.startswith('drift'):
            beaten: dict[str, str] = {}
            holds = True
            for clip in distinct(cells, 'clip'):
                on_link = chosen(cells, clip=clip, link=link)
                own = front(_own(on_link))
                rivals = [cell for title in CHROMAS.values() for cell in chosen(on_link, family=f'{title}, adaptive parity')]
                if own and rivals:
                    wins = sum(any(size <= rival['bytes'] and cost < rival['cost'] for size, cost in own) for rival in rivals)
                    beaten[clip] = f'{wins} of {len(rivals)} settings'
                    holds &= wins == len(rivals)
            found.append(beaten and target(f'beside H.264, adaptive parity, {link}', 'less cost in the same bytes, at every setting',
                                           _listed(beaten, str), holds) or None)
    return found


def _listed(values: dict, text: Callable[[Any], str]) -> str:
    return ', '.join(f'{name}: {text(value)}' for name, value in values.items())


def _bytes(size: float | None) -> str:
    return 'not reached' if size is None else f'{size:,.0f}'


def _times(ratio: float | None) -> str:
    return 'not reached' if ratio is None else f'{ratio:.2f} times'
