"""The demo's acts, each of which does something and shows what came of it."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows_mcp.cli.checkpoints import show_checkpoints
from workflows_mcp.cli.database import open_store, prepare_database
from workflows_mcp.cli.demo.process import Worker, start_worker
from workflows_mcp.cli.demo.record import Record
from workflows_mcp.cli.failures import CommandError
from workflows_mcp.cli.live import watch_run
from workflows_mcp.cli.options import Options, command_line
from workflows_mcp.cli.page import Page

if TYPE_CHECKING:
    from workflows_mcp.engine.checkpoint import CheckpointMetadata

__all__ = ["Story"]


# Somebody is watching, and a huge folder is not what is to be seen.
_SECONDS_A_CHECK = 4

# Short, for the same reason: the process that recovers the run waits until the dead one's lease has run out.
_LEASE_SECONDS = 2.0


class Story:
    """The demo, act by act.

    Args:
        page: Where it is told.
        workflow: The workflow's file.
        folder: The folder that the workflow looks at.
        options: Names the database.
        owns_database: Whether the database is in a folder that was made for the demo.
    """

    def __init__(self, page: Page, workflow: Path, folder: Path, options: Options, *, owns_database: bool) -> None:
        from workflows_mcp.engine.progress import new_id

        self.run_id = new_id()
        self._page = page
        self._workflow = workflow
        self._folder = folder
        self._options = options
        self._owns_database = owns_database
        self._settings = options.settings()
        self._record = Record()
        self._result: dict[str, Any] = {}
        self._killed: dict[str, Any] = {}

    async def prepare(self) -> None:
        """Say what is going to happen, and make the database ready."""
        from workflows_mcp.persistence.database import describe_database

        await prepare_database(self._settings, create=True, quiet=True)
        await self._checkpoints()  # a database that cannot be used is found before the story begins
        database = describe_database(self._settings.url, self._settings)
        page = self._page
        page.line("A workflow that survives kill -9", style="bold")
        page.line()
        page.line(f"workflow   {self._workflow}")
        page.line(f"folder     {self._folder} (nothing in it is changed)")
        page.line(f"database   {database}")

    async def run_and_kill(self) -> None:
        """Let a first process run the workflow, and kill it in the middle of a wave."""
        inputs = {"path": str(self._folder), "max_seconds": _SECONDS_A_CHECK}
        async with start_worker(
            **self._job("run"), workflow=str(self._workflow), inputs=inputs, run_id=self.run_id
        ) as worker:
            self._page.heading(f"1. Process {worker.pid} runs the workflow")
            await self._follow(worker, until_killed=True)
            self._page.line()
            self._page.line(f"kill -9 {worker.pid}", style="bold red")
            await worker.kill()
        at_work = self._record.killed(worker.pid)
        self._killed = {"pid": worker.pid, "signal": worker.signal, "blocks": at_work}
        self._page.prose(f"Gone, with the commands that it was running: {', '.join(at_work)}.")

    async def look_into_database(self) -> None:
        """Show what the database still knows."""
        self._page.heading("2. What the database still knows")
        found = await self._checkpoints()
        show_checkpoints(self._page, found, of_one_run=True)
        async with open_store(self._options) as store:
            state = await store.load_checkpoint(found[0].checkpoint_id)
        assert state is not None
        self._record.saved = list(state.completed_blocks)
        self._page.line()
        self._page.prose(f"Saved as done: {', '.join(self._record.saved)}.")
        unsaved = self._record.finished_unsaved()
        self._page.prose(
            f"Not saved: {', '.join(unsaved)}. A checkpoint is saved after each wave, and this wave was not over: "
            "its blocks run again."
        )
        self._page.prose(
            f"The dead process still holds the run, by a lease of {_LEASE_SECONDS:g} s that it renewed while it was "
            "alive: until that runs out, nobody else may go on."
        )

    async def recover(self) -> None:
        """Let a second process continue the run, up to its question."""
        async with start_worker(**self._job("recover"), run_id=self.run_id) as worker:
            self._page.heading(f"3. A new process, {worker.pid}, recovers the run")
            await self._follow(worker)
        twice = self._record.ran_again(worker.pid)
        if twice:
            raise CommandError(f"blocks that were saved as done ran again: {', '.join(twice)}; this is a bug")
        self._page.line()
        self._page.line(f"None of the {len(self._record.saved)} blocks that were saved as done ran again.")

    async def answer(self, response: str | None) -> None:
        """Show the question, answer it, and let a third process go on to the end.

        Args:
            response: The answer; None: what the report suggests.
        """
        if self._result["status"] != "paused":
            raise CommandError(f"the run did not come to its question: {self._result['error']}")
        self._page.heading("4. The run waits for an answer, for a second or a week")
        self._page.markdown(self._result["prompt"])
        self._page.line()
        if response is None:
            response = "not ready yet" if "**Not ready" in self._result["prompt"] else "approve"
            self._page.line(f"The demo answers by itself: {response}", style="bold")
        else:
            self._page.line(f"The demo answers: {response}", style="bold")
        async with start_worker(
            **self._job("resume"), checkpoint_id=self._result["checkpoint_id"], response=response
        ) as worker:
            self._page.heading(f"5. A third process, {worker.pid}, takes the answer and goes on")
            await self._follow(worker)
        if self._result["status"] != "success":
            raise CommandError(f"the run failed: {self._result['error']}")

    async def end(self) -> dict[str, Any]:
        """Show the report, the checkpoints, and who ran what.

        Returns:
            The same as plain data.
        """
        page = self._page
        page.heading("The finished report")
        page.line()
        page.markdown(self._result["outputs"]["report"])
        page.heading("The checkpoints of the run")
        found = await self._checkpoints()
        show_checkpoints(page, found, of_one_run=True)
        page.heading("Which process ran which block")
        page.table(*self._record.table())
        self._say_goodbye()
        return {
            **self._result,
            "database": self._options.words()[1],
            "killed": self._killed,
            "saved_before_the_kill": self._record.saved,
            "blocks": self._record.blocks,
            "checkpoints": [dataclasses.asdict(one) for one in found],
        }

    def _say_goodbye(self) -> None:
        page = self._page
        page.heading("What you saw")
        page.prose(
            "A checkpoint was saved after each wave. The process died without a word, and nothing that was saved was "
            "lost or done twice. Any process that knows the database could go on, and two more did."
        )
        page.line()
        page.line("Look around, and try it with a workflow of your own:")
        for words, ids in ((("runs", "list"), []), (("runs", "show"), [self.run_id])):
            page.line(f"  {command_line(*words, ids=ids, options=self._options)}")
        own = os.path.relpath(self._workflow) if self._workflow.is_relative_to(Path.cwd()) else str(self._workflow)
        page.line(f"  {command_line('run', '--input', 'path=.', ids=[own], options=self._options)}")
        if shutil.which("workflows-mcp") is None:
            page.line("(if the shell does not find workflows-mcp: `. .venv/bin/activate` in the checkout)")
        if self._owns_database:
            page.line(f"The folder of the database may be deleted afterwards: {Path(self._settings.url).parent}")

    async def _follow(self, worker: Worker, *, until_killed: bool = False) -> None:
        """Show what a worker does, up to its end or to the moment to kill it."""
        async with watch_run(self._page) as watcher:
            async for event in worker.events():
                self._record.take(worker.pid, event)
                await watcher(event)
                if until_killed and self._record.is_time_to_kill(event):
                    return
        if worker.result is not None:
            self._result = worker.result
        if until_killed:
            raise CommandError(f"the run ended before it could be killed: {self._result['error'] or 'it succeeded'}")

    async def _checkpoints(self) -> "list[CheckpointMetadata]":
        async with open_store(self._options) as store:
            return await store.list_checkpoints(run_id=self.run_id)

    def _job(self, action: str) -> dict[str, object]:
        env_file = self._options.env_file
        return {
            "action": action,
            "database_url": self._settings.url,
            "lease_seconds": _LEASE_SECONDS,
            "env_file": None if env_file is None else str(env_file),
        }
