"""A directory's metrics for Prometheus: those of the fleet, and of each bridge by name and version."""

from __future__ import annotations

from typing import Any

try:
    import prometheus_client
except ModuleNotFoundError:      # then /metrics is empty, and the log says what to install
    prometheus_client = None

_BRIDGE = {
    'robots': 'robots with a session', 'capacity': 'most robots', 'load': 'share of the time that the tail computes',
    'answered': 'frames delivered since the start', 'expired': 'frames not delivered since the start',
    'wait_ms': 'what frames wait for the tail, 99th percentile, milliseconds', 'heard_s': 'seconds since the last report',
}


def available() -> bool:
    """Whether there is a client of Prometheus here."""
    return prometheus_client is not None


def exposition(status: dict[str, Any]) -> bytes:
    """`DirectoryRuntime.status()` in Prometheus' text format; nothing without `prometheus_client`."""
    if prometheus_client is None:
        return b''
    registry = prometheus_client.CollectorRegistry()
    labels = ['bridge', 'version', 'address']
    for name, what in _BRIDGE.items():
        gauge = prometheus_client.Gauge(f'evitif_fleet_bridge_{name}', what, labels, registry=registry)
        for bridge in status['bridges']:
            gauge.labels(bridge['name'], bridge['version'], bridge['address']).set(bridge[name])
    state = prometheus_client.Gauge('evitif_fleet_bridges', 'bridges by state', ['state'], registry=registry)
    for each in ('serving', 'draining', 'gone'):
        state.labels(each).set(sum(bridge['state'] == each for bridge in status['bridges']))
    events = prometheus_client.Gauge('evitif_directory_events', 'what happened at the directory since its start', ['event'],
                                     registry=registry)
    for name, count in status['events'].items():
        events.labels(name).set(count)
    dropped = prometheus_client.Gauge('evitif_directory_dropped', 'datagrams that were not used, by kind', ['kind'], registry=registry)
    for name, count in status['dropped'].items():
        dropped.labels(name).set(count)
    return prometheus_client.generate_latest(registry)
