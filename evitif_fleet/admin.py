"""The directory's door for its operator: HTTP on this machine, for whoever has the fleet's key. `/metrics` is open, for Prometheus.

    GET  /status                   the fleet, JSON
    POST /drain?bridge=NAME&on=1   send its robots elsewhere; 0: no longer
    POST /version?wanted=V         send robots to bridges of this version
    GET  /metrics                  Prometheus' text format
"""

from __future__ import annotations

import hmac
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from evitif.protocol.sealing.tickets import FleetKey
from evitif_fleet.directory import DirectoryRuntime

PORT = 7680
_TIMEOUT_S = 5.0


class AdminServer:
    """Serves a directory's door. Raises OSError when the address cannot be bound."""

    def __init__(self, directory: DirectoryRuntime, address: tuple[str, int], metrics: Callable[[], bytes] = lambda: b''):
        expected = f'Bearer {directory.key.admin.hex()}'

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == '/metrics':
                    self._answer(200, metrics(), 'text/plain; version=0.0.4; charset=utf-8')
                elif self._allowed():
                    self._told(200, directory.status()) if path == '/status' else self._told(404, {'error': f'{path}: expected /status'})

            def do_POST(self) -> None:
                if not self._allowed():
                    return
                split = urlsplit(self.path)
                said = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
                try:
                    if split.path == '/drain':
                        self._told(200, {'said': directory.drain(said.get('bridge', ''), said.get('on', '1') == '1')})
                    elif split.path == '/version':
                        self._told(200, {'said': directory.want_version(said.get('wanted', ''))})
                    else:
                        self._told(404, {'error': f'{split.path}: expected /drain or /version'})
                except ValueError as error:
                    self._told(400, {'error': str(error)})

            def _allowed(self) -> bool:
                if hmac.compare_digest(self.headers.get('Authorization', '').encode(), expected.encode()):
                    return True
                self._told(403, {'error': "expected the fleet's key"})
                return False

            def _told(self, status: int, what: dict[str, Any]) -> None:
                self._answer(status, json.dumps(what).encode(), 'application/json')

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header('Content-Type', kind)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name='evitif-admin', daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) where it listens."""
        return self._server.server_address[:2]      # type: ignore[return-value]

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


def ask(address: tuple[str, int], key: FleetKey, path: str, **said: str) -> dict[str, Any]:
    """Ask a directory's door: GET without `said`, else POST. Raises ValueError with what it objects, or where nobody answers."""
    query = '&'.join(f'{name}={quote(value)}' for name, value in said.items())
    request = urllib.request.Request(f'http://{address[0]}:{address[1]}{path}' + (f'?{query}' if query else ''),
                                     method='POST' if said else 'GET', headers={'Authorization': f'Bearer {key.admin.hex()}'})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get('error', str(error))) from None
    except OSError as error:
        raise ValueError(f'no directory answers at {address[0]}:{address[1]}: {getattr(error, "reason", error)}; expected one that '
                         '`evitif fleet directory` or `evitif fleet up` started') from None
