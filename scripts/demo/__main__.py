"""The demo: camera, edge node, lossy link and bridge as real processes on this machine, and a look at what comes out.

Starts the nodes in the namespace /demo, waits until the robot is connected, lets the camera publish, collects the
predictions on the robot's topic, and writes reports/demo/: summary.json, annotated pictures, a plot of the latency,
the nodes' logs. With the strategy `partition` there is an edge node for each device, of which one is killed half-way. Exit
status: 0; 1 where fewer than 99 % of the frames were answered or a node failed; 2 for arguments that are no good.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import rclpy  # noqa: E402
from demo_monitor import NAMESPACE, Monitor  # noqa: E402
from demo_processes import DemoError, Processes, free_udp_ports  # noqa: E402
from demo_reference import reference  # noqa: E402
from demo_report import live_line, lossless_accuracy, memory_growth, plot_latency, print_table, save_pictures, summarise  # noqa: E402

from evitif.pipeline.strategy_table import resolved  # noqa: E402
from evitif.protocol.sealing.keys import write_key_file  # noqa: E402
from evitif.settings import AUTO, STRATEGY, CommonSettings, model_settings  # noqa: E402
from evitif.vocabulary import Strategy  # noqa: E402
from evitif_edge_node.image_sources import open_source  # noqa: E402
from evitif_lab.commands.progress import Progress  # noqa: E402

START_LIMIT_S = 120.0   # for the nodes to load their models and to connect
QUIET_LIMIT_S = 3.0     # after the camera's last image
CAMERA_LIMIT_S = 30.0   # from an active edge node to the first image: the camera is started when the link is up
ENOUGH_ANSWERED = 0.99
LIGHT_MODEL = 'artifacts/fashion_mnist_light'


def main() -> int:
    options = parse_arguments()
    reports = options.reports
    (reports / 'logs').mkdir(parents=True, exist_ok=True)
    for old in (*reports.glob('*.png'), *reports.glob('*.json')):
        old.unlink()
    try:
        asked = model_config(options)
        config, note = resolved(asked)
        options.strategy = config.strategy      # from here on what `auto` stands for; the nodes find that out for themselves
        models = reference(config)
        source = open_source(options.images, shuffle=True, seed=options.seed)
    except (ValueError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 2
    ros = ros_in_use()
    if note:
        print(f'demo: {note}')
    print(f'demo: ROS 2 from {ros}; {models.title}; {source.description}; {100 * options.loss:g} % loss each way')
    source.close()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=[])
    monitor = Monitor(edge_names(options), models.class_id_of)
    processes = Processes(reports / 'logs')
    try:
        with tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / 'demo.key'
            write_key_file(key_file)
            run(options, asked, monitor, processes, key_file)
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
    summary = summarise(monitor, models, lossless_accuracy(options, models), options, ros)
    summary['memory_mib'] = {name: memory_growth(samples) for name, samples in processes.memory.items()}
    (reports / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    save_pictures(monitor, reports)
    plot_latency([monitor.predictions[stamp] for stamp in sorted(monitor.predictions)], reports / 'latency.png')
    print_table(summary, reports)
    for text in failed:
        print(f'demo: {text}', file=sys.stderr)
    share = (summary['predictions'] - summary['how'].get('fallback', 0)) / max(1, summary['frames_sent'])
    if share < ENOUGH_ANSWERED:
        counts = ', '.join(f'{count} {name}' for name, count in summary['edge_counts'].items() if count)
        print(f'demo: only {100 * share:.1f} % of the frames were answered, expected at least '
              f'{100 * ENOUGH_ANSWERED:.0f} %. The edge counts: {counts} (replaced: this machine was too slow for '
              f'{options.rate:g} images a second). The logs are in {reports / "logs"}', file=sys.stderr)
    return 1 if failed or share < ENOUGH_ANSWERED else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Camera, edge node, lossy link and bridge on this machine.')
    parser.add_argument('--strategy', choices=STRATEGY.choices, default='split',
                        help='how edge and bridge share the work (default: %(default)s)')
    parser.add_argument('--model', default='artifacts/fashion_mnist', help='a model folder or a timm name; of selection the large one')
    parser.add_argument('--light-model', help=f'of selection: a folder (default: {LIGHT_MODEL})')
    parser.add_argument('--frame-bytes', type=number(0, 1e9), default=0.0, help='of auto: bytes for an image, both ways, that the link '
                                                                                'carries (default: any)')
    parser.add_argument('--partition', default='artifacts/fashion_mnist/partition-3', help='of partition: a folder (default: %(default)s)')
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


def model_config(options: argparse.Namespace) -> CommonSettings:
    if options.strategy == Strategy.PARTITION:
        return model_settings(options.strategy, partition=options.partition)
    pretrained = not options.checkpoint and not Path(options.model).expanduser().is_dir() and '/' not in options.model
    own = {
        Strategy.SPLIT: {'cut': options.cut},
        Strategy.SELECTION: {'light_model': options.light_model or LIGHT_MODEL},
        AUTO: {'cut': options.cut, 'light_model': options.light_model or '', 'auto_loss': options.loss,
               'auto_frame_bytes': options.frame_bytes},
    }[options.strategy]
    return model_settings(options.strategy, model=options.model, checkpoint=options.checkpoint, pretrained=pretrained, **own)


def edge_names(options: argparse.Namespace) -> tuple[str, ...]:
    """The namespaces of the edge nodes: of a partition the devices' names."""
    if options.strategy != 'partition':
        return ('',)
    from evitif.partition import read_partition
    return tuple(entry.name.replace('-', '_') for entry in read_partition(options.partition).devices)


def ros_in_use() -> str:
    """`wheels` where rclpy lies in this Python's own environment, else `distribution`."""
    return 'wheels' if Path(rclpy.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()) else 'distribution'


def run(options: argparse.Namespace, config: CommonSettings, monitor: Monitor, processes: Processes, key_file: Path) -> None:
    """Start the nodes, wait for the connection, play the camera, and collect until the stream is quiet."""
    bridge_port, link_port = free_udp_ports(2)
    model = {'strategy': config.strategy, 'key_file': key_file,
             **{field.name: value for field in dataclasses.fields(config) if (value := getattr(config, field.name)) != field.default}}
    processes.start('bridge', 'evitif_cloud_bridge.bridge_node', NAMESPACE, bind_host='127.0.0.1', port=bridge_port,
                    recovery_artifact=options.artifact, **model)
    impairments = {f'{way}.{name}': value for way in ('uplink', 'downlink')
                   for name, value in (('loss', options.loss), ('burst_length', options.burst))}
    processes.start('link', 'evitif_cloud_bridge.link_simulator_node', NAMESPACE, listen_host='127.0.0.1', listen_port=link_port,
                    forward_host='127.0.0.1', forward_port=bridge_port, seed=options.seed, **impairments)
    for number, edge in enumerate(monitor.edges):
        processes.start(edge_process(edge), 'evitif_edge_node.edge_node', f'{NAMESPACE}/{edge}' if edge else NAMESPACE,
                        (f'image:={NAMESPACE}/image',), bridge_host='127.0.0.1', bridge_port=link_port, image_timeout=CAMERA_LIMIT_S,
                        partition_device=f"'{number}'" if edge else None, **model)
    began = time.monotonic()
    with Progress(desc='starting', bar_format='{desc}: {elapsed}', leave=False) as bar:
        while not monitor.connected:
            monitor.spin(0.1)
            processes.check()
            bar.update(0)
            if time.monotonic() - began > START_LIMIT_S:
                raise DemoError(f'the robot was not connected within {START_LIMIT_S:.0f} s; the logs are in '
                                f'{processes.logs}')
    print(f'demo: connected after {time.monotonic() - began:.0f} s; watch it with rviz2 -d rviz/evitif.rviz, topic '
          f'{monitor.node.resolve_topic_name(monitor.picture_topic)}', flush=True)
    processes.start('camera', 'evitif_edge_node.camera_node', NAMESPACE, source=options.images, rate=float(options.rate),
                    count=options.frames, loop=True, shuffle=True, seed=options.seed, wait_for_subscribers=len(monitor.edges),
                    exit_when_done=True)
    ended = None
    with Progress(total=options.frames, desc='frames answered', unit='frame', mininterval=0.5) as bar:
        while ended is None or time.monotonic() < ended + QUIET_LIMIT_S:
            monitor.spin_for(0.1)
            processes.check()
            processes.sample_memory()
            if options.strategy == 'partition' and not monitor.killed and len(monitor.predictions) >= options.frames // 2:
                kill_a_device(monitor, processes)
            if len(monitor.predictions) > bar.n:
                bar.set_postfix_str(live_line(monitor), refresh=False)
                bar.update(len(monitor.predictions) - bar.n)
            if ended is None and processes.ended('camera'):
                ended = time.monotonic()
            if ended is not None and len(monitor.predictions) >= options.frames:
                break
    monitor.spin_for(0.2)  # what still waits: the last label, the last counts


def kill_a_device(monitor: Monitor, processes: Processes) -> None:
    """End the last device's edge node half-way, as a flat battery would."""
    monitor.killed, monitor.killed_at = monitor.edges[-1], max(monitor.predictions)
    processes.kill(edge_process(monitor.killed))
    print(f'\ndemo: killed the device {monitor.killed}; the others go on', flush=True)


def edge_process(edge: str) -> str:
    return f'edge-{edge}' if edge else 'edge'


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print('\ndemo: interrupted', file=sys.stderr)
        sys.exit(130)
