"""The demo: camera, edge node, lossy link and bridge as real processes on this machine, and a look at what comes out.

    python -m scripts.demo --loss 0.3

It starts the nodes in the namespace /demo, waits until the robot is connected, lets the camera publish, collects the predictions on
the robot's topic, and writes summary.json, annotated pictures, a film of the last ones, a plot of the latency and the nodes' logs to
reports/demo/. With the strategy `partition` each device has an edge node, and one of them is killed half-way.

Exit status: 0; 1 if fewer than 99 % of the frames were answered or a node failed; 2 for a bad argument.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import rclpy

from evitif.files import write_json
from evitif.pipeline.strategy_table import resolved
from evitif.protocol.sealing.keys import write_key_file
from evitif_edge_node.image_sources import open_source
from scripts.demo.monitor import Monitor
from scripts.demo.options import edge_names, model_config, parse_arguments
from scripts.demo.processes import DemoError, Processes
from scripts.demo.reference import Reference, reference
from scripts.demo.report import plot_latency, print_table, save_film, save_pictures
from scripts.demo.run import run
from scripts.demo.summary import lossless_accuracy, memory_growth, summarise

ENOUGH_ANSWERED = 0.99


def main() -> int:
    """Run the demo; return the exit status."""
    options = parse_arguments()
    reports = options.reports
    (reports / 'logs').mkdir(parents=True, exist_ok=True)
    for old in (*reports.glob('*.png'), *reports.glob('*.gif'), *reports.glob('*.json')):
        old.unlink()
    try:
        asked = model_config(options)
        config, note = resolved(asked)
        options.strategy = config.strategy      # what `auto` stands for; the nodes find that out for themselves
        models = reference(config)
        source = open_source(options.images, shuffle=True, seed=options.seed)
    except (ValueError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 2
    if note:
        print(f'demo: {note}')
    print(f'demo: ROS 2 from {ros_in_use()}; {models.title}; {source.description}; {100 * options.loss:g} % loss each way')
    source.close()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=[])
    monitor = Monitor(edge_names(options), models.class_id_of, Path(options.head).resolve().name if options.head else '')
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
    summary = report(options, monitor, models, processes)
    for text in failed:
        print(f'demo: {text}', file=sys.stderr)
    return 0 if enough_answered(summary, options) and not failed else 1


def ros_in_use() -> str:
    """`wheels` if rclpy lies in this Python's own environment, else `distribution`."""
    return 'wheels' if Path(rclpy.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()) else 'distribution'


def report(options: argparse.Namespace, monitor: Monitor, models: Reference, processes: Processes) -> dict:
    """Write and print what came out; return the summary."""
    summary = summarise(monitor, models, lossless_accuracy(options, models), options, ros_in_use())
    summary['memory_mib'] = {name: memory_growth(samples) for name, samples in processes.memory.items()}
    write_json(options.reports / 'summary.json', summary)
    save_pictures(monitor, options.reports)
    save_film(monitor, options.rate, options.reports / 'film.gif')
    plot_latency([monitor.predictions[stamp] for stamp in sorted(monitor.predictions)], options.reports / 'latency.png')
    print_table(summary, options.reports)
    return summary


def enough_answered(summary: dict, options: argparse.Namespace) -> bool:
    """Whether the bridge, or a robot that was sure, answered nearly all frames. If not, say where the others went."""
    share = (summary['predictions'] - summary['how'].get('fallback', 0)) / max(1, summary['frames_sent'])
    if share >= ENOUGH_ANSWERED:
        return True
    counts = ', '.join(f'{count} {name}' for name, count in summary['edge_counts'].items() if count)
    print(f'demo: only {100 * share:.1f} % of the frames were answered, expected at least {100 * ENOUGH_ANSWERED:.0f} %. The edge counts: '
          f'{counts} (replaced: this machine was too slow for {options.rate:g} images a second). The logs are in '
          f'{options.reports / "logs"}', file=sys.stderr)
    return False


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print('\ndemo: interrupted', file=sys.stderr)
        sys.exit(130)
