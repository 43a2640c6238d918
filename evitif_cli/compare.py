"""`evitif compare`: which way of sending is best for this recording, this model and this link."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from dataclasses import asdict
from pathlib import Path

from evitif import __version__
from evitif.files import write_json
from evitif.recording import Recording
from evitif.transport.impairment import Impairment
from evitif_lab.advice import report
from evitif_lab.advice.advice import SEEDS, compare, recommend
from evitif_lab.advice.rival_ways import Video
from evitif_lab.advice.scene import LEAD, RUN, Scene
from evitif_lab.advice.timeline import Path as Link
from evitif_lab.advice.ways import ways_of
from evitif_lab.commands.options import not_negative, positive, rate_below_one, real, whole
from evitif_lab.evaluation.partial import PartialResult

FRAMES = 180


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('recording', help='a bag, or a bag and a topic: rover.mcap:/camera/image_raw')
    parser.add_argument('--model', required=True, help='a model folder, or the name of a timm model')
    parser.add_argument('--checkpoint', help='file with the weights of a timm model')
    parser.add_argument('--pretrained', action='store_true', help="take the weights of a timm model from timm's hub")
    parser.add_argument('--cut', type=whole(), help='the block after which the model is cut (default: all that have an entropy code)')
    link = parser.add_argument_group('the link')
    link.add_argument('--loss', type=rate_below_one, default=0.0, help='packet error rate of both directions (default: %(default)s)')
    link.add_argument('--burst', type=real(1), default=1.0, help='packets lost in a row on average (default: %(default)s: independent)')
    link.add_argument('--delay', type=not_negative, default=0.0, metavar='S', help='one way (default: %(default)s)')
    link.add_argument('--rate', type=not_negative, default=0.0, metavar='MBIT', help='of the uplink, in Mbit/s (default: unlimited)')
    link.add_argument('--trace', metavar='FILE', help='of a link, played again and again: losses and delays as a robot or bridge wrote '
                      "them (`trace_folder`), or rates in Mahimahi's format")
    link.add_argument('--downlink-trace', metavar='FILE', help='of the way back (default: the same)')
    parser.add_argument('--light-model', default='', metavar='FOLDER', help='of strategy selection (default: MODEL_light, if there is one)')
    parser.add_argument('--deadline', type=positive, default=0.2, metavar='S', help='from image to answer (default: %(default)s)')
    parser.add_argument('--robot-slower', type=positive, default=1.0, metavar='N',
                        help='how many times slower than this machine the robot computes (default: %(default)s)')
    parser.add_argument('--start', type=not_negative, default=0.0, metavar='S', help='seconds after the first image (default: 0)')
    parser.add_argument('--duration', type=positive, default=math.inf, metavar='S', help='seconds (default: to the end)')
    parser.add_argument('--frames', type=whole(2), default=FRAMES,
                        help=f'images to judge by, in runs of at most {RUN} that follow one another (default: %(default)s)')
    parser.add_argument('--only', action='append', metavar='TEXT', help='only ways whose name has this in it; may be repeated')
    parser.add_argument('--output', type=Path, default=Path('reports/compare'), help='folder of the report (default: %(default)s)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    def say(sentence: str) -> None:
        print(f'evitif: {sentence}', file=sys.stderr, flush=True)
    try:
        both = {'loss': options.loss, 'burst_length': options.burst, 'delay_s': options.delay}
        uplink = Impairment(**both, rate_bit_s=1e6 * options.rate, trace=options.trace or '')
        impairment = Impairment(**both, trace=options.downlink_trace or options.trace or '')
    except ValueError as error:
        raise ValueError(f'the link cannot be so: {error}') from None
    model = {name: value for name, value in (('model', options.model), ('checkpoint', options.checkpoint), ('cut', options.cut),
                                             ('pretrained', options.pretrained)) if value}
    with Recording.open(options.recording, say=say) as recording:
        scene = Scene(recording, model, options.frames, options.start, options.duration)
        name = recording.name
    pictures = hashlib.sha256(b''.join(frame.seen.tobytes() for frame in scene.frames)).hexdigest()
    path = Link(uplink, impairment)
    identity = {'version': __version__, 'pictures': pictures, 'model': scene.model.parameters.fingerprint, 'link': asdict(path),
                'traces': [hashlib.sha256(Path(each.trace).expanduser().read_bytes()).hexdigest() if each.trace else '' for each in
                           (uplink, impairment)],
                'deadline_s': options.deadline, 'slower': options.robot_slower, 'seeds': list(SEEDS)}
    options.output.mkdir(parents=True, exist_ok=True)
    partial = PartialResult(options.output / 'compare.json', identity)
    state = partial.load() or {}
    ways = [way for way in ways_of(model, options.robot_slower, options.deadline, options.light_model)
            if not options.only or any(text in way.title for text in options.only)]
    if not ways:
        raise ValueError(f'--only {options.only[0]}: no way of sending has that in its name')
    findings = compare(ways, scene, path, options.deadline, dict(state.get('ways', {})),
                       lambda known: partial.save({'next': len(known), 'ways': known}), say)
    advice = recommend(findings, options.deadline)
    about = sentences(scene, options, name)
    write_json(options.output / 'compare.json', {'identity': identity, 'advice': advice, 'ways': [asdict(each) for each in findings],
                                                 'about': about, 'command': command})
    partial.remove()
    print(report.markdown(findings) + f'\n{advice}\n')
    for written in report.write(options.output, f'Ways to send {name}', findings, advice, about):
        print(written)
    return 0


def sentences(scene: Scene, options: argparse.Namespace, name: str) -> list[str]:
    """What the figures are of."""
    runs = 'one run' if len(scene.runs) == 1 else f'{len(scene.runs)} runs'
    link = f'{100 * options.loss:g} % of the packets lost' + (f' in bursts of {options.burst:g}' if options.burst > 1 else '')
    rate = f', an uplink of {options.rate:g} Mbit/s' if options.rate else ''
    rate += f'; the trace {options.trace}' if options.trace else ''
    lines = [f'{len(scene.frames)} images of {name}, {runs} at {scene.rate_hz:.1f} Hz, {len(SEEDS)} seeds; '
             f'{link}, '
             f'{1e3 * options.delay:g} ms one way{rate}. Right is the answer that the uncut model gives to the same image; what is '
             f'not answered within {1e3 * options.deadline:g} ms counts as wrong. ± is half of a 95 % interval over runs and seeds.',
             'The link and the time on it are simulated, with the code that runs on robots. Computing was measured on this machine'
             + (f', and the robot is taken to be {options.robot_slower:g} times slower.' if options.robot_slower != 1 else '.'),
             f'The first {LEAD} frames of a run are sent and not judged. evitif is sealed, its 16 bytes a packet included.',
             "In the rivals' favour: their packets are not sealed, leave at once and know no congestion window, and the receiver knows at "
             'once which are missing. JPEG goes to the whole model off-board, as H.264 does.']
    if not Video.possible():
        lines.append('H.264 is left out: PyAV is not installed (requirements/video.txt).')
    return lines
