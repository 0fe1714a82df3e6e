"""The process that the demo kills: runs a workflow, and tells its parent step by step what happens.

It reads a job, one line of JSON, from stdin, and writes lines of JSON to stdout: an event each, at last the result
or an error. After each event it waits for a line from its parent. So the parent can kill it at exactly the step
that it chose, while the blocks' own processes go on working; and when the parent is gone, it stops.
"""

import asyncio
import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from workflows_mcp.cli.failures import explain
from workflows_mcp.cli.waiting import recover_when_free

if TYPE_CHECKING:
    from workflows_mcp.engine.events import Event
    from workflows_mcp.engine.executor import WorkflowExecutor, WorkflowResult

__all__ = ["main"]


def main() -> None:
    """Do the job that stands on stdin."""
    job = json.loads(sys.stdin.readline())
    told: dict[str, Any]
    try:
        result = asyncio.run(_work(job))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells it
        told = {"error": explain(error).line.removeprefix("error: ")}
    else:
        told = {"result": result.to_dict()}
    with contextlib.suppress(OSError):  # the parent may be gone
        _write(told)


async def _work(job: dict[str, Any]) -> "WorkflowResult":
    from workflows_mcp.engine.executor import WorkflowExecutor
    from workflows_mcp.persistence.store import create_checkpoint_store
    from workflows_mcp.settings import load_settings

    me = asyncio.current_task()
    assert me is not None

    async def tell(event: "Event") -> None:
        if not _tell_parent({"event": type(event).__name__, **dataclasses.asdict(event)}):
            me.cancel()

    settings = load_settings(job["env_file"], database_url=job["database_url"])
    async with create_checkpoint_store(settings=settings) as store:
        executor = WorkflowExecutor(store, on_event=tell, lease_seconds=job["lease_seconds"])
        return await _call(executor, job)


async def _call(executor: "WorkflowExecutor", job: dict[str, Any]) -> "WorkflowResult":
    if job["action"] == "run":
        workflow = executor.load_workflow(job["workflow"])
        return await executor.execute_workflow(workflow, job["inputs"], run_id=job["run_id"])
    if job["action"] == "recover":
        return await recover_when_free(executor.checkpoint_store, job["run_id"], executor.recover)
    return await executor.resume_workflow(job["checkpoint_id"], job["response"])


def _tell_parent(message: dict[str, Any]) -> bool:
    """Tell something, and wait until the parent says to go on; False: there is no parent any more."""
    try:
        _write(message)
        return sys.stdin.readline() != ""  # blocks the loop on purpose: not a step further meanwhile
    except OSError:
        return False


def _write(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
