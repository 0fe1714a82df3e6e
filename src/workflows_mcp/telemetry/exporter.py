"""What Prometheus is shown: the tallies of stores, executors and servers, and what a look at each database tells."""

import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.telemetry.merging import Merged, Seen, of_databases
from workflows_mcp.telemetry.metrics import families
from workflows_mcp.telemetry.pulse import PulseKeeper
from workflows_mcp.telemetry.samples import of_activity, of_run_tally, of_store_tally
from workflows_mcp.telemetry.serving import ServerTally, of_server_tally
from workflows_mcp.telemetry.sharing import Shared
from workflows_mcp.telemetry.tallies import RunTally, StoreTally

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["Exporter"]

_EXPORTERS: "weakref.WeakKeyDictionary[CollectorRegistry, Exporter]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()

_COUNTED = "workflows_checkpoints"
"""How the names of metrics begin that only a census gives."""


@dataclass(frozen=True)
class _Source:
    """How a store is watched."""

    tally: StoreTally
    keeper: PulseKeeper


class Exporter:
    """A collector, in the sense of `prometheus_client`, of all that is watched for one registry."""

    def __init__(self) -> None:
        self._stores: Shared[CheckpointStore, _Source] = Shared()
        self._executors: Shared[WorkflowExecutor, RunTally] = Shared()
        self._servers: list[ServerTally] = []
        # Of all that is watched no more, by the kind of store, so that it stays counted.
        self._past_stores: dict[str, StoreTally] = {}
        self._past_runs = RunTally()
        self._past_calls = ServerTally()
        # Else a tally could be seen twice while it is handed over, and a counter would seem to have fallen. Collecting
        # garbage may end an operation at any place, which is then told here, too.
        self._lock = threading.RLock()

    @classmethod
    def of(cls, registry: "CollectorRegistry | None") -> "Exporter":
        """The exporter of a registry, registered there when it is first asked for; None: the default registry."""
        import prometheus_client as client

        chosen: CollectorRegistry = client.REGISTRY if registry is None else registry
        with _LOCK:
            exporter = _EXPORTERS.get(chosen)
            if exporter is None:
                exporter = cls()
                chosen.register(exporter)
                _EXPORTERS[chosen] = exporter
        return exporter

    def watch_store(self, store: CheckpointStore, pulse_seconds: float) -> Callable[[], None]:
        """Show what a store does from now on; one that is shown already is not counted twice.

        Returns:
            What ends it, once everybody who asked for it has called theirs; what it has done stays counted.
        """

        def attach() -> _Source:
            tally = StoreTally(store.system)
            store.observe(tally)
            return _Source(tally, PulseKeeper(store, tally, pulse_seconds))

        def leave() -> None:
            with self._lock:
                source = self._stores.leave(store, None)
                if source is not None:
                    store.unobserve(source.tally)
                    self._hand_over(source.tally)

        with self._lock:
            self._stores.join(store, None, attach)
        return leave

    def watch_runs(self, executor: WorkflowExecutor) -> Callable[[], None]:
        """Show what an executor does from now on; as `watch_store`."""

        def attach() -> RunTally:
            tally = RunTally()
            executor.add_listener(tally.listen)
            return tally

        def leave() -> None:
            with self._lock:
                tally = self._executors.leave(executor, None)
                if tally is not None:
                    executor.remove_listener(tally.listen)
                    tally.hand_over(self._past_runs, self._lock)

        with self._lock:
            self._executors.join(executor, None, attach)
        return leave

    def watch_server(self, tally: ServerTally) -> Callable[[], None]:
        """Show what a server does, which counts it by itself.

        Returns:
            What ends it; what it has done stays counted.
        """

        def leave() -> None:
            with self._lock:
                self._servers.remove(tally)
                self._past_calls.add_all(tally)

        with self._lock:
            self._servers.append(tally)
        return leave

    def describe(self) -> "Iterable[Metric]":
        """The metrics without values; see `prometheus_client.registry.Collector`."""
        return families({}, all_of_them=True)

    def collect(self) -> "Iterable[Metric]":
        """The metrics as they are now; waits for no database."""
        with self._lock:
            self._sweep()
            sources = list(self._stores)
        # Not under the lock, which the event loop may wait for.
        seen = [
            Seen(store.system, store.description, dict(of_activity(store.activity())), source.keeper.look())
            for store, source in sources
        ]
        merged = Merged()
        for sample in of_databases(seen):
            merged.add(*sample)
        with self._lock:
            for tally in (*self._past_stores.values(), *(source.tally for _, source in self._stores)):
                for sample in of_store_tally(tally):
                    merged.add(*sample)
            for runs in (self._past_runs, *(runs for _, runs in self._executors)):
                for sample in of_run_tally(runs):
                    merged.add(*sample)
            for calls in (self._past_calls, *self._servers):
                for sample in of_server_tally(calls):
                    merged.add(*sample)
        return (family for family in families(merged.samples, all_of_them=True) if not family.name.startswith(_COUNTED))

    def _sweep(self) -> None:
        for source in self._stores.sweep():
            self._hand_over(source.tally)
        for runs in self._executors.sweep():
            runs.hand_over(self._past_runs, self._lock)

    def _hand_over(self, tally: StoreTally) -> None:
        heir = self._past_stores.setdefault(tally.system, StoreTally(tally.system))
        tally.hand_over(heir, self._lock)
