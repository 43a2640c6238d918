"""`evitif replay`: play a recording through edge and bridge over a bad link, and keep what came of it as a bag and a film."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from evitif.heads import chosen_heads
from evitif.pipeline import Prediction
from evitif.recording import Recording, RecordingError
from evitif.settings import BRIDGE_SETTINGS, EDGE_SETTINGS, Setting
from evitif.settings import settings_of as declared
from evitif.transport.impairment import Impairment
from evitif_cli.link import add_impairments, impairments_of
from evitif_edge_node.annotation import annotate
from evitif_lab.commands.options import not_negative, positive, seed
from evitif_lab.commands.progress import Progress
from evitif_lab.replay.output import BAG, FILM, Output
from evitif_lab.replay.player import Played, Player

HEIGHT = 480        # of the annotated pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('recording', help='a bag, or a bag and a topic: rover.mcap:/camera/image_raw')
    parser.add_argument('--output', type=Path, default=Path('reports/replay'), help='folder of the results (default: %(default)s)')
    parser.add_argument('--model', required=True, help='a model folder, or the name of a timm model')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='a parameter of edge_node or bridge_node, such as cut=6 or accuracy_margin=0.01; may be repeated')
    parser.add_argument('--start', type=not_negative, default=0.0, metavar='S', help='seconds after the first image (default: 0)')
    parser.add_argument('--duration', type=positive, default=math.inf, metavar='S', help='seconds (default: to the end)')
    parser.add_argument('--speed', type=positive, default=1.0, help='how fast it is played (default: %(default)s)')
    parser.add_argument('--wait', action='store_true', help='let each image wait until it is known what became of the one before, on a '
                        'machine that is slower than the recording')
    parser.add_argument('--no-images', action='store_true', help='leave the images out of the bag')
    parser.add_argument('--seed', type=seed, default=0, help='of the link (default: %(default)s)')
    add_impairments(parser)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    edge, bridge = settings_of({'model': options.model, **dict(map(_pair, options.set))})
    player = Player(links={**{'uplink': Impairment(), 'downlink': Impairment()}, **impairments_of(options)},
                    start_s=options.start, duration_s=options.duration, speed=options.speed, wait=options.wait, seed=options.seed)
    with Recording.open(options.recording, say=lambda sentence: print(f'evitif: {sentence}', file=sys.stderr)) as recording:
        first, last, count = recording.extent()
        rate_hz = (count - 1) / max((last - first) / 1e9, 1e-9) if count > 1 else 10.0
        topic = '' if options.no_images else recording.topic.name
        with Output(options.output, topic, lambda prediction: annotate(prediction.image, prediction, HEIGHT), rate_hz) as output:
            played = player.play(recording, edge, bridge)
            write(output, recording, player, played, str(edge.get('heads', '')))
    tell(played.last.frames_received, [*played.predictions.values()])
    if played.last.frames_replaced:
        print(f'{played.last.frames_replaced} images were replaced by newer ones, since this machine takes longer for one than the time '
              'between two: --wait or --speed 0.5 would answer them')
    print(f'{options.output / BAG}: open it with Foxglove (foxglove/evitif.json is a layout for it), or `ros2 bag play`\n'
          f'{options.output / FILM}')
    return 0


def write(output: Output, recording: Recording, player: Player, played: Played, names: str = '') -> None:
    """Go through the recording again, and write images, answers and pictures in the order of the images.

    :param names: of the heads that answered, as the parameter has them
    :raises RecordingError: it cannot be read any more; the answers are written
    """
    statistics, heads, written = deque(played.statistics), {head.name: head for head in chosen_heads(names)}, -1
    try:
        for image in Progress(recording.images(player.start_s, player.duration_s), desc='drawing and writing', unit='image'):
            output.image(image)
            if (prediction := played.predictions.get(image.number)) is not None:
                output.prediction(replace(prediction, image=image.image), heads, played.maps.get(image.number, ()))
            while statistics and statistics[0][0] == image.number:
                output.statistics(statistics.popleft()[1], image.stamp_ns)
            written = image.number
    except RecordingError:      # it was taken away after it was played: the answers stay, without pictures
        for number in sorted(number for number in played.predictions if number > written):
            output.prediction(played.predictions[number], heads, played.maps.get(number, ()))
        raise


def settings_of(given: dict[str, str]) -> tuple[dict[str, object], dict[str, object]]:
    """The parameters of each side. Raises ValueError for one that neither has, or whose value is none."""
    strategy = given.get('strategy', 'split')
    if strategy not in EDGE_SETTINGS:
        raise ValueError(f'strategy is {strategy!r}: expected one of {", ".join(EDGE_SETTINGS)}')
    sides = EDGE_SETTINGS[strategy], BRIDGE_SETTINGS[strategy]
    known = [{each.name: each for each in declared(side)} for side in sides]
    for name in given:
        if name != 'strategy' and not any(name in side for side in known):
            raise ValueError(f'--set {name}: neither edge_node nor bridge_node has that parameter with strategy {strategy}; '
                             'docs/nodes.md has those that there are')
    edge, bridge = ({name: _value(side[name], text) for name, text in given.items()
                     if name in side} for side in known)
    return edge | {'strategy': strategy}, bridge | {'strategy': strategy}


def _value(setting: Setting, text: str) -> object:
    try:
        value = {'true': True, 'false': False}[text.lower()] if setting.type is bool else setting.type(text)
    except (ValueError, KeyError):
        raise ValueError(f'--set {setting.name}={text}: expected {setting.expectation()}') from None
    return setting.field_value(value)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition('=')
    if not separator:
        raise ValueError(f'--set {text}: expected NAME=VALUE')
    return name.strip(), value.strip()


def tell(images: int, answers: list[Prediction]) -> None:
    """Print how it went."""
    how = Counter(str(answer.how) for answer in answers)
    totals = np.array([answer.stages.total for answer in answers if math.isfinite(answer.stages.total)])
    lost = sum(answer.tokens_sent - answer.tokens_received for answer in answers)
    sent = sum(answer.tokens_sent for answer in answers)
    ways = ', '.join(f'{count} {name}' for name, count in how.items())
    print(f'{len(answers)} of {images} images answered' + (f' ({ways})' if how else ''))
    if len(totals):
        print(f'image to answer: {1e3 * np.median(totals):.1f} ms (median), {1e3 * np.quantile(totals, 0.99):.1f} ms (99 %)')
    if sent:
        print(f'{100 * lost / sent:.1f} % of the tokens did not arrive; '
              f'{np.mean([answer.uplink_bytes for answer in answers]):.0f} bytes a frame')
