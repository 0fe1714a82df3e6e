"""What Prometheus is shown: the tallies of stores and executors, and what a look at each store tells."""

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.telemetry.extras import require
from workflows_mcp.telemetry.names import METRICS, MetricKind
from workflows_mcp.telemetry.pulse import PulseKeeper
from workflows_mcp.telemetry.samples import Sample, of_activity, of_run_tally, of_store, of_store_tally
from workflows_mcp.telemetry.tallies import Distribution, RunTally, StoreTally

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["Exporter", "exposition", "families", "serve_metrics"]

Samples = Mapping[str, Mapping[tuple[str, ...], float | Distribution]]
"""The values of metrics, by the metric's name and the values of its labels."""

_EXPORTERS: "weakref.WeakKeyDictionary[CollectorRegistry, Exporter]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()

_COUNTED = "workflows_checkpoints"
"""How the names of metrics begin that only a census gives."""

_LEAST, _MOST = (
    frozenset({"workflows_checkpoint_up", "workflows_checkpoint_disk_free_bytes"}),
    frozenset({"workflows_oldest_pause_seconds"}),
)
"""What is not added up over several stores of one kind, but is that of the worst one."""


@dataclass(frozen=True)
class _Source:
    """A store that is watched."""

    store: "weakref.ref[CheckpointStore]"
    tally: StoreTally
    keeper: PulseKeeper


class Exporter:
    """A collector, in the sense of `prometheus_client`, of all that is watched for one registry."""

    def __init__(self) -> None:
        self._stores: list[_Source] = []
        self._runs: list[RunTally] = []
        self._executors: weakref.WeakSet[WorkflowExecutor] = weakref.WeakSet()

    @classmethod
    def of(cls, registry: "CollectorRegistry | None") -> "Exporter":
        """The exporter of a registry, registered there when it is first asked for; None: the default registry.

        Raises:
            StoreConfigurationError: `prometheus_client` is not installed.
        """
        client = require("prometheus_client", "metrics", "metrics")
        chosen: CollectorRegistry = client.REGISTRY if registry is None else registry
        with _LOCK:
            exporter = _EXPORTERS.get(chosen)
            if exporter is None:
                exporter = cls()
                chosen.register(exporter)
                _EXPORTERS[chosen] = exporter
        return exporter

    def watch_store(self, store: CheckpointStore, pulse_seconds: float) -> StoreTally:
        """Show what a store does from now on; one that is shown already is not counted twice."""
        for source in self._stores:
            if source.store() is store and not source.keeper.is_stopped:
                return source.tally
        tally = StoreTally(store.system)
        store.observe(tally)
        self._stores.append(_Source(weakref.ref(store), tally, PulseKeeper(store, tally, pulse_seconds)))
        return tally

    def watch_runs(self, executor: WorkflowExecutor) -> RunTally | None:
        """Show what an executor does, by what its tally is told; None: that one is shown already."""
        if executor in self._executors:
            return None
        self._executors.add(executor)
        tally = RunTally()
        self._runs.append(tally)
        return tally

    def forget_runs(self, executor: WorkflowExecutor) -> None:
        """Take an executor for one that is not shown; what it has done stays counted."""
        self._executors.discard(executor)

    def forget_store(self, tally: StoreTally) -> None:
        """Look at a store no more; what it has done stays counted."""
        for source in self._stores:
            if source.tally is tally:
                source.keeper.stop()

    def describe(self) -> "Iterable[Metric]":
        """The metrics without values; see `prometheus_client.registry.Collector`."""
        return families({}, all_of_them=True)

    def collect(self) -> "Iterable[Metric]":
        """The metrics as they are now; waits for no database."""
        samples: dict[str, dict[tuple[str, ...], Any]] = {}
        for source in self._stores:
            store = None if source.keeper.is_stopped else source.store()
            found = [*of_store_tally(source.tally)]
            if store is not None:
                found += of_store(store, (*of_activity(store.activity()), *source.keeper.look()))
            for name, labels, value in found:
                _put(samples.setdefault(name, {}), name, labels, value)
        for tally in self._runs:
            for name, labels, value in of_run_tally(tally):
                _put(samples.setdefault(name, {}), name, labels, value)
        return (family for family in families(samples, all_of_them=True) if not family.name.startswith(_COUNTED))


def families(samples: Samples, *, all_of_them: bool = False) -> "Iterator[Metric]":
    """Values in the form that `prometheus_client` writes out.

    Args:
        samples: The values.
        all_of_them: Whether metrics without a value are named, too.
    """
    core = require("prometheus_client.core", "metrics", "metrics")
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
    """Values in Prometheus' text format.

    Raises:
        StoreConfigurationError: `prometheus_client` is not installed.
    """
    client = require("prometheus_client", "metrics", "metrics")
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


def serve_metrics(port: int, registry: "CollectorRegistry | None" = None) -> tuple[Any, int]:
    """Serve metrics over HTTP on this machine's loopback address, in a thread of their own.

    Args:
        port: The TCP port; 0: one that is free.
        registry: Whose metrics; None: the default registry's.

    Returns:
        The server, whose `shutdown` and `server_close` end it, and its port.

    Raises:
        StoreConfigurationError: `prometheus_client` is not installed.
        OSError: The port cannot be had.
    """
    client = require("prometheus_client", "metrics", "metrics")
    chosen = client.REGISTRY if registry is None else registry
    server, _ = client.start_http_server(port, addr="127.0.0.1", registry=chosen)
    return server, server.server_port


def _put(found: dict[tuple[str, ...], Any], name: str, labels: tuple[str, ...], value: float | Distribution) -> None:
    """Add a value to what other stores of the kind have."""
    before = found.get(labels)
    if before is None:
        found[labels] = value
    elif isinstance(value, Distribution):
        both = Distribution(value.bounds)
        both.counts = [sum(pair) for pair in zip(before.counts, value.counts, strict=True)]
        both.total = before.total + value.total
        found[labels] = both
    elif name in _LEAST:
        found[labels] = min(before, value)
    elif name in _MOST:
        found[labels] = max(before, value)
    else:
        found[labels] = before + value


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    total = 0
    found = []
    for bound, count in zip([*distribution.bounds, float("inf")], list(distribution.counts), strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return found
