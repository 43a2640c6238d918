"""The adaptive sender against every fixed setting, over links whose loss, bursts and rate change.

Edge and bridge run as they are, in simulated time, over `evitif.transport.impairment`; the tokens are those of validation images,
and what arrives is recovered and judged by the tail. A frame without an answer by the deadline counts as wrong. All senders pace
and follow the same congestion control; a fixed one sends each frame in one quantisation and number of copies.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

from benchmarks.adaptive_links import DELAY_S, DRIFT, POLICED_S, QUEUE_S, Link, links, segment_through, uplink_of, without_rate
from benchmarks.link.tcp_flow import TcpFlow
from benchmarks.part import PartError, command, machine, save, sources_digest, target
from benchmarks.plots import lines
from evitif.datasets import open_images
from evitif.pipeline.sending_choice import Setting, chosen_tokens, sending_choice
from evitif.pipeline.split_bridge import SplitBridge
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameReady
from evitif.protocol.frames.packetiser import TokenFrame, patch_copies_of
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.settings import UNCODED, bridge_settings, edge_settings
from evitif.transport.impairment import HEADER_BYTES, ImpairedChannel
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult
from evitif_lab.simulated_time import SimulatedTime

TITLE = 'Adaptive sending'
QUICK = 'three steady links and six sudden ones for 10 s and a drift of half a minute, one seed'
SOURCES = ('evitif/model', 'evitif/recovery')
MODEL, CUT, DATA = 'artifacts/cifar10_vit', 4, 'data/cifar10'
ADAPTIVE = 'adaptive'
FRAME_RATE = 10.0            # images a second
TAIL_S = 0.02                # from frame ready to answer
BATCH = 50


@dataclass(frozen=True)
class Fixed:
    """A sender that knows no other way."""

    quantisation: str
    copies: int

    @property
    def name(self) -> str:
        """In words."""
        return f'{self.quantisation} × {self.copies}'


class Bench:
    """The model, and the images as tokens."""

    def __init__(self, model: str, data: str, cut: int, images: int):
        self.edge_config = edge_settings(model=model, cut=cut, unsealed=True, quantisation=UNCODED)
        self.pipeline = SplitBridge(bridge_settings(model=model, cut=cut, unsealed=True, quantisation=UNCODED))
        stream = self.stream = self.pipeline.model
        dataset = open_images(data, 'test', class_names=stream.class_names if stream.names_its_classes else None)
        chosen = np.random.default_rng(0).permutation(len(dataset))[:images]
        samples = [dataset[int(index)] for index in chosen]
        self.ids = np.array([sample.class_id for sample in samples])
        tokens = [stream.head(stream.preprocessor(sample.image))[0].float().cpu().numpy()
                  for sample in Progress(samples, desc='heads')]
        self.rows = {kind: [quantiser.quantise(values) for values in tokens] for kind, quantiser in stream.quantisers.items()}

    def fixed(self) -> list[Fixed]:
        """Each quantisation once, and as often as the bytes of int8 once allow."""
        p = self.stream.parameters
        return list(dict.fromkeys(Fixed(kind, copies) for kind in p.row_formats
                                  for copies in (1, patch_copies_of(p.in_format(kind), 0))))

    def simulate(self, sender: Fixed | None, link: Link, seed: int) -> tuple[list, dict]:
        """Run a stream over `link`; None: the adaptive sender.

        Returns the received frames that were answered in time, and counts.
        """
        choice, setting, seconds = sending_choice(self.stream, self.edge_config), None, link.seconds
        config, parameters = self.edge_config, self.stream.parameters
        edge = EdgeConnection(parameters, 'robot', EdgeConfig(answer_deadline_s=config.answer_deadline), random=Random(seed))
        bridge = BridgeEndpoint(parameters, 'bridge', BridgeConfig(), random=Random(seed + 1))
        course, up, down = link.course, uplink_of(link, seed), ImpairedChannel(without_rate(link.course(0.0)), seed + 1000)
        received, answered, used, flows = {}, [], {}, []
        sent_bytes, carried_bits, judged_from = 0, 0, 1.0 + link.skip_s
        first_image = seed * int(seconds * FRAME_RATE)          # each seed has images of its own

        def send(number: int) -> None:
            nonlocal setting
            up.set_impairment(course(time.now - 1.0))
            down.set_impairment(without_rate(course(time.now - 1.0)))
            if sender is None:
                known = edge.uplink
                setting = choice.choose(known.frame_bytes, known.packet_error_rate, known.mean_burst, setting, known.name_bytes)
            else:
                setting = Setting(sender.quantisation, sender.copies, 1.0, 0, 0)
            used[setting.quantisation, setting.patch_copies, setting.share] = used.get(
                (setting.quantisation, setting.patch_copies, setting.share), 0) + 1
            rows = self.rows[setting.quantisation][(first_image + number) % len(self.ids)]
            edge.send_frame(TokenFrame(number, number, 'camera', rows, setting.quantisation, chosen_tokens(parameters, setting.share),
                                       setting.patch_copies, setting.min_packets), time.now)

        def begin_flow() -> None:
            delay_s = course(0.0).delay_s
            flows.append(TcpFlow(lambda: time.now, time.at, lambda size, when: segment_through(up, size, when, delay_s), 2 * delay_s,
                                 link.beside))

        def exchange() -> None:
            nonlocal sent_bytes, carried_bits
            for data in edge.datagrams_to_send(time.now):
                sent_bytes += len(data)
                for when, arriving in up.offer(data, time.now):
                    carried_bits += 8 * (len(data) + HEADER_BYTES) * (judged_from <= time.now < 1.0 + seconds)
                    time.at(when, lambda arriving=arriving: bridge.receive_datagram(arriving, ('edge', 1), time.now))
            while (event := edge.next_event()) is not None:
                if isinstance(event, AnswerArrived):
                    answered.append(event.answer.frame_id)
            while (event := bridge.next_event()) is not None:
                if isinstance(event, FrameReady):
                    received[event.frame.frame_id] = event.frame
                    time.at(time.now + TAIL_S, lambda frame=event.frame: bridge.send_answer(
                        frame.session_id, placeholder(frame, time.now), time.now))
            for data, _ in bridge.datagrams_to_send(time.now):
                for when, arriving in down.offer(data, time.now):
                    time.at(when, lambda arriving=arriving: edge.receive_datagram(arriving, time.now))

        time = SimulatedTime(edge, bridge, exchange)
        edge.connect(0.0)
        for number in range(int(seconds * FRAME_RATE)):
            time.at(1.0 + number / FRAME_RATE, lambda number=number: send(number))
        if link.beside:
            time.at(1.0, begin_flow)
        time.run(2.0 + seconds)
        counts = {'answered': len(answered), 'bytes': sent_bytes, 'settings': named(used)}
        if flows:
            counts['mbit_s'] = carried_bits / (seconds - link.skip_s) / 1e6
            counts['flow_mbit_s'] = flows[0].rate(judged_from, 1.0 + seconds) / 1e6
        return [received[frame] for frame in answered], counts

    @torch.inference_mode()
    def classes(self, frames: list) -> dict[int, int]:
        """By frame id, the class that what was received is answered with."""
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
                    result[frame.frame_id] = answer
        return result

    def stream_of(self, sender: Fixed | None, link: Link, seed: int) -> dict:
        """What became of all judged frames: `right` has a 1 for each that was answered with its image's class, else a 0."""
        frames, counts = self.simulate(sender, link, seed)
        answers, count = self.classes(frames), int(link.seconds * FRAME_RATE)
        ids = self.ids[(seed * count + np.arange(count)) % len(self.ids)]
        judged = range(int(link.skip_s * FRAME_RATE), count)
        return {'right': ''.join(str(int(answers.get(number) == ids[number])) for number in judged), **counts}


def named(used: dict) -> dict[str, int]:
    """The counts of settings, by their names."""
    return {f'{kind} × {copies}' + (f', {100 * share:.0f} % of the patches' if share < 1 else ''): count
            for (kind, copies, share), count in sorted(used.items(), key=lambda item: -item[1])}


def placeholder(frame: ReceivedFrame, now: float) -> Answer:
    """An answer whose content does not matter."""
    return Answer(frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(0,), scores=(1.0,), strategy='split',
                  recovery='none', packets_received=frame.packets_received, packets_expected=frame.packets_expected,
                  bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()), tokens_expected=len(frame.received),
                  received=frame.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival, wait_s=0.0,
                  recovery_s=0.0, tail_s=TAIL_S, hold_s=max(0.0, now - frame.first_arrival))


def run(quick: bool, output: Path) -> dict:
    """
    The part of `make bench`; goes on where it was interrupted.

    :raises PartError: the model or its images are not there
    """
    jobs = links(quick)
    images = int(max(link.seeds * link.seconds for link in jobs[:-1]) * FRAME_RATE)      # all but the drift's frames have one each
    try:
        bench = Bench(MODEL, DATA, CUT, images)
    except (ValueError, OSError) as error:
        raise PartError(str(error)) from None
    senders = [None, *bench.fixed()]
    extent = [(link.name, link.seconds, link.seeds) for link in jobs]
    partial = PartialResult(output / 'adaptive.json', {'links': extent, 'machine': machine(), 'sources': sources_digest((
        'evitif/protocol', 'evitif/pipeline', *SOURCES,
        'evitif_lab/simulated_time.py', *(f'benchmarks/{name}.py' for name in ('adaptive', 'adaptive_links', 'link/tcp_flow'))))})
    state = partial.load() or {'next': 0, 'runs': {}}
    with Progress(total=sum(link.seeds for link in jobs) * len(senders), desc='streams', unit='stream') as bar:
        for link in jobs:
            for sender, seed in itertools.product(senders, range(link.seeds)):
                key = f'{link.name} / {ADAPTIVE if sender is None else sender.name} / {seed}'
                if key not in state['runs']:
                    state['runs'][key] = bench.stream_of(sender, link, seed)
                    state['next'] = len(state['runs'])
                    partial.save(state)
                bar.update()
    cells = [{'link': link.name, 'sender': title, 'runs': [state['runs'][f'{link.name} / {title} / {seed}'] for seed in range(link.seeds)]}
             for link in jobs for title in (ADAPTIVE, *(sender.name for sender in senders[1:]))]
    partial.remove()
    return save(output, 'adaptive', command('adaptive', quick), {'cells': cells}, targets_of(cells),
                model=MODEL, cut=CUT, data=DATA, images=len(bench.ids), frame_rate=FRAME_RATE, delay_s=DELAY_S,
                queue_s=QUEUE_S, deadline_s=bench.edge_config.answer_deadline)


def hits(cell: dict) -> np.ndarray:
    """Of all seeds' frames, which were answered rightly: bool [n]."""
    return np.array([int(each) for run in cell['runs'] for each in run['right']], bool)


def targets_of(cells: list[dict]) -> list[dict]:
    """Each target of the sender with what was measured."""
    judged = []
    for link in dict.fromkeys(cell['link'] for cell in cells):
        of = {cell['sender']: hits(cell) for cell in cells if cell['link'] == link}
        adaptive = of.pop(ADAPTIVE)
        best = max(of, key=lambda name, of=of: of[name].mean())
        difference = 100 * (adaptive.astype(float) - of[best])
        ahead, half = difference.mean(), 1.96 * difference.std() / math.sqrt(len(difference))
        expected, holds = ('more than 0 points', ahead > 0) if link == DRIFT else ('at least -0.5 points', ahead >= -0.5)
        note = ''
        if not holds and link != DRIFT and ahead + half >= -0.5:
            note = (f'within chance on {len(difference)} frames: the interval reaches the target, and the best of {len(of)} fixed settings '
                    'was picked on the same frames')
        judged.append(target(f'adaptive beside the best fixed setting, {link}', expected,
                             f'{ahead:+.1f} points (95 %: {ahead - half:+.1f} to {ahead + half:+.1f}; adaptive '
                             f'{100 * adaptive.mean():.1f} %, {best} {100 * of[best].mean():.1f} %)', holds, note))
    return judged


def summary(result: dict) -> str:
    """The adaptive sender beside the fixed setting that turned out best."""
    cells = result['figures']['cells']
    of = {(cell['link'], cell['sender']): 100 * hits(cell).mean() for cell in cells}
    lines = [f'Top-1 of {result["model"]}, cut after block {result["cut"]}, in simulated time. The sender measures loss and rate and '
             'chooses how tokens travel. The best fixed setting is picked afterwards, on the same frames, which favours it.', '',
             '| link | adaptive | best fixed setting | worst fixed setting |', '| --- | ---: | ---: | ---: |']
    for link in dict.fromkeys(cell['link'] for cell in cells):
        fixed = {sender: top1 for (name, sender), top1 in of.items() if name == link and sender != ADAPTIVE}
        best, worst = max(fixed, key=fixed.get), min(fixed, key=fixed.get)
        lines.append(f'| {link} | {of[link, ADAPTIVE]:.1f} % | {fixed[best]:.1f} % ({best}) | {fixed[worst]:.1f} % ({worst}) |')
    return '\n'.join(lines)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    cells = result['figures']['cells']
    names, senders = (list(dict.fromkeys(cell[key] for cell in cells)) for key in ('link', 'sender'))
    of = {(cell['link'], cell['sender']): 100 * hits(cell).mean() for cell in cells}
    frames = {cell['link']: len(hits(cell)) for cell in cells}
    text = [f'Top-1 in % of {result["model"]}, cut after block {result["cut"]}, on {result["frame_rate"]:g} images a second of '
            f'{result["data"]}. Edge, bridge and their control run as they are, in simulated time, over a link of '
            f'{1e3 * result["delay_s"]:g} ms one way with a queue of {1e3 * result["queue_s"]:g} ms. A frame without an answer within '
            f'{1e3 * result["deadline_s"]:g} ms counts as wrong. The adaptive sender chooses quantisation, copies, packets and patches; '
            f'a fixed one always sends the same, as far as the rate allows. Each point has {frames[names[0]]} frames, the drift '
            f'{frames[DRIFT]}: the loss goes from 0 to 80 % and back, in bursts in every other sixth, and the rate goes three times '
            'between 5 and 0.3 Mbit/s. A fall comes 2 s after a point has begun, a path gets longer or shorter every 4 s, a policer lets '
            f'{1e3 * POLICED_S:g} ms of its rate pass at once, and a TCP flow always has something to send.', '',
            '| | ' + ' | '.join(senders) + ' |', '| --- |' + ' ---: |' * len(senders)]
    for name in names:
        best = max(of[name, sender] for sender in senders)
        text.append(f'| {name} | ' + ' | '.join(f'**{of[name, s]:.1f}**' if of[name, s] == best else f'{of[name, s]:.1f}' for s in senders)
                    + ' |')
    for name in names:
        beside = {cell['sender']: cell['runs'] for cell in cells if cell['link'] == name and 'flow_mbit_s' in cell['runs'][0]}
        if beside:
            own, flow = (np.mean([run[key] for run in beside[ADAPTIVE]]) for key in ('mbit_s', 'flow_mbit_s'))
            text += ['', f'{name}: the adaptive sender has {own:.2f} Mbit/s, the flow {flow:.2f} Mbit/s.']
    series = {sender: [(place + 1, of[name, sender]) for place, name in enumerate(names)] for sender in senders}
    if lines(images / 'bench-adaptive.png', series, x='link, in the order of the table', y='top-1 in %', bold=(ADAPTIVE,),
             title='the adaptive sender beside fixed settings'):
        text += ['', '![accuracy of each sender on each link]({images}/bench-adaptive.png)']
    return '\n'.join(text)
