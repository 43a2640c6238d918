"""The strategies side by side, from what was measured of each: `python -m evitif.evaluation.strategies`.

Reads the figures of `evitif evaluate recovery` (split) and `evitif evaluate selection` in docs/results and writes
docs/results/strategies.json and strategies.md. Nothing is measured anew but the multiply-adds of the models' blocks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from evitif.evaluation.partial import write_json
from evitif.evaluation.selection_report import codec_bytes
from evitif.evaluation.wire_bytes import answer_bytes
from evitif.model.build import ModelSpec, build_model
from evitif.model.split import SplitModel
from evitif.protocol.datagram import SEAL_BYTES

REPOSITORY = Path(__file__).resolve().parents[2]
RATES = ('0', '0.3', '0.6')


def compare(selection: dict, splits: list[dict], light: str, large: str) -> dict:
    """The rows of one pair of models.

    :param selection: what `evitif evaluate selection` wrote
    :param splits: what `evitif evaluate recovery` wrote of the large model at several cuts
    :param light, large: their model folders
    """
    whole = _multiply_adds(large, 0)
    rows = []
    for split in sorted(splits, key=lambda result: result['cut']):
        by_rate = split['top1'].get('paldn', {})
        if all(rate in by_rate for rate in RATES):
            reply = {rate: answer_bytes(selection['classes'], selection['patches'], float(rate)) for rate in RATES}
            uplink = split['bytes_per_frame'] + SEAL_BYTES * split['packets_per_frame']
            rows.append(_row(f'split at block {split["cut"]}, PALDN', whole - _multiply_adds(large, split['cut']),
                             {rate: uplink + reply[rate] for rate in RATES},
                             {rate: by_rate[rate]['mean'] - split['top1_uncut'] for rate in RATES}))
    top1 = selection['top1']['large']
    coded = selection['calibrated']['coded']
    lossy = {rate: selection['loss'].get(rate) for rate in RATES[1:]}
    rows.append(_row('selection, as calibrated', _multiply_adds(light, 0),
                     {'0': coded['bytes'], **{rate: row and row['bytes'] for rate, row in lossy.items()}},
                     {'0': coded['top1'] - top1, **{rate: row and row['top1'] - top1 for rate, row in lossy.items()}}))
    rows.append(_row('local: the light model alone', _multiply_adds(light, 0), dict.fromkeys(RATES, 0.0),
                     dict.fromkeys(RATES, selection['top1']['light'] - top1)))
    if (webp := selection['reference']['WebP']) is not None:
        rows.append(_row(f'WebP {webp["quality"]} of every image, ideal parity', 0,
                         {rate: codec_bytes(selection, rate=float(rate)) for rate in RATES}, dict.fromkeys(RATES, webp['top1'] - top1)))
    return {'light': selection['light'], 'large': selection['large'], 'top1_large': top1, 'large_multiply_adds': whole,
            'images': selection['images'], 'rows': rows}


def _row(name: str, edge: int, sizes: dict, change: dict) -> dict:
    return {'strategy': name, 'edge_multiply_adds': edge, 'bytes': sizes, 'points': {rate: value if value is None else 100 * value
                                                                                     for rate, value in change.items()}}


def _multiply_adds(folder: str, cut: int) -> int:
    """Of a model's blocks after `cut`, for one image."""
    built = build_model(ModelSpec(folder))
    return SplitModel(built.module, cut).tail_multiply_adds


def markdown(tables: list[dict]) -> str:
    lines = ['# The strategies side by side', '', 'Bytes of UDP payload for an image on average, in both directions, sealed; points of '
             'top-1 against the large model alone, of the same images; multiply-adds of the blocks that run on the robot.']
    for table in tables:
        lines += ['', f'## {table["large"]} ({table["large_multiply_adds"] / 1e6:.0f} M multiply-adds)', '',
                  '| strategy | on the robot | bytes at 0 / 30 / 60 % loss | points at 0 / 30 / 60 % loss |',
                  '| --- | ---: | ---: | ---: |']
        for row in table['rows']:
            sizes = ' / '.join('–' if row['bytes'][rate] is None else f'{row["bytes"][rate]:,.0f}' for rate in RATES)
            change = ' / '.join('–' if row['points'][rate] is None else f'{row["points"][rate]:+.2f}' for rate in RATES)
            lines.append(f'| {row["strategy"]} | {row["edge_multiply_adds"] / 1e6:.0f} M | {sizes} | {change} |')
    return '\n'.join([*lines, '', 'Made by `python -m evitif.evaluation.strategies`.', ''])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m evitif.evaluation.strategies', description=__doc__.splitlines()[0])
    parser.add_argument('--results', type=Path, default=REPOSITORY / 'docs' / 'results', help='folder with recovery/ and selection/')
    options = parser.parse_args(arguments)
    tables = []
    for path in sorted((options.results / 'selection').glob('*.json')):
        selection = json.loads(path.read_text())
        light, large = (selection['configuration'][side] for side in ('light', 'large'))
        found = (options.results / 'recovery').glob(f'{Path(large).name}-cut*-iid.json')
        splits = [json.loads(result.read_text()) for result in sorted(found)]
        if selection['configuration']['light_checkpoint'] is None:
            tables.append(compare(selection, splits, light, large))
    if not tables:
        print(f'evitif: {options.results / "selection"} holds no figures: expected those of `evitif evaluate selection`', file=sys.stderr)
        return 1
    write_json(options.results / 'strategies.json', {'tables': tables})
    (options.results / 'strategies.md').write_text(markdown(tables))
    print(markdown(tables))
    return 0


if __name__ == '__main__':
    sys.exit(main())
