"""Whether the server can do its work now, for those who send it requests. Why not is told in the log."""

import asyncio
import json
import logging
from typing import Literal

from workflows_mcp.errors import CheckpointStoreError, SchemaOutOfDateError, SchemaTooNewError
from workflows_mcp.server.http.exchange import Receive, Scope, Send, reply
from workflows_mcp.server.services import Services

__all__ = ["Readiness", "answer_alive"]

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 2.0
"""How long the database may take to answer: probes give up after a second or some."""

_FRESH_SECONDS = 1.0
"""How long what was found holds. Anybody may ask, as often as he likes, and must not keep the database busy."""

State = Literal["ready", "stopping", "database", "schema"]


class Readiness:
    """Looks whether the database can be used, when somebody asks.

    Attributes:
        is_stopping: Whether the server is about to end.

    Args:
        services: Have the database that is looked at.
    """

    def __init__(self, services: Services) -> None:
        self.is_stopping = False
        self._services = services
        self._looking: asyncio.Task[State] | None = None
        self._looked_at = float("-inf")
        self._told: State = "ready"

    async def state(self) -> State:
        """`ready`; or `stopping`, or what is not right: the `database` does not answer, its `schema` is another."""
        loop = asyncio.get_running_loop()
        if self._looking is None or (self._looking.done() and loop.time() - self._looked_at >= _FRESH_SECONDS):
            self._looked_at = loop.time()
            self._looking = loop.create_task(self._look())
        looking = self._looking
        await asyncio.wait({looking}, timeout=max(self._looked_at + _PATIENCE_SECONDS - loop.time(), 0))
        if self.is_stopping:
            return "stopping"
        found: State = looking.result() if looking.done() and not looking.cancelled() else "database"
        if found != self._told:
            self._tell(found, f"the database has not answered for {_PATIENCE_SECONDS:g} s")
        return found

    async def answer(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve the state: 200 when it is ready, else 503."""
        state = await self.state()
        body = json.dumps({"status": "ready"} if state == "ready" else {"status": "not ready", "reason": state})
        await reply(send, 200 if state == "ready" else 503, f"{body}\n", kind="application/json")

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self) -> State:
        found, why = await _found(self._services)
        if found != self._told:
            self._tell(found, why)
        return found

    def _tell(self, state: State, why: str) -> None:
        self._told = state
        if state == "ready":
            _log.info("the server is ready again")
        else:
            _log.warning("the server is not ready: %s", why, extra={"fields": {"reason": state}})


async def _found(services: Services) -> tuple[State, str]:
    try:
        await services.prepare()  # where it has just begun, the database may be about to get its schema
        await services.store.check()
    except (SchemaOutOfDateError, SchemaTooNewError) as error:
        return "schema", str(error)
    except CheckpointStoreError as error:
        return "database", str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the database cannot be used; its text may quote what is stored
        return "database", type(error).__name__
    return "ready", ""


async def answer_alive(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Serve that the process is there, and its event loop turns."""
    await reply(send, 200, '{"status": "ok"}\n', kind="application/json")
