"""What a run is doing, wherever it runs: seen in the store, again and again."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from workflows_mcp.engine.checkpoint import CheckpointMetadata, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.result import RunSummary
from workflows_mcp.engine.run_details import RunDetails, run_details
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.stored_runs import MOST_TRIES
from workflows_mcp.errors import CheckpointDecodeError, CheckpointNotFoundError, SecretError, StoreUnavailableError

__all__ = ["views_of_run"]

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0


async def views_of_run(
    store: CheckpointStore,
    run_id: str,
    secrets: Secrets,
    *,
    keep: bool = False,
    wait: bool = False,
    on_unavailable: Callable[[StoreUnavailableError], None] = lambda _: None,
    on_available: Callable[[], None] = lambda: None,
) -> AsyncGenerator[RunDetails, None]:
    """A run as it is now, and then anew whenever there is more to know, up to its end.

    Looking costs the store a listing of one, at most once in a tenth of a second and at least once a second; a state
    is loaded only when there is a new one. What was saved between two looks is seen as a whole.

    Args:
        store: Where it is kept.
        run_id: Names the run.
        secrets: What must not be shown, should it stand in there.
        keep: Whether to go on while the run waits for an answer.
        wait: Whether to wait for a run that is not there yet.
        on_unavailable: Hears each time that the store cannot be asked; it is asked again, but for the first time.
        on_available: Hears that it answers again, before what it answers is seen.

    Yields:
        The run; of a damaged newest checkpoint, what is known without its state, with the reason as `flaw`.

    Raises:
        CheckpointNotFoundError: There is no such run, or not any more.
        CheckpointStoreError: The store failed.
    """
    with contextlib.suppress(SecretError):  # those that are fit to be secrets are known by now
        secrets.values()
    last: _Sight | None = None
    has_answered, is_away = False, False
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            sight = await _look(store, run_id, last, secrets)
        except StoreUnavailableError as error:
            if not has_answered:
                raise
            is_away = True
            on_unavailable(error)
            sight = last
        else:
            has_answered = True
            if is_away:
                is_away = False
                on_available()
        if sight is None and (last is not None or not wait):
            gone = "is gone: its checkpoints were deleted" if last is not None else "is not there"
            raise CheckpointNotFoundError(f"run {run_id!r} {gone}")
        if sight is not None and sight is not last:
            last, pause = sight, _FIRST_PAUSE_SECONDS
            yield sight.view
            if sight.view.status != "running" and not (keep and sight.view.status == "paused"):
                return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True)
class _Sight:
    """What was seen of a run.

    Attributes:
        head: How its newest checkpoint was listed.
        is_abandoned: Whether nobody worked on it then.
        state: The state; None: it is damaged.
        view: What that comes to.
    """

    head: CheckpointMetadata
    is_abandoned: bool
    state: CheckpointState | None
    view: RunDetails


async def _look(store: CheckpointStore, run_id: str, last: _Sight | None, secrets: Secrets) -> _Sight | None:
    """What is to be seen of a run; the last sight itself when there is nothing new, None when there is no run."""
    for _ in range(MOST_TRIES):
        found = await store.list_checkpoints(run_id=run_id, limit=1)
        if not found:
            return None
        head, is_abandoned = found[0], RunSummary.of(found[0]).is_abandoned
        if last is not None and head == last.head and is_abandoned is last.is_abandoned:
            return last
        state: CheckpointState | None
        if last is not None and _is_same_but_for_lease(head, last.head):
            if is_abandoned is last.is_abandoned or last.state is None:
                view = dataclasses.replace(last.view, lease_expires_at=head.lease_expires_at)
                return _Sight(head, is_abandoned, last.state, view)
            state = last.state
        else:
            try:
                state = await store.load_checkpoint(head.checkpoint_id)
            except CheckpointDecodeError as error:
                return _Sight(head, is_abandoned, None, _without_state(head, str(error), secrets))
        if state is not None:
            return _Sight(head, is_abandoned, state, await run_details(head, state, secrets))
    return last  # whoever deletes them is quicker; the next look tells


def _is_same_but_for_lease(one: CheckpointMetadata, other: CheckpointMetadata) -> bool:
    return dataclasses.replace(one, lease_expires_at=other.lease_expires_at) == other


def _without_state(head: CheckpointMetadata, flaw: str, secrets: Secrets) -> RunDetails:
    listed = RunSummary.of(head)
    known = {one.name: getattr(listed, one.name) for one in dataclasses.fields(RunSummary)}
    return RunDetails(**{**known, "prompt": secrets.scrub(listed.prompt)}, flaw=flaw)
