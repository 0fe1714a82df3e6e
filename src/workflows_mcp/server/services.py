"""What a server works with, from its start to its end: settings, store, library, executor."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.disabling import DisabledBlocks
from workflows_mcp.engine.executor import WorkflowExecutor
from workflows_mcp.engine.finding import PlanFinder
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.errors import CheckpointStoreError, SecretError
from workflows_mcp.server.progress import listen
from workflows_mcp.wiring import is_in_memory, make_executor, open_library, prepare_database

if TYPE_CHECKING:
    from workflows_mcp.settings import Settings

__all__ = ["GRACE_SECONDS", "Services", "open_services"]

GRACE_SECONDS = 1.0
"""How long blocks may go on when a server ends that its client has started: the client kills it soon after."""

_SECONDS_BETWEEN_TRIES = 5.0

_log = logging.getLogger(__name__)


@dataclass
class Services:
    """What the tools of one server share.

    Attributes:
        settings: What the environment says.
        store: Keeps the checkpoints.
        library: The workflows that are found by name.
        executor: Runs them. It goes on with runs whose process is gone, and does retention, once the database is fit
            to be used.
    """

    settings: "Settings"
    store: CheckpointStore
    library: WorkflowLibrary
    executor: WorkflowExecutor
    _is_prepared: bool = False
    _preparing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @functools.cached_property
    def _secrets(self) -> Secrets:
        return Secrets()

    def without_secrets(self, value: Any) -> Any:  # noqa: ANN401 - JSON data
        """The value with `***` for every secret that there is now: what was saved before it was one may hold it."""
        with contextlib.suppress(SecretError):  # those that are fit to be secrets are known by now
            self._secrets.values()
        return self._secrets.scrub(value)

    @functools.cached_property
    def finder(self) -> PlanFinder:
        """Makes the library's workflows ready to be looked at, each once, also those that cannot run here."""
        return PlanFinder(self.library)

    @functools.cached_property
    def disabled(self) -> DisabledBlocks:
        """The block types that are switched off here."""
        return DisabledBlocks(self.settings.disabled_blocks)

    async def prepare(self) -> None:
        """Make the database fit to be used, unless that is done: a new one gets its schema.

        Raises:
            CheckpointStoreError: It cannot be used now; the next call tries again.
        """
        if self._is_prepared:
            return
        async with self._preparing:
            if self._is_prepared:
                return
            if not is_in_memory(self.settings):
                created = await prepare_database(self.settings)
                if created is not None:
                    _log.info("created the %s", created)
            await self.store.list_checkpoints(limit=0)
            self._is_prepared = True


@asynccontextmanager
async def open_services(settings: "Settings", *, grace_seconds: float = GRACE_SECONDS) -> AsyncIterator[Services]:
    """What a server works with. A database that cannot be reached is no reason not to start: tools say what is wrong.

    At its end, runs that are at work are brought to a stop, from where any server can go on with them at once.

    Args:
        settings: What the environment says.
        grace_seconds: How long the blocks that are under way then may go on.

    Raises:
        StoreConfigurationError: A setting is wrong, which no waiting mends.
    """
    from workflows_mcp.persistence.store import create_checkpoint_store

    library = open_library(settings)
    async with create_checkpoint_store(settings=settings) as store:
        # Half a lease after it ran out at the latest, a run is found: taken over within two lease times.
        executor = make_executor(
            store,
            settings,
            library=library,
            on_event=listen,
            recover_every_seconds=settings.lease_seconds / 2,
            runs_outlive_callers=True,
        )
        services = Services(settings, store, library, executor)
        async with contextlib.AsyncExitStack() as at_the_end:
            beginning = asyncio.create_task(_begin(services, at_the_end), name="begin the server's work")
            try:
                yield services
            finally:
                beginning.cancel()
                await executor.stop(grace_seconds)
                await asyncio.wait([beginning])


async def _begin(services: Services, at_the_end: contextlib.AsyncExitStack) -> None:
    """Let the executor work in the background, as soon as there is a database to work on."""
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
    await at_the_end.enter_async_context(services.executor)
