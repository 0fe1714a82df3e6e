"""What a store tells whoever watches it: operations, commits, repeated attempts. It knows nobody by name.

A store without observers pays one question for each call. An observer is called where things happen, in the event
loop, so it must be quick; what it raises is logged, and harms no call. It is told sizes, times and names, and never
a payload, a prompt or an answer.
"""

import functools
import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflows_mcp.engine.checkpoint import CheckpointState
from workflows_mcp.errors import CheckpointStoreError

if TYPE_CHECKING:
    from workflows_mcp.engine.contract import CheckpointStore

__all__ = ["OPERATIONS", "Operation", "StoreActivity", "StoreObserver", "note_bytes", "observe_methods", "tell"]

_log = logging.getLogger(__name__)

OPERATIONS = {
    "save_checkpoint": "save",
    "load_checkpoint": "load",
    "list_checkpoints": "list",
    "claim_checkpoint": "claim",
    "renew_lease": "renew",
    "release_claim": "release",
    "list_abandoned": "list_abandoned",
    "pin_checkpoint": "pin",
    "delete_checkpoint": "delete",
    "delete_run": "delete_run",
    "cleanup_expired": "expire",
    "trim_per_workflow": "trim",
    "get_stats": "stats",
    "vacuum": "vacuum",
}
"""What the operations are called, by the methods of a store."""

_ABOUT = {
    "save": "state",
    **dict.fromkeys(("load", "claim", "renew", "release", "pin", "delete"), "checkpoint_id"),
    "delete_run": "run_id",
}
"""What the first argument of an operation is called, where that says which checkpoint it is about."""

_IDS = {"checkpoint_id": "checkpoint", "run_id": "run"}
"""What an id is called among the names that are known, by the argument that it is."""


class Operation:
    """One call of a store's method.

    Attributes:
        name: Which operation; one of the values of `OPERATIONS`.
        database: What kind of store it is, as its `system` says.
        plain_bytes: The plain JSON of the state that was saved or loaded; 0: there was none.
        seconds: How long it took; 0 until it has ended.
        error: What it raised; None: it succeeded, or is under way.
    """

    # What few observers ask for is worked out when they do: most only count.
    __slots__ = ("_result", "_subject", "database", "error", "name", "plain_bytes", "seconds")

    def __init__(self, name: str, database: str, subject: object) -> None:
        self.name = name
        self.database = database
        self.plain_bytes = 0
        self.seconds = 0.0
        self.error: BaseException | None = None
        self._subject = subject
        self._result: object = None

    @property
    def names(self) -> dict[str, str]:
        """What is known of the checkpoint that it is about: `workflow`, `checkpoint` and `run`."""
        found: dict[str, str | None] = {}
        for about in (self._subject, self._result):
            if isinstance(about, CheckpointState):
                found = {"workflow": about.workflow_name, "checkpoint": about.checkpoint_id, "run": about.run_id}
        name = _IDS.get(_ABOUT.get(self.name, ""))
        if not found and isinstance(self._subject, str) and name is not None:
            found = {name: self._subject}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def rows(self) -> int | None:
        """How many checkpoints were listed, deleted or changed; None: that makes no sense for it."""
        result = self._result
        if isinstance(result, list):
            return len(result)
        return int(result) if isinstance(result, int) else None  # a bool, too: it was there, or not

    def end(self, seconds: float, result: object, error: BaseException | None) -> None:
        """Note how it ended."""
        self.seconds, self._result, self.error = seconds, result, error


class StoreObserver:
    """Is told what a store does; override what you want to know."""

    def began(self, operation: Operation) -> object:
        """An operation begins, in the task that asked for it; returns what `ended` is to be given with it."""

    def ended(self, operation: Operation, mark: object) -> None:
        """It has ended, in the same task, in one way or another."""

    def committed(self, rows: int, payload_bytes: int, seconds: float) -> None:
        """Some saves were committed together; their payloads have so many bytes as they are stored."""

    def slowed(self, operation: str, seconds: float) -> None:
        """A call to the database took longer than the settings call slow."""

    def retried(self, error: CheckpointStoreError) -> None:
        """An attempt failed, and another one is made."""


@dataclass(frozen=True)
class StoreActivity:
    """What a store is doing at this moment. Looking at it asks no database.

    Attributes:
        pool_size: How many connections its pool may have; None: there is no pool.
        pool_in_use: How many of them are in use.
        held_connections: How many it holds besides, for saving and for loading.
        queued_saves: How many saves and changes wait to be committed, or are being so.
        queued_bytes: About how many bytes they have.
        log_bytes: The size of the write-ahead log, where that is a file beside the database.
        free_bytes: The space that is left where the database is, where this machine can tell.
    """

    pool_size: int | None = None
    pool_in_use: int = 0
    held_connections: int = 0
    queued_saves: int = 0
    queued_bytes: int = 0
    log_bytes: int | None = None
    free_bytes: int | None = None


_UNDER_WAY: ContextVar[tuple[tuple["CheckpointStore", Operation], ...]] = ContextVar("operations", default=())
"""What is watched here, each store with its operation, from the outermost to the innermost: a store may be made of
others that are watched as well, whereas one that calls itself does so as a part of its operation."""


def note_bytes(size: int) -> None:
    """Note how large the state is that the innermost operation under way is about, if anybody wants to know."""
    under_way = _UNDER_WAY.get()
    if under_way:
        under_way[-1][1].plain_bytes += size


def observe_methods(store_type: "type[CheckpointStore]") -> None:
    """Have the methods of a class of stores tell the observers of each store."""
    for method_name, name in OPERATIONS.items():
        method = getattr(store_type, method_name)
        if not hasattr(method, "tells_observers"):
            setattr(store_type, method_name, _observed(name, method))


def tell(call: Callable[..., object], *arguments: object) -> object:
    """Tell an observer something; what it raises is logged."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever a watcher does wrong, the call goes on
        _warn(error)
        return None


def _warn(error: Exception) -> None:
    # Not the traceback, nor the text: they may show what is stored.
    _log.warning("an observer failed: %s", type(error).__name__)


def _observed(name: str, method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    # A coroutine function, as what it wraps: mocks and frameworks ask what a method is before they call it.
    @functools.wraps(method)
    async def call(store: "CheckpointStore", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - any method's
        if not store.observers:
            return await method(store, *arguments, **options)
        return await _watch(name, method, store, arguments, options)

    call.tells_observers = True  # type: ignore[attr-defined] # so that a class that inherits it does not tell twice
    return call


async def _watch(
    name: str,
    method: Callable[..., Coroutine[Any, Any, Any]],
    store: "CheckpointStore",
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:  # noqa: ANN401 - what the method returns
    under_way = _UNDER_WAY.get()
    if any(one is store for one, _ in under_way):  # a part of another operation
        return await method(store, *arguments, **options)
    observers = store.observers
    # By name, and not whichever option comes first: that may be the token of a lease's owner.
    operation = Operation(name, store.system, arguments[0] if arguments else options.get(_ABOUT.get(name, "")))
    token = _UNDER_WAY.set((*under_way, (store, operation)))
    marks = _begin(observers, operation)
    error: BaseException | None = None
    result = None
    started = time.perf_counter()
    try:
        result = await method(store, *arguments, **options)
    except BaseException as raised:
        error = raised
        raise
    finally:
        operation.end(time.perf_counter() - started, result, error)
        error = None  # which its own traceback leads to, so that it would be kept for long
        _UNDER_WAY.reset(token)
        _end(observers, operation, marks)
    return result


def _begin(observers: "tuple[StoreObserver, ...]", operation: Operation) -> list[object]:
    # Here and below not by `tell`, which takes as long as what it calls.
    marks = []
    for observer in observers:
        mark = None
        try:
            mark = observer.began(operation)
        except Exception as error:  # noqa: BLE001 - as in `tell`
            _warn(error)
        marks.append(mark)
    return marks


def _end(observers: "tuple[StoreObserver, ...]", operation: Operation, marks: list[object]) -> None:
    for observer, mark in zip(observers, marks, strict=True):
        try:
            observer.ended(operation, mark)
        except Exception as error:  # noqa: BLE001 - as in `tell`
            _warn(error)
    operation.error = None
