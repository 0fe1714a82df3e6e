"""Every metric: its name, its labels and what it says. `docs/monitoring.md` lists the same."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["METRICS", "Metric", "MetricKind"]


class MetricKind(Enum):
    """What a metric is, to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: Without the suffixes that Prometheus adds: `_total`, `_bucket` and the like.
        kind: What it is.
        text: What it says.
        labels: Each takes few values: never an id, nor text from a workflow or an error's message.
    """

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()


_STORE = ("database",)
_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

METRICS = (
    Metric("workflows_checkpoint_saves", _C, "Saves, by how they ended: ok, error, cancelled.", (*_STORE, "status")),
    Metric(
        "workflows_checkpoint_operation_duration_seconds",
        _H,
        "How long a store's operations took, waiting for their turn included.",
        (*_STORE, "operation"),
    ),
    Metric("workflows_checkpoint_bytes", _H, "Plain JSON bytes of states, by operation.", (*_STORE, "operation")),
    Metric(
        "workflows_checkpoint_errors",
        _C,
        "Operations that failed, by the class of the error.",
        (*_STORE, "operation", "error"),
    ),
    Metric("workflows_checkpoint_deletions", _C, "Checkpoints that were deleted.", (*_STORE, "operation")),
    Metric("workflows_checkpoint_lease_losses", _C, "Calls that found their run taken over, or ended.", _STORE),
    Metric(
        "workflows_checkpoint_retries", _C, "Attempts that were made again, by what had failed.", (*_STORE, "error")
    ),
    Metric(
        "workflows_checkpoint_slow_operations",
        _C,
        "Calls to the database that took longer than WORKFLOWS_SLOW_OPERATION_SECONDS.",
        (*_STORE, "operation"),
    ),
    Metric("workflows_checkpoint_batch_rows", _H, "How many saves shared a commit.", _STORE),
    Metric("workflows_checkpoint_batch_bytes", _H, "Payload bytes of a commit, as they are stored.", _STORE),
    Metric("workflows_checkpoint_commit_duration_seconds", _H, "How long commits took.", _STORE),
    Metric("workflows_checkpoint_pool_size", _G, "Connections that the pool may have.", _STORE),
    Metric("workflows_checkpoint_pool_in_use", _G, "Connections of the pool that are in use.", _STORE),
    Metric("workflows_checkpoint_held_connections", _G, "Connections held for saving and loading.", _STORE),
    Metric("workflows_checkpoint_queued_saves", _G, "Saves and changes that wait or are being committed.", _STORE),
    Metric("workflows_checkpoint_queued_bytes", _G, "About how many bytes they have.", _STORE),
    Metric("workflows_checkpoint_wal_bytes", _G, "Size of the write-ahead log, where that is a file.", _STORE),
    Metric("workflows_checkpoint_disk_free_bytes", _G, "Space left where the database's file is.", _STORE),
    Metric("workflows_checkpoint_up", _G, "1: the database answered when it was asked last; 0: it did not.", _STORE),
    Metric("workflows_checkpoint_database_bytes", _G, "What the table and its indexes, or the file, take up.", _STORE),
    Metric("workflows_paused_runs", _G, "Checkpoints that wait for an answer.", _STORE),
    Metric("workflows_oldest_pause_seconds", _G, "How long the oldest of them has waited; 0: none waits.", _STORE),
    Metric("workflows_leased_runs", _G, "Runs that some process holds.", _STORE),
    Metric("workflows_abandoned_runs", _G, "Runs whose process is gone, which `recover` goes on with.", _STORE),
    Metric("workflows_runs_begun", _C, "Runs that began here, or went on (continued).", ("continued",)),
    Metric(
        "workflows_runs",
        _C,
        "What runs came to here: success, failure, paused; or they stopped: cancelled, lost, failed.",
        ("outcome",),
    ),
    Metric("workflows_blocks", _C, "What blocks, and items of blocks, came to.", ("outcome",)),
    Metric("workflows_block_duration_seconds", _H, "How long blocks took that began here."),
    Metric("workflows_wave_duration_seconds", _H, "How long waves took."),
    Metric("workflows_runs_in_progress", _G, "Runs that are at work here."),
    Metric(
        "workflows_http_requests",
        _C,
        "Requests over HTTP, by route and the status of the answer (none: the client went away before it).",
        ("route", "status"),
    ),
    Metric("workflows_http_request_duration_seconds", _H, "How long it took until answers began.", ("route",)),
    Metric("workflows_http_requests_in_progress", _G, "Requests that are being answered, streams included."),
    Metric(
        "workflows_http_connections_closed",
        _C,
        "Connections that were closed on their clients: crowded (there were too many), silent (no request in time), "
        "unread (an answer was not read in time).",
        ("reason",),
    ),
    Metric(
        "workflows_tool_calls",
        _C,
        "Calls of tools, by what they came to: ok, error, refused, asked (a question to the client), cancelled.",
        ("tool", "outcome"),
    ),
    Metric("workflows_tool_call_duration_seconds", _H, "How long they took.", ("tool",)),
    Metric(
        "workflows_checkpoints",
        _G,
        "Checkpoints by workflow; small workflows together are `other`. Only from `stats --prometheus`.",
        (*_STORE, "workflow"),
    ),
    Metric(
        "workflows_checkpoints_full_bytes",
        _G,
        "Their states' bytes as plain JSON. Only from `stats --prometheus`.",
        (*_STORE, "workflow"),
    ),
    Metric(
        "workflows_checkpoints_stored_bytes",
        _G,
        "Their payload bytes as stored. Only from `stats --prometheus`.",
        (*_STORE, "workflow"),
    ),
    Metric(
        "workflows_checkpoints_by_status",
        _G,
        "Checkpoints by the status that they were saved with. Only from `stats --prometheus`.",
        (*_STORE, "status"),
    ),
)
