"""The values of metrics, out of tallies, a store's activity and what a database has counted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from workflows_mcp.engine.census import CheckpointCensus
from workflows_mcp.engine.contract import CheckpointStore
from workflows_mcp.engine.observing import StoreActivity
from workflows_mcp.telemetry.pulse import pulse_samples
from workflows_mcp.telemetry.tallies import Distribution, RunTally, StoreTally

__all__ = ["Sample", "of_activity", "of_census", "of_run_tally", "of_store", "of_store_tally"]

Sample = tuple[str, tuple[str, ...], float | Distribution]
"""A metric's name, the values of its labels in their order, and its value."""

_MOST_WORKFLOWS = 50
"""So many workflows are shown by name: each is a time series for as long as the metrics are kept."""

_ACTIVITY = {"log_bytes": "workflows_checkpoint_wal_bytes", "free_bytes": "workflows_checkpoint_disk_free_bytes"}
"""Names that are not the field's own behind `workflows_checkpoint_`."""


def of_store_tally(tally: StoreTally) -> Iterator[Sample]:
    """What a store has done."""
    several: dict[str, Mapping[str, float | Distribution] | Mapping[tuple[str, str], int]] = {
        "workflows_checkpoint_saves": tally.saves,
        "workflows_checkpoint_operation_duration_seconds": tally.durations,
        "workflows_checkpoint_bytes": {name: sizes for name, sizes in list(tally.state_bytes.items()) if sizes.total},
        "workflows_checkpoint_errors": tally.errors,
        "workflows_checkpoint_deletions": tally.deletions,
        "workflows_checkpoint_slow_operations": tally.slow,
        "workflows_checkpoint_retries": tally.retries,
    }
    for name, values in several.items():
        for key, value in list(values.items()):  # a copy: another thread may add to it meanwhile
            yield name, (tally.system, *((key,) if isinstance(key, str) else key)), value
    single: dict[str, float | Distribution] = {
        "workflows_checkpoint_lease_losses": tally.lease_losses,
        "workflows_checkpoint_batch_rows": tally.batch_rows,
        "workflows_checkpoint_batch_bytes": tally.batch_bytes,
        "workflows_checkpoint_commit_duration_seconds": tally.commits,
    }
    for name, one in single.items():
        yield name, (tally.system,), one


def of_run_tally(tally: RunTally) -> Iterator[Sample]:
    """What an executor has done."""
    for continued, count in list(tally.begun.items()):
        yield "workflows_runs_begun", ("true" if continued else "false",), count
    for outcome, count in list(tally.runs.items()):
        yield "workflows_runs", (outcome,), count
    for outcome, count in list(tally.blocks.items()):
        yield "workflows_blocks", (outcome,), count
    yield "workflows_block_duration_seconds", (), tally.block_seconds
    yield "workflows_wave_duration_seconds", (), tally.wave_seconds
    yield "workflows_runs_in_progress", (), len(tally.in_progress)


def of_activity(activity: StoreActivity) -> Iterator[tuple[str, float]]:
    """What a store is doing."""
    for field in fields(activity):
        value = getattr(activity, field.name)
        if value is not None:
            yield _ACTIVITY.get(field.name, f"workflows_checkpoint_{field.name}"), value


def of_store(store: CheckpointStore, values: Iterable[tuple[str, float]]) -> Iterator[Sample]:
    """Values that are a store's, with the label that says so."""
    for name, value in values:
        yield name, (store.system,), value


def of_census(system: str, census: CheckpointCensus) -> Iterator[Sample]:
    """What has been counted. The workflows with the fewest checkpoints are shown together."""
    for name, value in pulse_samples(census.pulse):
        yield name, (system,), value
    for status, count in census.statuses.items():
        yield "workflows_checkpoints_by_status", (system, status), count
    ranked = sorted(census.workflows.items(), key=lambda one: (-one[1].checkpoints, one[0]))
    named, others = ranked[:_MOST_WORKFLOWS], [one for _, one in ranked[_MOST_WORKFLOWS:]]
    shown = {name: (one.checkpoints, one.full_bytes, one.stored_bytes) for name, one in named}
    if others:
        # A workflow may bear this name, too.
        checkpoints, full, stored = shown.get("other", (0, 0, 0))
        shown["other"] = (
            checkpoints + sum(one.checkpoints for one in others),
            full + sum(one.full_bytes for one in others),
            stored + sum(one.stored_bytes for one in others),
        )
    for workflow, (checkpoints, full, stored) in shown.items():
        yield "workflows_checkpoints", (system, workflow), checkpoints
        yield "workflows_checkpoints_full_bytes", (system, workflow), full
        yield "workflows_checkpoints_stored_bytes", (system, workflow), stored
