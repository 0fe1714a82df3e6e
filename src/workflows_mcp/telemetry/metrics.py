"""Metrics in the form that Prometheus reads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workflows_mcp.telemetry.names import METRICS, MetricKind
from workflows_mcp.telemetry.samples import Sample
from workflows_mcp.telemetry.tallies import Distribution

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["exposition", "families", "rendered", "serve_metrics"]

Samples = Mapping[str, Mapping[tuple[str, ...], float | Distribution]]
"""The values of metrics, by the metric's name and the values of its labels."""


def families(samples: Samples, *, all_of_them: bool = False) -> "Iterator[Metric]":
    """Values in the form that `prometheus_client` writes out.

    Args:
        samples: The values.
        all_of_them: Whether metrics without a value are named, too.
    """
    from prometheus_client import core

    for metric in METRICS:
        found = samples.get(metric.name, {})
        if not found and not all_of_them:
            continue
        kinds = {
            MetricKind.COUNTER: core.CounterMetricFamily,
            MetricKind.GAUGE: core.GaugeMetricFamily,
            MetricKind.HISTOGRAM: core.HistogramMetricFamily,
        }
        family = kinds[metric.kind](metric.name, metric.text, labels=metric.labels)
        for labels, value in found.items():
            if isinstance(value, Distribution):
                family.add_metric(labels, _buckets(value), value.total)
            else:
                family.add_metric(labels, value)
        yield family


def exposition(samples: Iterable[Sample]) -> str:
    """Values in Prometheus' text format."""
    import prometheus_client as client

    grouped: dict[str, dict[tuple[str, ...], float | Distribution]] = {}
    for name, labels, value in samples:
        grouped.setdefault(name, {})[labels] = value

    class _Once:
        def collect(self) -> "Iterable[Metric]":
            return families(grouped)

    registry = client.CollectorRegistry()
    registry.register(_Once())
    text: str = client.generate_latest(registry).decode()
    return text


def rendered(registry: "CollectorRegistry | None" = None) -> tuple[bytes, str]:
    """What a registry holds now, in Prometheus' text format.

    Args:
        registry: None: the default registry.

    Returns:
        The text, and its content type.
    """
    import prometheus_client as client

    return client.generate_latest(client.REGISTRY if registry is None else registry), client.CONTENT_TYPE_LATEST


def serve_metrics(port: int, registry: "CollectorRegistry | None" = None) -> tuple[Any, int]:
    """Serve metrics over HTTP on this machine's loopback address, in a thread of their own.

    Args:
        port: The TCP port; 0: one that is free.
        registry: Whose metrics; None: the default registry's.

    Returns:
        The server, whose `shutdown` and `server_close` end it, and its port.

    Raises:
        OSError: The port cannot be had.
    """
    import prometheus_client as client

    chosen = client.REGISTRY if registry is None else registry
    server, _ = client.start_http_server(port, addr="127.0.0.1", registry=chosen)
    return server, server.server_port


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    total = 0
    found = []
    for bound, count in zip([*distribution.bounds, float("inf")], list(distribution.counts), strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return found
