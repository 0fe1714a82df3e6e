"""`WorkflowExecutor`: runs workflows, pauses them, goes on with them."""

import asyncio
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

from workflows_mcp.engine.arguments import MAX_RESPONSE_CHARACTERS, check_inputs, check_patience, check_response
from workflows_mcp.engine.background import Background
from workflows_mcp.engine.cancelling import cancel_run
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointMetadata, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.disabling import DisabledBlocks
from workflows_mcp.engine.driver import Driver
from workflows_mcp.engine.events import EventCallback
from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.finding import PlanFinder
from workflows_mcp.engine.following import follow_run
from workflows_mcp.engine.leases import check_lease
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.engine.result import ResultStatus, RunSummary, WorkflowResult
from workflows_mcp.engine.run_details import RunDetails, details_at, run_details
from workflows_mcp.engine.running import Running, RunningRuns
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.stored_runs import StoredRuns, no_such_run
from workflows_mcp.engine.workflow import WorkflowSource

__all__ = ["MAX_RESPONSE_CHARACTERS", "WorkflowExecutor", "WorkflowResult"]


class WorkflowExecutor:
    """Runs workflows.

    A checkpoint is saved before the first wave, after every wave, at every pause and at the end; between two
    checkpoints a block may run more than once, if the process crashes. The blocks of one wave run at the same time.
    When a block fails, those that require it are skipped, all others still run, and the run is a failure unless the
    failure is handled.

    A run belongs to the executor that holds the lease on its newest checkpoint, on however many servers there are
    executors: it renews the lease while it works, and whoever lost a run can save nothing more of it.

    A caller that is cancelled cancels its run, unless others wait for it too: its blocks are stopped and their
    processes killed before the cancellation goes on. The run can be recovered at once, by any executor. Runs begun by
    `start_workflow`, `start_resume` and `start_fork` need no caller, and with `runs_outlive_callers` no run does.

    `async with executor:` does the background work: retention, as the configuration says, and, with
    `recover_every_seconds`, the recovery of runs whose process is gone. At its end nothing begins any more, until it is
    entered again, and the runs whose ends nobody waits for are stopped, and left for others to recover. Without it
    nothing has to be closed. The store belongs to whoever made it.

    Args:
        checkpoint_store: Keeps the checkpoints; None: this process's memory.
        checkpoint_config: Which checkpoints are saved, how large they may be, and how long they are kept.
        on_event: Awaited with an `Event` whenever something happens in a run.
        library: Workflows that are found by their names, besides those that are registered.
        secrets: What `secrets.NAME` reads; None: the variables `WORKFLOW_SECRET_<NAME>`.
        lease_seconds: How long after a process is gone its runs may be recovered by others.
        recover_every_seconds: How often `async with executor:` looks for runs to recover, from its beginning on; None:
            never.
        runs_outlive_callers: Whether a run goes on when its caller is cancelled: it belongs to the executor then, and
            ends with it; `cancel` ends it before.
        disabled_blocks: Names of block types with which no workflow runs, or goes on, here.

    Raises:
        ValueError: A time is not a positive number.
        StoreConfigurationError: There is no such block type to be disabled.
    """

    def __init__(
        self,
        checkpoint_store: CheckpointStore | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        *,
        on_event: EventCallback | None = None,
        library: WorkflowLibrary | None = None,
        secrets: Secrets | None = None,
        lease_seconds: float = 30.0,
        recover_every_seconds: float | None = None,
        runs_outlive_callers: bool = False,
        disabled_blocks: Collection[str] = (),
    ) -> None:
        self.checkpoint_store = InMemoryCheckpointStore() if checkpoint_store is None else checkpoint_store
        self.checkpoint_config = CheckpointConfig() if checkpoint_config is None else checkpoint_config
        self.lease_seconds = check_lease("an executor", lease_seconds)
        self._secrets = Secrets() if secrets is None else secrets
        disabled = DisabledBlocks(disabled_blocks)
        self._plans = PlanFinder(library, disabled)
        self._stored = StoredRuns(self.checkpoint_store)
        self._running = RunningRuns(keeps_all=runs_outlive_callers)
        self._driver = Driver(
            self._stored,
            self.checkpoint_config,
            plans=self._plans,
            disabled=disabled,
            running=self._running,
            secrets=self._secrets,
            lease_seconds=self.lease_seconds,
        )
        self._driver.listeners = (on_event,)
        self._background = Background(
            self.checkpoint_store, self.checkpoint_config, self, self._running, recover_every_seconds
        )

    async def __aenter__(self) -> Self:
        self._running.enter()
        await self._background.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.leave()
        try:
            await self._background.stop()
        finally:
            await self._running.stop_kept()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Begin nothing any more, and bring all runs to a stop, for good: the server goes down.

        Blocks that are under way go on to their ends, and no other one begins; then the run is saved, and its lease
        released, so that any other executor may go on with it at once. What is not there when the time is over is
        stopped, its processes killed, and left likewise. Whoever waits for a run is told that it is `running`; whoever
        asks for a new one, or waits for one that had not begun, gets an `ExecutorStoppedError`. To look at runs, and to
        cancel them, is still possible.

        Args:
            grace_seconds: For how long blocks may go on. Calling it again, with less, cuts that short.

        Raises:
            ValueError: That is not a finite number of at least 0.
        """
        grace = check_patience("grace_seconds", grace_seconds)
        self._running.close()
        # A store that hangs may keep those who look for runs; no block is to begin meanwhile.
        await asyncio.gather(self._background.stop_looking(), self._running.stop(grace))

    def add_listener(self, callback: EventCallback) -> None:
        """Tell one more callback what happens in the runs that begin, or go on, from now on."""
        self._driver.listeners = (*self._driver.listeners, callback)

    def remove_listener(self, callback: EventCallback) -> None:
        """Tell a callback nothing any more of runs that begin, or go on, from now on."""
        self._driver.listeners = tuple(one for one in self._driver.listeners if one != callback)

    def load_workflow(self, source: WorkflowSource) -> WorkflowDefinition:
        """Register a workflow under its name, in place of one that had it before.

        Args:
            source: A definition, the path of a YAML file, or YAML text (a `str` with a line break).

        Returns:
            The definition.

        Raises:
            WorkflowNotFoundError: There is no such file.
            WorkflowDefinitionError: It does not define a workflow that can run.
        """
        return self._plans.register(source).definition

    async def execute_workflow(
        self, workflow: WorkflowSource, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Run a workflow to its end, or to a pause.

        Args:
            workflow: The name of a registered workflow, or of one in the library; or whatever `load_workflow` takes,
                which this does not register.
            inputs: The workflow's inputs by name.
            run_id: Names the run; None: a fresh one. A run that there is already does not run again, whoever began
                it: if this executor is busy with it, its result is awaited; else the newest checkpoint tells what it
                has come to, which is `running` also after a crash (`recover` continues it). With saves switched off,
                other executors know of a run only once it waits or is over, and after a crash nobody does.

        Returns:
            What the run has come to. An expression or a block that fails is a `failure`, not an exception.

        Raises:
            WorkflowNotFoundError: No workflow has this name, and no file this path; or a nested one is missing.
            WorkflowDefinitionError: The workflow cannot run, or the inputs are not what it takes.
            BlockTypeDisabledError: It has a block that is switched off here. If that shows only on the way, the run is
                left to other servers; other calls that go on with a run raise this, too.
            ValueError: The run belongs to another workflow, or its id is not fit to be one.
            SecretError: A secret is not fit to be one.
            ExecutorStoppedError: `stop` was called before it had begun.
            LeaseLostError: Another process has taken the run over.
            CheckpointStoreError: The store failed; the run can be recovered.
        """
        return await self._running.wait_for(await self._begin(workflow, inputs, run_id))

    async def start_workflow(
        self, workflow: WorkflowSource, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Begin to run a workflow, and leave it running; `wait_for_run` and `get_run` tell what becomes of it.

        Args:
            workflow: See `execute_workflow`, as for all else.
            inputs: The workflow's inputs by name.
            run_id: Names the run. To ask again for one that there is already is safe, also from another process; with
                saves switched off, only of this executor, or once it waits or is over.

        Returns:
            `running`, once the first checkpoint is durable (with saves switched off: once it has begun); or what it
            has come to, if that was quicker, or it was there already.

        Raises:
            WorkflowsError: Nothing has begun; see `execute_workflow`. What goes wrong later is logged.
        """
        return await self._running.wait_until_begun(await self._begin(workflow, inputs, run_id))

    async def _begin(self, workflow: WorkflowSource, inputs: Mapping[str, Any] | None, run_id: str | None) -> Running:
        if run_id is not None:
            check_name("run_id", run_id)
        self._running.check_open()
        return await self._driver.begin(await self._plans.find(workflow), inputs, run_id)

    async def resume_workflow(
        self, checkpoint_id: str, response: str, *, definition: Literal["saved", "current"] = "saved"
    ) -> WorkflowResult:
        """Answer a paused run, and go on with it from what its checkpoint holds.

        Of any number of executors that answer the same pause, one goes on; unless saves are switched off, the answer is
        durable before a block runs.

        Args:
            checkpoint_id: The checkpoint of the pause.
            response: The answer, at most `MAX_RESPONSE_CHARACTERS`.
            definition: With which definition of the workflow the run goes on: the one that is `saved` with it, or the
                `current` one of that name.

        Returns:
            What the run has come to; the next pause, when another block asks too.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            CheckpointAlreadyClaimedError: Somebody else goes on from it, or has done so.
            ValueError: The checkpoint does not wait for an answer, or the answer is not fit to be one.
            WorkflowDefinitionError: Another program saved it, or its workflow cannot run any more; or a block that
                is over, or waits, is another one in the current definition.
            CheckpointStoreError: See `execute_workflow`.
        """
        return await self._running.wait_for(await self._answer(checkpoint_id, response, definition))

    async def start_resume(
        self, checkpoint_id: str, response: str, *, definition: Literal["saved", "current"] = "saved"
    ) -> WorkflowResult:
        """Answer a paused run, and leave it running.

        Args:
            checkpoint_id: See `resume_workflow`, as for all else.
            response: The answer.
            definition: With which definition of the workflow the run goes on.

        Returns:
            `running`, once the answer is durable (with saves switched off: once the run is ours, and a crash undoes
            the answer); or what the run has come to, if that was quicker.

        Raises:
            WorkflowsError: The run still waits, or goes on with somebody else's answer; see `resume_workflow`.
        """
        return await self._running.wait_until_begun(await self._answer(checkpoint_id, response, definition))

    async def _answer(self, checkpoint_id: str, response: str, definition: Literal["saved", "current"]) -> Running:
        check_response(response)
        if definition not in {"saved", "current"}:
            raise ValueError(f"definition must be 'saved' or 'current', not {definition!r}")
        self._running.check_open()
        state = await self._stored.load(checkpoint_id)
        if not state.is_paused:
            raise ValueError(f"checkpoint {checkpoint_id!r} is {state.status} and does not wait for an answer")
        return await self._driver.answer(state, response, is_current=definition == "current")

    @overload
    async def recover(self) -> list[WorkflowResult]: ...

    @overload
    async def recover(self, run_id: str) -> WorkflowResult: ...

    async def recover(self, run_id: str | None = None) -> WorkflowResult | list[WorkflowResult]:
        """Continue runs whose process is gone, each from its newest checkpoint.

        Blocks that were under way run again. Questions that nobody has answered in time get their default answers.

        Args:
            run_id: The run; None: all runs that nobody holds a lease on any more.

        Returns:
            What the run has come to: one that had ended, or waits for an answer, is only told so; one that this
            executor is busy with is awaited. Of all runs, what each has come to that this executor went on with; one
            that cannot be continued is logged.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint.
            CheckpointAlreadyClaimedError: Another process holds the run, or did so a moment ago: its lease has not
                run out yet.
            WorkflowDefinitionError: Another program saved it, or its workflow cannot run any more.
            CheckpointStoreError: See `execute_workflow`.
        """
        self._running.check_open()
        if run_id is None:
            return await self._background.recover_all()
        check_name("run_id", run_id)
        return await self._running.wait_for(await self._driver.recover(run_id))

    async def take_over(self, head: CheckpointState, *, wait: bool = True) -> WorkflowResult:
        """Continue a run from its newest checkpoint, if there is something to do in it now.

        Args:
            head: The checkpoint.
            wait: Whether to wait for what it comes to; else it is left running once it is claimed.

        Raises:
            WorkflowsError: See `recover`.
        """
        running = self._driver.take_over(head)
        return await (self._running.wait_for(running) if wait else self._running.wait_until_begun(running))

    async def fork(
        self, checkpoint_id: str, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Begin a new run where another one was when a checkpoint was saved; the other one is left alone.

        What was done by then is not done again. Of a run that failed, the blocks that had failed are, whole: with all
        of their items, and a nested workflow from its beginning.

        Args:
            checkpoint_id: Any checkpoint but that of a success.
            inputs: Inputs that differ from the other run's. Blocks that are done are not done again with them; those
                that are under way or wait begin anew, a nested workflow from its beginning, and what was asked is
                asked again. Once a question is answered there can be no others.
            run_id: Names the new run; None: a fresh one. See `execute_workflow`.

        Returns:
            What the new run has come to.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ValueError: It is the end of a run that succeeded; the inputs differ, and a question of the run was answered
                by then; there is a run `run_id` that was not forked from it; or see `execute_workflow`.
            WorkflowDefinitionError: The checkpoint cannot be continued, or the inputs are not what it takes.
            CheckpointStoreError: See `execute_workflow`.
        """
        return await self._running.wait_for(await self._fork(checkpoint_id, inputs, run_id))

    async def start_fork(
        self, checkpoint_id: str, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Begin a new run where another one was, and leave it running; see `fork` and `start_workflow`.

        Raises:
            WorkflowsError: Nothing has begun; see `fork`.
        """
        return await self._running.wait_until_begun(await self._fork(checkpoint_id, inputs, run_id))

    async def _fork(self, checkpoint_id: str, inputs: Mapping[str, Any] | None, run_id: str | None) -> Running:
        if run_id is not None:
            check_name("run_id", run_id)
        given = check_inputs(inputs)
        self._running.check_open()
        return await self._driver.fork(await self._stored.load(checkpoint_id), given, run_id)

    async def wait_for_run(self, run_id: str, seconds: float) -> WorkflowResult:
        """Wait for what a run comes to, whoever works on it.

        A caller that is cancelled leaves the run alone, and one that waits when the executor is stopped, or left, is
        told at once what there is. The runs of other processes are asked after in the store, every second at the least.

        Args:
            run_id: Names the run.
            seconds: How long to wait at most; 0: not at all.

        Returns:
            What it has come to; `running`, when the time is over and it still runs, or has crashed.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint.
            ValueError: The time is not a finite number of at least 0, or the id is not fit to be one.
            CheckpointStoreError: The store failed.
        """
        check_name("run_id", run_id)
        return await follow_run(run_id, check_patience("seconds", seconds), self._running, self._stored)

    async def get_run(self, run_id: str) -> RunDetails:
        """All that is known of a run and its blocks, without secrets.

        Args:
            run_id: Names the run.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint.
            CheckpointStoreError: The store failed, or the newest checkpoint is damaged.
        """
        check_name("run_id", run_id)
        found = await self._stored.newest_listed(run_id)
        if found is None:
            raise no_such_run(run_id)
        return await self.details_of(*found)

    async def details_of(self, listed: CheckpointMetadata, state: CheckpointState) -> RunDetails:
        """What `get_run` and `get_run_at` tell, of a checkpoint that has been loaded already; asks no store.

        Args:
            listed: The checkpoint as it is listed.
            state: The state of it.
        """
        is_going_on = state.status is CheckpointStatus.RUNNING and not listed.superseded
        running = self._running.get(listed.run_id) if is_going_on and listed.run_id is not None else None
        run = None if running is None else running.run
        return await run_details(listed, state, self._secrets, None if run is None else run.progress)

    async def get_run_at(self, checkpoint_id: str) -> RunDetails:
        """All that is known of a run and its blocks as of one of its checkpoints, without secrets.

        Of an earlier one: as the run was then, `superseded`. Of its newest, what the store knows.

        Args:
            checkpoint_id: The checkpoint.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            CheckpointStoreError: The store failed, or the checkpoint is damaged.
        """
        check_name("checkpoint_id", checkpoint_id)
        return await details_at(self.checkpoint_store, checkpoint_id, self._secrets)

    async def cancel(self, run_id: str) -> WorkflowResult:
        """End a run, wherever it runs or waits.

        Its blocks are stopped at once when this executor runs it; another one notices at its next save, or when it
        renews its lease. A cancelled run can be forked.

        Args:
            run_id: Names the run.

        Returns:
            `cancelled`; or what the run had come to, if it was over.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint.
            CheckpointStoreError: The store failed.
        """
        check_name("run_id", run_id)
        return await cancel_run(run_id, self._stored, self._running)

    async def list_runs(
        self,
        workflow_name: str | None = None,
        *,
        status: ResultStatus | None = None,
        id_contains: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        limit: int = 50,
        before: RunSummary | str | None = None,
    ) -> list[RunSummary]:
        """List runs by their newest checkpoints, the one that was saved last first.

        Args:
            workflow_name: Only this workflow's.
            status: Only those that have come to this.
            id_contains: Only those with this text, by its very characters, in their id or their newest checkpoint's.
            created_after: Only those whose newest checkpoint was created at this Unix time, in seconds, or later.
            created_before: Only those whose newest checkpoint was created earlier than this Unix time.
            limit: The most to return.
            before: Go on after a page: its last run, or that one's `cursor`.

        Raises:
            ValueError: A filter, the limit or the cursor makes no sense.
            CheckpointStoreError: The store failed.
        """
        return await self._stored.list(
            workflow_name,
            status=status,
            id_contains=id_contains,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            before=before,
        )
