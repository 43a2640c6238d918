"""`evitif fleet directory`: a directory as a process of its own; it needs no Ray."""

from __future__ import annotations

import argparse
import logging
import threading

from evitif.settings.hosts import hosts_of
from evitif_fleet.admin import PORT, AdminServer
from evitif_fleet.directory import DirectoryRuntime, DirectorySettings
from evitif_fleet.metrics import available, exposition
from evitif_lab.commands.options import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--fleet-key', required=True, metavar='FILE', help='key of the fleet, which its bridges have too')
    parser.add_argument('--key-file', metavar='FILE', help="the robots' key, or a folder of them, as bridge_node has it")
    parser.add_argument('--unsealed', action='store_true', help='run without the robots\' keys; robots only follow to the same host')
    parser.add_argument('--name', default='directory', help='(default: %(default)s)')
    parser.add_argument('--bind-host', default='0.0.0.0', help='(default: %(default)s)')
    parser.add_argument('--port', type=whole(0, 65_535), default=7600, help='UDP (default: %(default)s)')
    parser.add_argument('--state', metavar='FILE', help='keeps what the directory knows for its next life')
    parser.add_argument('--admin', default=f'127.0.0.1:{PORT}', metavar='HOST:PORT',
                        help='HTTP for `evitif fleet status` and `drain`, and /metrics (default: %(default)s)')
    parser.add_argument('--silent-to-strangers', action='store_true', help='give no reply to whoever has no key')


def run(options: argparse.Namespace, command: str) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    logging.basicConfig(format='%(levelname)s %(message)s', level=logging.INFO)
    directory = DirectoryRuntime(DirectorySettings(
        options.fleet_key, options.key_file, options.unsealed, options.name, options.bind_host, options.port, options.state,
        options.silent_to_strangers))
    if not available():
        logging.info('/metrics is empty: prometheus_client is not here (requirements/fleet.txt)')
    admin = AdminServer(directory, hosts_of(options.admin, PORT)[0], lambda: exposition(directory.status()))
    directory.start()
    admin.start()
    try:
        while True:
            threading.Event().wait(3600.0)
    except KeyboardInterrupt:
        return 0
    finally:
        admin.stop()
        directory.stop()
