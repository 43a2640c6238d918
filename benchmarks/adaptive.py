"""The adaptive sender against every fixed setting, over links whose loss, bursts and rate change.

Edge and bridge run as they are, in simulated time, over `evitif.transport.impairment`; the tokens are those of validation images,
and what arrives is recovered and judged by the tail. A frame without an answer by the deadline counts as wrong. All senders pace
and follow the same congestion control; a fixed one sends each frame in one quantisation and number of copies.

    python -m benchmarks.adaptive                 # writes reports/bench/adaptive.json, .md and .png
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from tqdm import tqdm

from evitif.datasets import open_images
from evitif.evaluation.partial import write_json
from evitif.pipeline.configuration import BridgeRuntimeConfig, EdgeRuntimeConfig
from evitif.pipeline.sending_choice import Setting, chosen_tokens, sending_choice
from evitif.pipeline.tail_pipeline import TailPipeline
from evitif.protocol.answer import Answer
from evitif.protocol.bridge import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameReady
from evitif.protocol.packetiser import TokenFrame, patch_copies_of
from evitif.transport.impairment import ImpairedChannel, Impairment

FRAME_RATE = 10.0            # images a second
DELAY_S = 0.01               # one way
QUEUE_S = 0.3                # of the bottleneck
TAIL_S = 0.02                # from frame ready to answer
BATCH = 50
WARM_UP_S = 3.0              # of each point, that is not judged
# Loss, mean burst, Mbit/s.
POINTS = ((0.0, 1, 5.0), (0.0, 1, 1.0), (0.0, 1, 0.3), (0.3, 1, 5.0), (0.6, 1, 2.0), (0.6, 6, 5.0),
          (0.8, 1, 5.0), (0.8, 6, 1.0), (0.4, 6, 0.5))
REPORT = Path(__file__).resolve().parents[1] / 'reports' / 'bench'


@dataclass(frozen=True)
class Fixed:
    """A sender that knows no other way."""

    quantisation: str
    copies: int

    @property
    def name(self) -> str:
        return f'{self.quantisation} × {self.copies}'


class Bench:
    """The model, and the images as tokens."""

    def __init__(self, model: str, data: str, cut: int, images: int):
        self.edge_config = EdgeRuntimeConfig(model=model, cut=cut, unsealed=True)
        self.pipeline = TailPipeline(BridgeRuntimeConfig(model=model, cut=cut, unsealed=True))
        stream = self.stream = self.pipeline.stream
        dataset = open_images(data, 'test', class_names=stream.class_names if stream.names_its_classes else None)
        chosen = np.random.default_rng(0).permutation(len(dataset))[:images]
        samples = [dataset[int(index)] for index in chosen]
        self.ids = np.array([sample.class_id for sample in samples])
        tokens = [stream.head(stream.preprocessor(sample.image))[0].float().cpu().numpy()
                  for sample in tqdm(samples, desc='heads', mininterval=1)]
        self.rows = {kind: [quantiser.quantise(values) for values in tokens] for kind, quantiser in stream.quantisers.items()}

    def fixed(self) -> list[Fixed]:
        """Each quantisation once, and as often as the bytes of int8 once allow."""
        p = self.stream.parameters
        return list(dict.fromkeys(Fixed(kind, copies) for kind in p.row_formats
                                  for copies in (1, patch_copies_of(p.in_format(kind), 0))))

    def simulate(self, sender: Fixed | None, link, seconds: float, seed: int) -> tuple[list, dict]:
        """Run a stream over `link` (time in s to Impairment); None: the adaptive sender.

        Returns the received frames that were answered in time, and counts.
        """
        choice, setting = sending_choice(self.stream, self.edge_config), None
        config, parameters = self.edge_config, self.stream.parameters
        edge = EdgeConnection(parameters, 'robot', EdgeConfig(answer_deadline_s=config.answer_deadline), random=Random(seed))
        bridge = BridgeEndpoint(parameters, 'bridge', BridgeConfig(), random=Random(seed + 1))
        up, down = ImpairedChannel(link(0.0), seed), ImpairedChannel(without_rate(link(0.0)), seed + 1000)
        queue, order, received, answered, used = [], itertools.count(), {}, [], {}

        def at(when, action):
            heapq.heappush(queue, (when, next(order), action))

        def send(number):
            nonlocal setting
            up.set_impairment(link(now - 1.0))
            down.set_impairment(without_rate(link(now - 1.0)))
            if sender is None:
                known = edge.sending
                setting = choice.choose(known.frame_bytes, known.packet_error_rate, known.mean_burst, setting, known.name_bytes)
            else:
                setting = Setting(sender.quantisation, sender.copies, 1.0, 0, 0)
            used[setting.quantisation, setting.patch_copies, setting.share] = used.get(
                (setting.quantisation, setting.patch_copies, setting.share), 0) + 1
            rows = self.rows[setting.quantisation][number % len(self.ids)]
            edge.send_frame(TokenFrame(number, number, 'camera', rows, setting.quantisation, chosen_tokens(parameters, setting.share),
                                       setting.patch_copies, setting.min_packets), now)

        def exchange():
            for data in edge.datagrams_to_send(now):
                for when, arriving in up.offer(data, now):
                    at(when, lambda arriving=arriving: bridge.receive_datagram(arriving, 'edge', now))
            while (event := edge.next_event()) is not None:
                if isinstance(event, AnswerArrived):
                    answered.append(event.answer.frame_id)
            while (event := bridge.next_event()) is not None:
                if isinstance(event, FrameReady):
                    received[event.frame.frame_id] = event.frame
                    at(now + TAIL_S, lambda frame=event.frame: bridge.send_answer(frame.session_id, placeholder(frame, now), now))
            for data, _ in bridge.datagrams_to_send(now):
                for when, arriving in down.offer(data, now):
                    at(when, lambda arriving=arriving: edge.receive_datagram(arriving, now))

        now, end = 0.0, 2.0 + seconds
        edge.connect(now)
        for number in range(int(seconds * FRAME_RATE)):
            at(1.0 + number / FRAME_RATE, lambda number=number: send(number))
        exchange()
        while True:
            timers = [timer for timer in (edge.get_timer(), bridge.get_timer()) if timer is not None]
            arrival = queue[0][0] if queue else math.inf
            when = min([*timers, arrival])
            if when > end:
                break
            now = max(now, when)
            if arrival <= when:
                heapq.heappop(queue)[2]()
            else:
                edge.handle_timer(now)
                bridge.handle_timer(now + 1e-9)
            exchange()
        return [received[frame] for frame in answered], {'frames': int(seconds * FRAME_RATE), 'answered': len(answered),
                                                         'bytes': up.counters.bytes_received, 'settings': named(used)}

    @torch.inference_mode()
    def right(self, frames: list) -> dict[int, bool]:
        """By frame id, whether the answer to what was received is the image's class."""
        stream, result = self.stream, {}
        for complete in (True, False):
            chosen = [frame for frame in frames if bool(frame.received.all()) == complete]
            for start in range(0, len(chosen), BATCH):
                part = chosen[start:start + BATCH]
                tokens = torch.stack([torch.from_numpy(stream.quantisers[frame.quantisation].dequantise(frame.rows)) for frame in part])
                received = torch.from_numpy(np.stack([frame.received for frame in part]))
                rates = torch.tensor([frame.packet_error_rate for frame in part], dtype=torch.float32)
                logits = stream.split.tail(tokens) if complete else \
                    self.pipeline.recovery.recover(tokens, received, rates).logits(stream.split)
                for frame, answer in zip(part, logits.argmax(1).tolist(), strict=True):
                    result[frame.frame_id] = answer == self.ids[frame.frame_id % len(self.ids)]
        return result

    def accuracy(self, sender: Fixed | None, link, seconds: float, seed: int, skip_s: float = 0.0) -> dict:
        """In points, over all frames after `skip_s`; those without an answer are wrong."""
        frames, counts = self.simulate(sender, link, seconds, seed)
        right, first = self.right(frames), int(skip_s * FRAME_RATE)
        judged = range(first, counts['frames'])
        return {'accuracy': 100 * sum(right.get(number, False) for number in judged) / len(judged), **counts}


def without_rate(link: Impairment) -> Impairment:
    return Impairment(loss=link.loss, burst_length=link.burst_length, delay_s=link.delay_s)


def named(used: dict) -> dict[str, int]:
    return {f'{kind} × {copies}' + (f', {100 * share:.0f} % of the patches' if share < 1 else ''): count
            for (kind, copies, share), count in sorted(used.items(), key=lambda item: -item[1])}


def placeholder(frame, now: float) -> Answer:
    """An answer whose content does not matter."""
    return Answer(frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(0,), scores=(1.0,), strategy='split',
                  recovery='none', packets_received=frame.packets_received, packets_expected=frame.packets_expected,
                  bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()), tokens_expected=len(frame.received),
                  received=frame.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival, wait_s=0.0,
                  recovery_s=0.0, tail_s=TAIL_S, hold_s=max(0.0, now - frame.first_arrival))


def steady(loss: float, burst: float, rate: float):
    """A link that stays as it is."""
    link = Impairment(loss=loss, burst_length=burst, delay_s=DELAY_S, rate_bit_s=1e6 * rate, queue_s=QUEUE_S)
    return lambda now: link


def drifting(seconds: float):
    """Loss 0 → 80 → 0 %, in bursts in every other sixth, and the rate from 5 to 0.3 Mbit/s and back, three times."""
    def link(now: float) -> Impairment:
        share = min(max(now / seconds, 0.0), 1.0)
        rate = 0.3 * (5.0 / 0.3) ** (0.5 + 0.5 * math.cos(6 * math.pi * share))
        return Impairment(loss=0.8 * math.sin(math.pi * share), burst_length=6.0 if int(6 * share) % 2 else 1.0, delay_s=DELAY_S,
                          rate_bit_s=1e6 * rate, queue_s=QUEUE_S)
    return link


def run(quick: bool, output: Path, model: str = 'artifacts/cifar10_vit', data: str = 'data/cifar10', cut: int = 4) -> dict:
    """Measure, write `adaptive.json`, `.md` and `.png` below `output`, and return the figures with their `targets`."""
    seconds, drift, seeds, points = (13.0, 60.0, 1, POINTS[::2]) if quick else (43.0, 180.0, 2, POINTS)
    bench = Bench(model, data, cut, 300 if quick else 1000)
    senders = [None, *bench.fixed()]
    cells: list[dict] = []
    jobs = [(f'{100 * loss:.0f} % loss, burst {burst}, {rate:g} Mbit/s', steady(loss, burst, rate), seconds, WARM_UP_S)
            for loss, burst, rate in points] + [('drift', drifting(drift), drift, 0.0)]
    with tqdm(total=len(jobs) * len(senders) * seeds, desc='streams', mininterval=1) as bar:
        for name, link, length, skip in jobs:
            for sender in senders:
                runs = []
                for seed in range(seeds):
                    runs.append(bench.accuracy(sender, link, length, seed, skip))
                    bar.update()
                cells.append({'link': name, 'sender': 'adaptive' if sender is None else sender.name,
                              'accuracy': float(np.mean([cell['accuracy'] for cell in runs])), 'runs': runs})
    result = {'model': model, 'cut': cut, 'data': data, 'images': len(bench.ids), 'frame_rate': FRAME_RATE, 'seeds': list(range(seeds)),
              'frames': int((seconds - WARM_UP_S) * FRAME_RATE), 'drift_frames': int(drift * FRAME_RATE), 'quick': quick,
              'deadline_s': bench.edge_config.answer_deadline, 'queue_s': QUEUE_S, 'delay_s': DELAY_S, 'cells': cells,
              'targets': targets(cells), 'command': shlex.join(['python', '-m', 'benchmarks.adaptive', *(['--quick'] if quick else [])])}
    output.mkdir(parents=True, exist_ok=True)
    write_json(str(output / 'adaptive.json'), result)
    (output / 'adaptive.md').write_text(table(result))
    plot(result, output / 'adaptive.png')
    return result


def targets(cells: list[dict]) -> list[dict]:
    """Each target of the sender with what was measured."""
    rows = []
    for link in dict.fromkeys(cell['link'] for cell in cells):
        of = {cell['sender']: cell['accuracy'] for cell in cells if cell['link'] == link}
        adaptive = of.pop('adaptive')
        best = max(of, key=of.get)
        ahead = adaptive - of[best]
        whole = link == 'drift'
        rows.append({'name': f'adaptive against the best fixed setting: {link}', 'measured': round(ahead, 2),
                     'target': '> 0 points' if whole else '>= -0.5 points', 'holds': ahead > 0 if whole else ahead >= -0.5,
                     'note': f'adaptive {adaptive:.2f} %, {best} {of[best]:.2f} %'})
    return rows


def table(result: dict) -> str:
    """Accuracies in Markdown."""
    links = list(dict.fromkeys(cell['link'] for cell in result['cells']))
    senders = list(dict.fromkeys(cell['sender'] for cell in result['cells']))
    of = {(cell['link'], cell['sender']): cell['accuracy'] for cell in result['cells']}
    lines = [f'Accuracy in % of {result["model"]}, cut {result["cut"]}, at {result["frame_rate"]:g} images a second, {result["frames"]} a '
             f'point and {result["drift_frames"]} over the drift, seeds {result["seeds"]}; `{result["command"]}`', '',
             '| link | ' + ' | '.join(senders) + ' |', '| --- |' + ' ---: |' * len(senders)]
    for link in links:
        best = max(of[link, sender] for sender in senders)
        lines.append(f'| {link} | ' + ' | '.join(f'**{of[link, s]:.1f}**' if of[link, s] == best else f'{of[link, s]:.1f}' for s in senders)
                     + ' |')
    lines += ['', '| target | wanted | measured | holds |', '| --- | --- | ---: | --- |']
    lines += [f'| {row["name"]} ({row["note"]}) | {row["target"]} | {row["measured"]:+.2f} | {"yes" if row["holds"] else "no"} |'
              for row in result['targets']]
    return '\n'.join(lines) + '\n'


def plot(result: dict, path: Path) -> None:
    """Each sender's accuracy on each link."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    links = list(dict.fromkeys(cell['link'] for cell in result['cells']))
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout='constrained')
    for sender in dict.fromkeys(cell['sender'] for cell in result['cells']):
        values = [cell['accuracy'] for cell in result['cells'] if cell['sender'] == sender]
        style = {'linewidth': 1, 'marker': '.'}
        if sender == 'adaptive':
            style = {'color': '#D55E00', 'linewidth': 2.5, 'marker': 'o', 'zorder': 3}
        axes.plot(range(len(links)), values, label=sender, **style)
    axes.set_xticks(range(len(links)), links, rotation=30, ha='right', fontsize=8)
    axes.set_ylabel('accuracy (%)')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.adaptive', description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='five links for 10 s and a drift of one minute')
    parser.add_argument('--output', type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    try:
        result = run(options.quick, options.output)
    except (ValueError, OSError) as error:
        print(f'adaptive: {error}', file=sys.stderr)
        return 1
    print(table(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
