"""The strategies side by side, from what was measured of each: `evitif evaluate strategies`.

Reads the figures of `evitif evaluate recovery` (split), `evitif evaluate selection` and `evitif evaluate partition` in
docs/results and writes docs/results/strategies.json and strategies.md, and into each large model's folder the table that
`strategy: auto` chooses by. Nothing is measured anew but the multiply-adds of the models' blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evitif.files import read_json, write_json, write_text
from evitif.model.build import ModelSpec, build_model
from evitif.model.folder import find_model_folder
from evitif.model.split import SplitModel
from evitif.pipeline.strategy_table import FILE, Measured, save_table
from evitif.protocol.wire.datagram import SEAL_BYTES
from evitif_lab.evaluation.selection_report import codec_bytes
from evitif_lab.multiply_adds import tail_multiply_adds
from evitif_lab.trials.wire_bytes import answer_bytes
from evitif_lab.writable import require_writable

RESULTS = Path(__file__).resolve().parents[2] / 'docs' / 'results'
RATES = ('0', '0.3', '0.6')
COMMAND = 'evitif evaluate strategies'


def compare(selection: dict, splits: list[dict], light: str, large: str, partitions: Sequence[dict] = ()) -> dict:
    """The rows of one pair of models.

    :param selection: what `evitif evaluate selection` wrote
    :param splits: what `evitif evaluate recovery` wrote of the large model at several cuts
    :param light, large: their model folders
    :param partitions: the entries of `evitif evaluate partition` that are of the large model
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
                             {rate: by_rate[rate]['mean'] - split['top1_uncut'] for rate in RATES},
                             strategy='split', cut=split['cut']))
    top1 = selection['top1']['large']
    coded = selection['calibrated']['coded']
    lossy = {rate: selection['loss'].get(rate) for rate in RATES[1:]}
    rows.append(_row('selection, as calibrated', _multiply_adds(light, 0),
                     {'0': coded['bytes'], **{rate: row and row['bytes'] for rate, row in lossy.items()}},
                     {'0': coded['top1'] - top1, **{rate: row and row['top1'] - top1 for rate, row in lossy.items()}},
                     strategy='selection', light_model=light))
    rows.append(_row('local: the light model alone', _multiply_adds(light, 0), dict.fromkeys(RATES, 0.0),
                     dict.fromkeys(RATES, selection['top1']['light'] - top1)))
    rows += [_partition(entry, selection) for entry in sorted(partitions, key=lambda entry: (entry['devices'], entry['reduction']))]
    if (webp := selection['reference']['WebP']) is not None:
        rows.append(_row(f'WebP {webp["quality"]} of every image, ideal parity', 0,
                         {rate: codec_bytes(selection, rate=float(rate)) for rate in RATES}, dict.fromkeys(RATES, webp['top1'] - top1)))
    return {'light': selection['light'], 'large': selection['large'], 'top1_large': top1, 'large_multiply_adds': whole,
            'images': selection['images'], 'rows': rows}


def _row(name: str, edge: int, sizes: dict, change: dict, **choice: str | int) -> dict:
    """`choice`: what `strategy: auto` sets to have this row; nothing where one robot alone cannot choose it."""
    return {'strategy': name, 'edge_multiply_adds': edge, 'bytes': sizes, 'points': {rate: value if value is None else 100 * value
                                                                                     for rate, value in change.items()},
            'choice': choice}


def _partition(entry: dict, selection: dict) -> dict:
    """A partition's row: each device's multiply-adds and, of all devices together, the bytes of a frame."""
    sent = {rate: size + SEAL_BYTES * entry['devices'] * entry['copies'][rate] for rate, size in entry['bytes_per_frame'].items()}
    reply = {rate: entry['devices'] * answer_bytes(selection['classes'], entry['devices'], float(rate)) for rate in RATES}
    lossy = {rate: entry['packet_loss'].get(rate) for rate in RATES[1:]}
    name = 'partition, one device' if entry['devices'] == 1 else f'partition among {entry["devices"]} devices'
    name += f', {entry["reduction"]:.1f}× smaller' + (', each class on two' if entry['redundancy'] > 1 else '') \
        + (', random subsets' if entry['subsets'] == 'random' else '')
    return _row(name, entry['multiply_adds_largest'], {rate: sent[rate] + reply[rate] if rate in sent else None for rate in RATES},
                {'0': entry['top1'] - entry['top1_original'],
                 **{rate: row and row['top1'] - entry['top1_original'] for rate, row in lossy.items()}})


def choices(table: dict) -> list[Measured]:
    """The rows that `strategy: auto` chooses from: those of one robot, measured at every loss."""
    return [Measured(row['choice']['strategy'], row['choice'].get('cut'), row['choice'].get('light_model'), row['edge_multiply_adds'],
                     *({float(rate): round(row[name][rate], 4) for rate in RATES} for name in ('bytes', 'points')))
            for row in table['rows'] if row['choice'] and all(row['bytes'][rate] is not None for rate in RATES)]


def _multiply_adds(folder: str, cut: int) -> int:
    """Of a model's blocks after `cut`, for one image."""
    built = build_model(ModelSpec(folder))
    return tail_multiply_adds(SplitModel(built.module, cut))


def markdown(tables: list[dict]) -> str:
    """All tables as a page."""
    lines = ['# The strategies side by side', '', '*Bytes*: UDP payload for an image on average, in both directions, sealed; for a '
             'partition of all devices together. *Points*: top-1 against the large model alone, on the same images. *On the robot*: '
             'multiply-adds of the blocks that run there; for a partition on one device.']
    for table in tables:
        lines += ['', f'## {table["large"]} ({table["large_multiply_adds"] / 1e6:.0f} M multiply-adds)', '',
                  '| strategy | on the robot | bytes at 0 / 30 / 60 % loss | points at 0 / 30 / 60 % loss |',
                  '| --- | ---: | ---: | ---: |']
        for row in table['rows']:
            sizes = ' / '.join('–' if row['bytes'][rate] is None else f'{row["bytes"][rate]:,.0f}' for rate in RATES)
            change = ' / '.join('–' if row['points'][rate] is None else f'{row["points"][rate]:+.2f}' for rate in RATES)
            lines.append(f'| {row["strategy"]} | {row["edge_multiply_adds"] / 1e6:.0f} M | {sizes} | {change} |')
    return '\n'.join([*lines, '', f'Made by `{COMMAND}`.', ''])


def compare_all(results: Path) -> str:
    """Put side by side what lies in the folder `results` (recovery/, selection/, partition.json); write strategies.json and
    strategies.md there and the tables of `strategy: auto`. Returns the Markdown.

    :raises ValueError: nothing was measured
    """
    require_writable(results)
    partitions = results / 'partition.json'
    entries = read_json(partitions)['entries'] if partitions.is_file() else []
    tables = []
    for path in sorted((results / 'selection').glob('*.json')):
        selection = read_json(path)
        if selection['configuration']['light_checkpoint'] is None:
            light, large = (selection['configuration'][side] for side in ('light', 'large'))
            splits = [read_json(split) for split in sorted((results / 'recovery').glob(f'{Path(large).name}-cut*-iid.json'))]
            tables.append(compare(selection, splits, light, large, [entry for entry in entries if entry['model'] == Path(large).name]))
            if (folder := find_model_folder(large)) is not None and (found := choices(tables[-1])):
                save_table(folder, Path(large).name, found, COMMAND)
                print(f'strategy auto chooses by {large}/{FILE}')
    if not tables:
        raise ValueError(f'{results / "selection"} holds no figures: expected those of `evitif evaluate selection`')
    write_json(results / 'strategies.json', {'tables': tables})
    write_text(results / 'strategies.md', markdown(tables))
    return markdown(tables)
