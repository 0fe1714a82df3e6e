"""What a server works with, from its start to its end: settings, library, store, executor."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workflows_mcp.errors import CheckpointStoreError
from workflows_mcp.server.progress import listen
from workflows_mcp.server.reader import Reader
from workflows_mcp.wiring import is_in_memory, make_executor, open_library, prepare_database

if TYPE_CHECKING:
    from pathlib import Path

    from workflows_mcp.engine.checkpoint_store import CheckpointStore
    from workflows_mcp.engine.disabling import DisabledBlocks
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.engine.finding import PlanFinder
    from workflows_mcp.engine.library import WorkflowLibrary
    from workflows_mcp.engine.secrets import Secrets
    from workflows_mcp.settings import Settings

__all__ = ["GRACE_SECONDS", "Services", "open_services"]

GRACE_SECONDS = 1.0
"""How long blocks may go on when a server ends that its client has started: the client kills it soon after."""

_SECONDS_BETWEEN_TRIES = 5.0

_SECONDS_BETWEEN_LOOKS = 5.0
"""How often a server looks for runs to go on with, at the least: what another one let go of is not to stand still."""

_SECONDS_FOR_THE_FIRST_CALLS = 0.5
"""How long a server that was not to open at once leaves the processor to the client's first questions."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    store: "CheckpointStore"
    executor: "WorkflowExecutor"


class Services:
    """What the tools of one server share.

    Attributes:
        settings: What the environment says.
        reader: Reads the texts of workflows that clients send.

    Args:
        settings: What the environment says.
        at_the_end: Closes what is opened.
        looks_after: Whether a new database gets its schema.
    """

    def __init__(
        self, settings: "Settings", at_the_end: contextlib.AsyncExitStack, *, looks_after: bool = True
    ) -> None:
        self.settings = settings
        self._looks_after = looks_after
        self.reader = Reader()
        self._at_the_end = at_the_end
        self._opened: _Opened | None = None
        self._is_prepared = False
        self._attempt: asyncio.Task[None] | None = None
        self._in_turn = asyncio.Lock()

    @cached_property
    def library(self) -> "WorkflowLibrary":
        """The workflows that are found by name."""
        return open_library(self.settings)

    @cached_property
    def finder(self) -> "PlanFinder":
        """Makes the library's workflows ready to be looked at, each once, also those that cannot run here."""
        from workflows_mcp.engine.finding import PlanFinder

        return PlanFinder(self.library)

    @cached_property
    def disabled(self) -> "DisabledBlocks":
        """The block types that are switched off here."""
        from workflows_mcp.engine.disabling import DisabledBlocks

        return DisabledBlocks(self.settings.disabled_blocks)

    @cached_property
    def _secrets(self) -> "Secrets":
        from workflows_mcp.engine.secrets import Secrets

        return Secrets()

    def without_secrets(self, value: Any) -> Any:  # noqa: ANN401 - JSON data
        """The value with `***` for every secret that there is now: what was saved before it was one may hold it."""
        return self._secrets.scrub_now(value)

    @property
    def store(self) -> "CheckpointStore":
        """Keeps the checkpoints; there is none before `open` or `prepare`."""
        return self._what_is_open.store

    @property
    def executor(self) -> "WorkflowExecutor":
        """Runs the workflows; there is none before `open` or `prepare`.

        It goes on with runs whose process is gone, and does retention, once the database is fit to be used.
        """
        return self._what_is_open.executor

    @property
    def _what_is_open(self) -> _Opened:
        if self._opened is None:
            raise RuntimeError("nothing is open yet: await prepare() first")
        return self._opened

    async def stop(self, grace_seconds: float) -> None:
        """Bring runs that are at work to a stop; see `WorkflowExecutor.stop`. No database is prepared any more."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        if self._opened is not None:
            await self._opened.executor.stop(grace_seconds)

    async def open(self) -> None:
        """Make store and executor, unless that is done; nothing in the database is looked at.

        Raises:
            StoreConfigurationError: A setting is wrong.
        """
        async with self._in_turn:
            await self._open()

    @property
    def seconds_between_looks(self) -> float:
        """Seconds between two looks for runs that nobody works on: one is taken over within two lease times."""
        return min(_SECONDS_BETWEEN_LOOKS, self.settings.lease_seconds / 2)

    async def prepare(self) -> None:
        """Make the database fit to be used, unless that is done: a new one gets its schema.

        Raises:
            CheckpointStoreError: It cannot be used now; the next call tries again.
        """
        if self._is_prepared:
            return
        # One attempt is for all that wait: each takes as long as a database that is away is given to answer.
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._prepare(), name="prepare the database")
            self._attempt.add_done_callback(_note_error)
        await asyncio.shield(self._attempt)

    async def _prepare(self) -> None:
        async with self._in_turn:
            opened = await self._open()
            if self._looks_after and not is_in_memory(self.settings):
                created = await prepare_database(self.settings)
                if created is not None:
                    _log.info("created the %s", created)
            await opened.store.list_checkpoints(limit=0)
            self._is_prepared = True

    async def _open(self) -> _Opened:
        if self._opened is None:
            # In a thread: what is loaded takes longer than all the rest of the start, and keys may have to be fetched.
            store = await asyncio.to_thread(_make_store, self.settings)
            await self._at_the_end.enter_async_context(store)
            executor = make_executor(
                store,
                self.settings,
                library=self.library,
                on_event=listen,
                recover_every_seconds=self.seconds_between_looks,
                runs_outlive_callers=True,
            )
            if self.settings.log_format == "json":
                from workflows_mcp.telemetry.logs import RunLog

                executor.add_listener(RunLog().listen)
            self._opened = _Opened(store, executor)
        return self._opened


def _note_error(attempt: "asyncio.Task[None]") -> None:
    """Keep Python from telling of an error that everybody has stopped waiting for."""
    if not attempt.cancelled():
        attempt.exception()


def _make_store(settings: "Settings") -> "CheckpointStore":
    import workflows_mcp.engine.executor  # noqa: F401 - loaded here, it keeps no event loop waiting
    from workflows_mcp.persistence.store import create_checkpoint_store

    return create_checkpoint_store(settings=settings)


@asynccontextmanager
async def open_services(
    settings: "Settings", *, at_once: bool = True, looks_after: bool = True, grace_seconds: float = GRACE_SECONDS
) -> AsyncIterator[Services]:
    """What a server works with. A database that cannot be reached is no reason not to start: tools say what is wrong.

    At its end, runs that are at work are brought to a stop, from where any server goes on with them soon.

    Args:
        settings: What the environment says.
        at_once: Whether store and executor are made before anything else; otherwise by the first call that needs
            them, or a moment later: loading them takes as long as a client waits for its first answer anyhow.
        looks_after: Whether the server looks after the database unasked: a new one gets its schema, runs whose process
            is gone are gone on with, old checkpoints are deleted as the settings say.
        grace_seconds: How long the blocks that are under way at the end may go on.

    Raises:
        StoreConfigurationError: A setting is wrong, which no waiting mends. If nothing is made at once, tools say so.
    """
    async with contextlib.AsyncExitStack() as at_the_end:
        services = Services(settings, at_the_end, looks_after=looks_after)
        if at_once:
            await services.open()
        seconds = 0.0 if at_once else _SECONDS_FOR_THE_FIRST_CALLS
        beginning = [
            asyncio.create_task(
                _begin(services, at_the_end, seconds, looks_after=looks_after), name="begin the server's work"
            ),
            # A task of its own: a folder of another machine may take its time, which no run is to wait for.
            asyncio.create_task(_look_at_folders(settings.template_paths, seconds), name="look at the folders"),
        ]
        try:
            yield services
        finally:
            for task in beginning:
                task.cancel()
            await services.stop(grace_seconds)
            await asyncio.wait(beginning)


async def _begin(
    services: Services, at_the_end: contextlib.AsyncExitStack, seconds: float, *, looks_after: bool
) -> None:
    """Let the executor work in the background, if it is to, as soon as there is a database to work on."""
    await asyncio.sleep(seconds)
    told = ""
    while True:
        try:
            await services.prepare()
            break
        except CheckpointStoreError as error:
            if str(error) != told:
                told = str(error)
                _log.warning("the database cannot be used, and is tried again: %s", told)
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
    if looks_after:
        await at_the_end.enter_async_context(services.executor)


async def _look_at_folders(folders: "tuple[Path, ...]", seconds: float) -> None:
    await asyncio.sleep(seconds)
    if folders:
        await asyncio.to_thread(_warn_of_folders, folders)


def _warn_of_folders(folders: "tuple[Path, ...]") -> None:
    """Say which folders of workflows cannot be read, as a whole: what they hold is only missed when somebody asks."""
    for folder in folders:
        try:
            os.scandir(folder).close()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            _log.warning("the folder %r of WORKFLOWS_TEMPLATE_PATHS cannot be read: %s", str(folder.absolute()), why)
