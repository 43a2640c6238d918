"""What a bridge counts, for Prometheus: read when it is scraped, so that it costs nothing between.

Names follow Prometheus' conventions (base units, `_total` for what only grows). Percentiles come from the two histograms, by
`histogram_quantile`, so that those of several bridges can be added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from evitif.transport.addresses import TransportError, format_address

if TYPE_CHECKING:
    from evitif.pipeline.bridge_statistics import BridgeStatistics
    from evitif.pipeline.prediction import Prediction

INSTALL = 'metrics_port needs prometheus_client, which is not installed: `pip install -r requirements/fleet.txt` installs it'
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)     # bounds of the histograms' buckets


class BridgeMetrics:
    """An HTTP endpoint with the bridge's figures, `http://HOST:PORT/metrics`.

    :param info: what stays as it is, such as the model; label values
    :param statistics: gives the counts of now
    :raises ModuleNotFoundError: prometheus_client is not installed; the sentence says what to do
    :raises TransportError: the address cannot be bound
    """

    def __init__(self, host: str, port: int, info: dict[str, str], statistics: Callable[[], BridgeStatistics]):
        try:
            import prometheus_client as prometheus
            import prometheus_client.core as core
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(INSTALL) from error
        self._statistics, self._core = statistics, core
        registry = prometheus.CollectorRegistry()
        self._answer = prometheus.Histogram('evitif_bridge_answer_seconds', "From a frame's first packet to its answer", registry=registry,
                                            buckets=SECONDS)
        self._wait = prometheus.Histogram('evitif_bridge_wait_seconds', "From a frame's first packet to its turn", registry=registry,
                                          buckets=SECONDS)
        prometheus.Info('evitif_bridge', 'What the bridge answers with', registry=registry).info(info)
        registry.register(self)
        try:
            self._server, self._thread = prometheus.start_http_server(port, host, registry)
        except OSError as error:
            raise TransportError(f'metrics_port: no HTTP server on {format_address((host, port))}: {error.strerror}; expected a free TCP '
                                 'port') from error

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._server.server_port

    def answered(self, prediction: Prediction) -> None:
        """Take the times of an answer."""
        self._answer.observe(prediction.stages.total)
        if math.isfinite(prediction.stages.wait):
            self._wait.observe(prediction.stages.wait)

    def close(self) -> None:
        """End the endpoint."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def describe(self) -> Iterable[Any]:
        """None beforehand: prometheus_client would collect once to find the names."""
        return ()

    def collect(self) -> Iterable[Any]:
        """The counts as metric families; for prometheus_client, in the thread of its server."""
        now = self._statistics()
        yield self._core.GaugeMetricFamily('evitif_bridge_robots', 'Robots, or devices of robots, that have a session', len(now.links))
        yield self._counter('frames', 'Frames of all robots, by what became of them', ('outcome',), {
            ('ready',): now.frames_ready, ('answered',): now.frames_answered, ('replaced',): now.frames_replaced,
            ('failed',): now.frames_failed})
        yield self._counter('batches', 'Runs of the tail over one frame or several', (), {(): now.batches})
        yield self._counter('datagrams_dropped', 'Datagrams of all robots and of none that were not used', ('reason',), {
            (reason,): count for reason, count in now.dropped.items()})
        yield self._counter('robot_frames', "A robot's frames in this session, by what became of them", ('robot', 'outcome'), {
            (robot, outcome): count for robot, link in now.links.items() for outcome, count in link.frames.items()})
        yield self._counter('robot_tokens', "Tokens of a robot's answered frames in this session, by where they come from",
                            ('robot', 'source'), {
                                (robot, source): count for robot, link in now.links.items() for source, count in link.tokens.items()})
        yield self._counter('robot_bytes', 'UDP payload in this session', ('robot', 'direction'), {
            (robot, way): count for robot, link in now.links.items()
            for way, count in (('uplink', link.bytes_received), ('downlink', link.bytes_sent))})
        loss = self._core.GaugeMetricFamily('evitif_bridge_robot_packet_loss_ratio', 'Share of the last 512 datagrams that was lost',
                                            labels=('robot', 'direction'))
        for robot, link in now.links.items():
            for way, share in (('uplink', link.packet_error_rate), ('downlink', link.remote_packet_error_rate)):
                if math.isfinite(share):
                    loss.add_metric((robot, way), share)
        yield loss

    def _counter(self, name: str, text: str, labels: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> Any:
        family = self._core.CounterMetricFamily(f'evitif_bridge_{name}', text, labels=labels)
        for values, count in counts.items():
            family.add_metric(values, count)
        return family
