"""The demo: camera, edge node, lossy link and bridge as real processes on this machine, and a look at what comes out.

Starts the four nodes in the namespace /demo, waits until the robot is connected, lets the camera publish, collects the
predictions on the robot's topic, and writes reports/demo/: summary.json, annotated pictures, a plot of the latency,
the nodes' logs. Exit status: 0; 1 where fewer than 99 % of the frames were answered or a node failed; 2 for arguments
that are no good.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Images between processes on one machine get lost over Fast DDS's default transports (0.9 MB at 10 Hz: 18 of 60 came).
os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA')

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from PIL import Image as Picture  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from tqdm import tqdm  # noqa: E402

from evitif.pipeline import ModelConfig, StageTimes  # noqa: E402
from evitif.pipeline.split_stream import SplitStream  # noqa: E402
from evitif.protocol.keys import write_key_file  # noqa: E402
from evitif_edge_node.image_conversion import image_to_rgb  # noqa: E402
from evitif_edge_node.image_sources import open_source  # noqa: E402
from evitif_msgs.msg import LabelStamped, LinkStats, Prediction  # noqa: E402
from evitif_ros import qos  # noqa: E402

NAMESPACE = '/demo'
START_LIMIT_S = 120.0   # for the nodes to load their models and to connect
QUIET_LIMIT_S = 3.0     # after the camera's last image
ENOUGH_ANSWERED = 0.99
STAGES = list(StageTimes().as_dict())


def main() -> int:
    options = parse_arguments()
    reports = options.reports
    (reports / 'logs').mkdir(parents=True, exist_ok=True)
    for old in (*reports.glob('*.png'), *reports.glob('*.json')):
        old.unlink()
    try:
        stream = SplitStream.load(model_config(options))
        source = open_source(options.images, shuffle=True, seed=options.seed)
    except (ValueError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 2
    ros = ros_in_use()
    print(f'demo: ROS 2 from {ros}; {stream.parameters.model}, cut after block {stream.parameters.cut} of '
          f'{stream.split.depth}, tokens {quantisation_of(stream)}; {source.description}; '
          f'{100 * options.loss:g} % loss each way')
    source.close()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=[])
    monitor = Monitor(stream.class_id_of)
    processes = Processes(reports / 'logs')
    try:
        with tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / 'demo.key'
            write_key_file(key_file)
            run(options, monitor, processes, key_file)
    except DemoError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    finally:
        failed = processes.stop()
        monitor.node.destroy_node()
        rclpy.try_shutdown()
    if not monitor.predictions:
        print(f'demo: no prediction came; the logs are in {reports / "logs"}', file=sys.stderr)
        return 1
    lossless = uncut_accuracy(options, stream)
    summary = summarise(monitor, stream, lossless, options, ros)
    summary['memory_mib'] = {name: memory_growth(samples) for name, samples in processes.memory.items()}
    (reports / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    save_pictures(monitor, reports)
    plot_latency([monitor.predictions[stamp] for stamp in sorted(monitor.predictions)], reports / 'latency.png')
    print_table(summary, reports)
    for text in failed:
        print(f'demo: {text}', file=sys.stderr)
    share = summary['predictions'] / max(1, summary['frames_sent'])
    if share < ENOUGH_ANSWERED:
        counts = ', '.join(f'{count} {name}' for name, count in summary['edge_counts'].items() if count)
        print(f'demo: only {100 * share:.1f} % of the frames were answered, expected at least '
              f'{100 * ENOUGH_ANSWERED:.0f} %. The edge counts: {counts} (replaced: this machine was too slow for '
              f'{options.rate:g} images a second). The logs are in {reports / "logs"}', file=sys.stderr)
    return 1 if failed or share < ENOUGH_ANSWERED else 0


class DemoError(RuntimeError):
    """Something that ends the demo, in a sentence."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Camera, edge node, lossy link and bridge on this machine.')
    parser.add_argument('--model', default='artifacts/fashion_mnist', help='a model folder or a timm name')
    parser.add_argument('--checkpoint', help="weights for a timm name (default: timm's hub)")
    parser.add_argument('--cut', type=number(0, 1000, int), help="cut after this block (default: the model's own)")
    parser.add_argument('--artifact', help="a trained PALDN's description (default: the one in the model folder)")
    parser.add_argument('--images', default='fashion-mnist', help='fashion-mnist or a folder of images')
    parser.add_argument('--loss', type=number(0, 1), default=0.6, help='packet loss each way (default: %(default)s)')
    parser.add_argument('--burst', type=number(1, 1000), default=1.0, help='mean length of a run of lost packets')
    parser.add_argument('--frames', type=number(1, 10**6, int), default=300)
    parser.add_argument('--rate', type=number(0.1, 1000), default=10.0, help='images a second')
    parser.add_argument('--seed', type=number(0, 2**31, int), default=0, help='of the images and of the losses')
    parser.add_argument('--reports', type=Path, default=Path('reports/demo'))
    return parser.parse_args()


def number(low: float, high: float, kind: Callable = float) -> Callable[[str], float]:
    """An argument type: a number from `low` to `high`."""
    def check(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text}: expected {low:g} to {high:g}')
        return value
    check.__name__ = 'number'
    return check


def model_config(options: argparse.Namespace) -> ModelConfig:
    pretrained = not options.checkpoint and not Path(options.model).expanduser().is_dir() and '/' not in options.model
    return ModelConfig(model=options.model, checkpoint=options.checkpoint, pretrained=pretrained, cut=options.cut)


def ros_in_use() -> str:
    """`wheels` where rclpy lies in this Python's own environment, else `distribution`."""
    return 'wheels' if Path(rclpy.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()) else 'distribution'


@dataclass
class Monitor:
    """What came in on the robot's topics, by the source image's stamp in nanoseconds."""

    class_id_of: Callable[[str, int], int]   # a label and its number in the data set to the model's class
    truth: dict[int, int] = field(default_factory=dict)        # the model's class of each labelled image; -1 unknown
    predictions: dict[int, Prediction] = field(default_factory=dict)
    delays: dict[int, float] = field(default_factory=dict)     # stamp to arrival here, seconds, as `ros2 topic delay`
    pictures: dict[int, Image] = field(default_factory=dict)
    link: LinkStats | None = None
    last: float = 0.0

    def __post_init__(self):
        self.node = rclpy.create_node('demo_monitor', namespace=NAMESPACE)
        time.sleep(0.7)
        taken = [name for name, space in self.node.get_node_names_and_namespaces()
                 if space == NAMESPACE and name != 'demo_monitor']
        if taken:
            self.node.destroy_node()
            raise SystemExit(f'demo: {", ".join(taken)} already run in {NAMESPACE}: another demo? Wait for it to end, '
                             'or set ROS_DOMAIN_ID to another number')
        self.node.create_subscription(LabelStamped, 'label', self._on_label, qos.LABELS)
        self.node.create_subscription(Prediction, 'prediction', self._on_prediction, qos.RESULTS)
        self.node.create_subscription(LinkStats, 'link_stats', self._on_link, qos.RESULTS)
        self.node.create_subscription(Image, 'edge_node/annotated_image', self._on_picture, qos.IMAGES)

    def _on_label(self, message: LabelStamped) -> None:
        self.truth[nanoseconds(message.header)] = self.class_id_of(message.label, message.class_id)

    def _on_prediction(self, message: Prediction) -> None:
        stamp = nanoseconds(message.header)
        self.predictions[stamp] = message
        self.delays[stamp] = self.node.get_clock().now().nanoseconds / 1e9 - stamp / 1e9
        self.last = time.monotonic()

    def _on_link(self, message: LinkStats) -> None:
        self.link = message

    def _on_picture(self, message: Image) -> None:
        self.pictures[nanoseconds(message.header)] = message
        if len(self.pictures) > 40:  # a spread over the run, in bounded memory
            for stamp in list(self.pictures)[1::2]:
                del self.pictures[stamp]

    def spin(self, seconds: float) -> None:
        rclpy.spin_once(self.node, timeout_sec=seconds)

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.spin(left)


class Processes:
    """The nodes' processes, each with a log file; stopped in the reverse order of their start."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.running: dict[str, subprocess.Popen] = {}
        self.memory: dict[str, list[float]] = {'edge': [], 'bridge': []}  # MiB resident, about once a second
        self._sampled = 0.0

    def start(self, name: str, module: str, **parameters) -> None:
        arguments = [f'{key}:={str(value).lower() if isinstance(value, bool) else value}'
                     for key, value in parameters.items() if value is not None]
        command = [sys.executable, '-m', module, '--ros-args', '-r', f'__ns:={NAMESPACE}',
                   *[part for argument in arguments for part in ('-p', argument)]]
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
        with open(self.logs / f'{name}.log', 'w') as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment,
                                                  cwd=Path.cwd(), start_new_session=True)

    def check(self) -> None:
        """Raise DemoError where a node other than the camera has ended."""
        for name, process in self.running.items():
            if process.poll() is not None and (name != 'camera' or process.returncode):
                last = (self.logs / f'{name}.log').read_text().strip().splitlines()[-3:]
                raise DemoError(f'the {name} ended with status {process.returncode}: ' + ' | '.join(last))

    def sample_memory(self) -> None:
        if time.monotonic() < self._sampled + 1:
            return
        self._sampled = time.monotonic()
        for name, samples in self.memory.items():
            try:
                pages = int(Path(f'/proc/{self.running[name].pid}/statm').read_text().split()[1])
            except OSError:  # not Linux, or gone
                continue
            samples.append(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)

    def ended(self, name: str) -> bool:
        return self.running[name].poll() is not None

    def stop(self) -> list[str]:
        """End all of them; return a sentence for each that did not end as it should."""
        failed = []
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for name, process in reversed(self.running.items()):
            try:
                status = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                failed.append(f'the {name} did not end within 10 s of SIGINT and was killed')
                continue
            if status:
                failed.append(f'the {name} ended with status {status}; see {self.logs / name}.log')
        return failed


def run(options: argparse.Namespace, monitor: Monitor, processes: Processes, key_file: Path) -> None:
    """Start the nodes, wait for the connection, play the camera, and collect until the stream is quiet."""
    bridge_port, link_port = free_udp_ports(2)
    config = model_config(options)
    model = {'model': options.model, 'checkpoint': options.checkpoint, 'pretrained': config.pretrained,
             'cut': options.cut, 'key_file': key_file}
    processes.start('bridge', 'evitif_cloud_bridge.bridge_node', bind_host='127.0.0.1', port=bridge_port,
                    recovery_artifact=options.artifact, **model)
    impairments = {f'{way}.{name}': value for way in ('uplink', 'downlink')
                   for name, value in (('loss', options.loss), ('burst_length', options.burst))}
    processes.start('link', 'evitif_cloud_bridge.link_simulator_node', listen_host='127.0.0.1', listen_port=link_port,
                    forward_host='127.0.0.1', forward_port=bridge_port, seed=options.seed, **impairments)
    processes.start('edge', 'evitif_edge_node.edge_node', bridge_host='127.0.0.1', bridge_port=link_port, **model)
    began = time.monotonic()
    with tqdm(desc='starting', bar_format='{desc}: {elapsed}', leave=False) as bar:
        while monitor.link is None or not monitor.link.connected:
            monitor.spin(0.1)
            processes.check()
            bar.update(0)
            if time.monotonic() - began > START_LIMIT_S:
                raise DemoError(f'the robot was not connected within {START_LIMIT_S:.0f} s; the logs are in '
                                f'{processes.logs}')
    print(f'demo: connected after {time.monotonic() - began:.0f} s; watch it with rviz2 -d rviz/evitif.rviz, topic '
          f'{NAMESPACE}/edge_node/annotated_image', flush=True)
    processes.start('camera', 'evitif_edge_node.camera_node', source=options.images, rate=float(options.rate),
                    count=options.frames, loop=True, shuffle=True, seed=options.seed, wait_for_subscribers=1,
                    exit_when_done=True)
    ended = None
    interval = 0.5 if sys.stderr.isatty() else 10.0  # a log file gets a line now and then
    with tqdm(total=options.frames, desc='frames answered', unit='frame', mininterval=interval) as bar:
        while ended is None or time.monotonic() < ended + QUIET_LIMIT_S:
            monitor.spin_for(0.1)
            processes.check()
            processes.sample_memory()
            if len(monitor.predictions) > bar.n:
                bar.set_postfix_str(live_line(monitor), refresh=False)
                bar.update(len(monitor.predictions) - bar.n)
            if ended is None and processes.ended('camera'):
                ended = time.monotonic()
            if ended is not None and len(monitor.predictions) >= options.frames:
                break
    monitor.spin_for(0.2)  # what still waits: the last label, the last counts


def live_line(monitor: Monitor) -> str:
    recent = list(monitor.predictions)[-50:]
    latency = np.median([monitor.delays[stamp] for stamp in recent])
    loss = monitor.link.uplink_packet_error_rate if monitor.link else math.nan
    right = accuracy(monitor, recent)
    return f'{"" if right is None else f"right {100 * right:.0f} %, "}{1e3 * latency:.0f} ms, loss {100 * loss:.0f} %'


def accuracy(monitor: Monitor, stamps: list[int]) -> float | None:
    """Share of the images with a class that the model knows for which it was predicted; None without such images."""
    return mean(bool(ids := monitor.predictions[stamp].class_ids) and ids[0] == monitor.truth[stamp]
                for stamp in stamps if monitor.truth.get(stamp, -1) >= 0)


def mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return round(sum(values) / len(values), 4) if values else None


def uncut_accuracy(options: argparse.Namespace, stream: SplitStream) -> float | None:
    """Share of the same images that the uncut model gets right; None where no class is known."""
    import torch
    source = open_source(options.images, loop=True, shuffle=True, seed=options.seed)
    right = []
    count = options.frames if source.labelled else 0
    for _ in tqdm(range(count), desc='the same frames through the uncut model', unit='frame', leave=False):
        image = source.next_image()
        class_id = stream.class_id_of(image.label, image.class_id)
        if class_id >= 0:
            with torch.inference_mode():
                logits = stream.split.whole(stream.preprocessor(image.image))
            right.append(int(logits[0].argmax()) == class_id)
    source.close()
    return mean(right)


def summarise(monitor: Monitor, stream: SplitStream, lossless: float | None, options: argparse.Namespace, ros: str) -> dict:
    answered = sorted(monitor.predictions)
    predictions = [monitor.predictions[stamp] for stamp in answered]
    delays = 1e3 * np.array([monitor.delays[stamp] for stamp in answered])
    stages = {stage: [1e3 * getattr(p, f'time_{stage}') for p in predictions] for stage in STAGES}
    overhead = [p.time_total - p.time_preprocess - p.time_head - p.time_tail for p in predictions]
    computed = [p.time_head + p.time_tail for p in predictions]
    sent = sum(p.packets_sent for p in predictions)
    return {
        'frames_sent': options.frames,     # the camera ends with an error where it cannot publish as many
        'predictions': len(answered),
        'accuracy': accuracy(monitor, answered),
        'accuracy_lossless': lossless,
        # As the bridge measured it: a frame is answered as soon as it has a copy of everything, before its last packet.
        'packet_loss': round(float(predictions[-1].packet_error_rate), 4),
        'packet_loss_asked': options.loss,
        'uplink_bytes_per_frame': round(float(np.mean([p.uplink_bytes for p in predictions])), 1),
        'downlink_bytes_per_frame': round(float(np.mean([p.downlink_bytes for p in predictions])), 1),
        'packets_per_frame': round(sent / len(answered), 2),
        'latency_ms': {'p50': round(float(np.percentile(delays, 50)), 2),
                       'p99': round(float(np.percentile(delays, 99)), 2)},
        'stage_ms': {stage: rounded_median(values) for stage, values in stages.items()},
        'overhead_ms': rounded_median([1e3 * value for value in overhead]),
        'overhead_share_of_head_and_tail': rounded_median([a / b for a, b in zip(overhead, computed)], 3),
        'edge_counts': {name: int(getattr(monitor.link, f'frames_{name}')) for name in
                        ('received', 'replaced', 'rate_limited', 'sent', 'answered', 'expired', 'unsent')},
        'predicted': dict(Counter(p.labels[0] for p in predictions if p.labels).most_common()),
        'answered_by': {name: sum(f'{p.strategy}/{p.recovery}' == name for p in predictions)
                        for name in sorted({f'{p.strategy}/{p.recovery}' for p in predictions})},
        'model': stream.parameters.model, 'cut': stream.parameters.cut, 'quantisation': quantisation_of(stream),
        'images': options.images, 'rate': options.rate, 'burst': options.burst, 'seed': options.seed,
        'device': stream.placement.note, 'ros': ros,
    }


def quantisation_of(stream: SplitStream) -> str:
    return 'auto' if stream.rates is not None else stream.parameters.quantisation


def memory_growth(samples: list[float]) -> dict[str, float] | None:
    """Resident memory (MiB) after a tenth of the run and at its end: medians of a tenth of the samples each."""
    part = max(1, len(samples) // 10)
    if len(samples) < 3:
        return None
    early, late = float(np.median(samples[part:2 * part])), float(np.median(samples[-part:]))
    return {'early': round(early, 1), 'late': round(late, 1), 'growth': round(late - early, 1)}


def rounded_median(values: list[float], digits: int = 2) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return round(float(np.median(known)), digits) if known else None


def print_table(summary: dict, reports: Path) -> None:
    rows = [('frames answered', f'{summary["predictions"]} of {summary["frames_sent"]}'),
            ('accuracy', as_percent(summary['accuracy'])),
            ('  without loss, uncut model', as_percent(summary['accuracy_lossless'])),
            ('packets lost on the uplink', f'{100 * summary["packet_loss"]:.1f} %'),
            ('uplink', f'{summary["uplink_bytes_per_frame"] / 1e3:.1f} kB in {summary["packets_per_frame"]:.0f} '
                       'packets a frame'),
            ('image stamp to prediction', f'{summary["latency_ms"]["p50"]:.1f} ms (p50), '
                                          f'{summary["latency_ms"]["p99"]:.1f} ms (p99)')]
    rows += [(f'  {stage}', f'{value:.1f} ms') for stage, value in summary['stage_ms'].items() if value is not None]
    rows += [('everything but preprocess, head, tail',
              f'{summary["overhead_ms"]:.1f} ms, {100 * summary["overhead_share_of_head_and_tail"]:.0f} % of head + tail'),
             ('answered by', ', '.join(f'{name} {count}' for name, count in summary['answered_by'].items()))]
    rows += [(f'memory of the {name}', f'{values["early"]:.0f} MiB early, {values["late"]:.0f} MiB late')
             for name, values in summary['memory_mib'].items() if values]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f'  {name:<{width}}  {value}')
    print(f'\ndemo: {reports}/summary.json, {", ".join(sorted(path.name for path in reports.glob("*.png")))}')


def as_percent(share: float | None) -> str:
    return 'unknown: the images have no class that the model knows' if share is None else f'{100 * share:.1f} %'


def save_pictures(monitor: Monitor, reports: Path) -> None:
    """Three annotated pictures, spread over the run."""
    stamps = sorted(monitor.pictures)
    for index, stamp in enumerate(stamps[len(stamps) // 4::max(1, len(stamps) // 4)][:3], 1):
        Picture.fromarray(image_to_rgb(monitor.pictures[stamp])).save(reports / f'annotated_{index}.png')


def plot_latency(predictions: list[Prediction], path: Path) -> None:
    """Where the time of each frame went, stacked by stage."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    stages = [stage for stage in STAGES if stage != 'total']
    values = [np.nan_to_num([1e3 * getattr(p, f'time_{stage}') for p in predictions]) for stage in stages]
    figure, axes = pyplot.subplots(figsize=(9, 4), layout='constrained')
    axes.stackplot(range(len(predictions)), values, labels=stages, colors=matplotlib.colormaps['tab10'].colors)
    axes.plot([1e3 * p.time_total for p in predictions], color='black', linewidth=0.7, label='total')
    axes.set(xlabel='frame', ylabel='ms', title='Image at the edge to answer at the edge', xlim=(0, len(predictions) - 1))
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def free_udp_ports(count: int) -> list[int]:
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for entry in sockets:
            entry.bind(('127.0.0.1', 0))
        return [entry.getsockname()[1] for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()


def nanoseconds(header) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print('\ndemo: interrupted', file=sys.stderr)
        sys.exit(130)
