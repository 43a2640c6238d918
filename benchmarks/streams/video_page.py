"""The page of the video contestants, in Markdown."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plots import lines
from benchmarks.streams.cells import Cells, chosen, distinct, front, least_bytes, within
from benchmarks.streams.contestants import EVITIF, EVITIF_CODED, NOTHING
from benchmarks.streams.traces import LINKS

COSTS = (0.06, 0.03, 0.01)
SUMMARY_COSTS = (0.03, 0.01)
SUMMARY_LINKS = ('0 %', '5 %', '10 %', '30 %', '60 %')
IDEAL, OWN = 'ideal parity', (EVITIF_CODED, EVITIF)         # the families on the page of the whole
ROOM = 8000                     # bytes of a frame
NEVER, UNKNOWN = '–', ''
PLOTTED = ('0 %', '5 %', '30 %', '60 %', '20 % in bursts of 8', 'drift, 0 to 60 % and back in 6 s')


def table(cells: Cells, links: list[str], families: list[str], cost: float) -> list[str]:
    """Least bytes by family and link for a cost."""
    rows = [f'| bytes for a cost of at most {cost:g} | ' + ' | '.join(links) + ' |', '| --- |' + ' ---: |' * len(links)]
    for family in families:
        of = {link: chosen(cells, family=family, link=link) for link in links}
        if any(of.values()):
            sizes = [_size(least_bytes(found, cost)) if found else UNKNOWN for found in of.values()]
            rows.append(f'| {family} | {" | ".join(sizes)} |')
    return rows


def summary(result: dict) -> str:
    """The fewest bytes for a cost, by clip."""
    cells, figures = result['figures']['cells'], result['figures']
    text = ['Bytes on the wire for a frame, IP headers included, at which the answers cost so much. *Cost*: the probability that the uncut '
            "model gives to its own answer, less that of the answer that was given, on the frame as it was, on average over all frames. –: "
            'no setting gets there.' + _measured(result)]
    for clip in distinct(cells, 'clip'):
        of_clip = chosen(cells, clip=clip)
        links = [link for link in SUMMARY_LINKS if link in distinct(of_clip, 'link')]
        families = sorted((family for family in distinct(of_clip, 'family') if family in OWN or IDEAL in family),
                          key=lambda family: (*OWN, family).index(family))
        about = figures['clips'][clip]
        text += ['', f'{clip}, {about["frames"]} frames at {about["rate_hz"]:g} Hz:']
        for cost in SUMMARY_COSTS:
            text += ['', *table(of_clip, links, families, cost)]
    return '\n'.join(text)


def section(result: dict, images: Path) -> str:
    """Its page: bytes at a cost, cost within a budget, and curves."""
    cells, figures = result['figures']['cells'], result['figures']
    deadline = f'{1e3 * result["deadline_s"]:g} ms'
    text = ['Each contestant sends the same frames over the same losses; encoder, decoder and memory run through the clip. An answer '
            f'counts if it is on the robot within {deadline}; else the last one stands. Intervals are 95 %, over seeds and blocks of '
            f'{result["block"]} frames, since neighbouring frames are alike. Bytes are of the IP packets of the uplink. Between two '
            'settings of one variant the bytes are interpolated. A family with several variants is shown by its best, picked afterwards, '
            'which favours it: the codecs most.' + _measured(result) + (f' {result["remark"]}' if 'remark' in result else '')]
    for number, clip in enumerate(distinct(cells, 'clip')):
        of_clip = chosen(cells, clip=clip)
        about = figures['clips'][clip]
        text += ['', f'### {clip}', '', f'{about["frames"]} frames at {about["rate_hz"]:g} Hz, {about["model"]}, cut after block '
                 f'{about["cut"]} ({about["data"]}). {_nothing(of_clip)}']
        links = sorted(distinct(of_clip, 'link'), key=[link.name for link in LINKS].index)
        families = [family for family in distinct(of_clip, 'family') if family != NOTHING]
        for cost in COSTS:
            text += ['', *table(of_clip, links, families, cost)]
        text += ['', f'Within {ROOM:,} bytes a frame, the setting of least cost: cost (95 %), share of answers that are the uncut '
                 'model\'s, share answered in time (of which with the last answer again).', '',
                 '| | ' + ' | '.join(links) + ' |', '| --- |' + ' ---: |' * len(links)]
        for family in families:
            best = [within(chosen(of_clip, family=family, link=link), ROOM) for link in links]
            if any(best):
                text.append(f'| {family} | ' + ' | '.join(UNKNOWN if cell is None else _cell(cell) for cell in best) + ' |')
        for link in PLOTTED:
            on_link = chosen(of_clip, link=link)
            series = {family: front(chosen(on_link, family=family)) for family in families}
            series = {family: points for family, points in series.items() if points}
            file = f'bench-video-{number}-{PLOTTED.index(link)}.png'
            if len(series) > 1 and lines(images / file, series, x='bytes of a frame on the wire', y='cost', logarithmic_x=True,
                                         title=f'{clip}, {link}', bold=(EVITIF_CODED,)):
                text += ['', f'![cost over bytes on {clip}, {link}]({{images}}/{file})']
    for name, reason in result['left_out'].items():
        text += ['', f'{name} was left out: {reason}.']
    return '\n'.join(text)


def _size(size: float | None) -> str:
    return NEVER if size is None else f'{size:,.0f}'


def _cell(cell: dict) -> str:
    low, high = cell['cost_interval95']
    again = f' ({100 * cell["repeated"]:.1f} %)' if cell.get('repeated') else ''
    return f'{cell["cost"]:.3f} ({low:.3f} to {high:.3f}), {100 * cell["agreement"]:.0f} %, {100 * cell["answered"]:.1f} %{again}'


def _nothing(cells: Cells) -> str:
    found = chosen(cells, family=NOTHING)
    return f'The answer of the frame before costs {found[0]["cost"]:.3f}.' if found else ''


def _measured(result: dict) -> str:
    measured = result['measured']
    if measured['runs'] == measured['of']:
        return ''
    return (f' **Only a part was measured so far: {measured["runs"]:,} of {measured["of"]:,} runs**. An empty cell was not, and – says '
            'that none of the settings so far gets there.')
