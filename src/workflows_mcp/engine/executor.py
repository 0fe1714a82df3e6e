"""`WorkflowExecutor`: runs workflows, pauses them, goes on with them."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

from workflows_mcp.engine.background import Background
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.continuing import cancelled_state, forked, switched
from workflows_mcp.engine.definition import WorkflowDefinition
from workflows_mcp.engine.events import EventCallback, together
from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.finding import PlanFinder
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.lease import Moment
from workflows_mcp.engine.leases import check_lease
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.outputs import evaluate_inputs
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.progress import Progress, new_id
from workflows_mcp.engine.result import (
    RESULT_STATUSES,
    ResultStatus,
    RunSummary,
    WorkflowResult,
    result_of,
)
from workflows_mcp.engine.run import Run
from workflows_mcp.engine.running import RunningRuns
from workflows_mcp.engine.scratch import remove_scratch_folder
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.stored_runs import MOST_TRIES, StoredRuns
from workflows_mcp.engine.workflow import WorkflowSource
from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    LeaseLostError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)

__all__ = ["MAX_RESPONSE_CHARACTERS", "WorkflowExecutor", "WorkflowResult"]

MAX_RESPONSE_CHARACTERS = 2**20
"""The longest answer that is taken."""

Step = Callable[[Run], Awaitable[WorkflowResult]]


class WorkflowExecutor:
    """Runs workflows.

    A checkpoint is saved before the first wave, after every wave, at every pause and at the end; between two
    checkpoints a block may run more than once, if the process crashes. The blocks of one wave run at the same time.
    When a block fails, those that require it are skipped, all others still run, and the run is a failure unless the
    failure is handled.

    A run belongs to the executor that holds the lease on its newest checkpoint, on however many servers there are
    executors: it renews the lease while it works, and whoever lost a run can save nothing more of it.

    A caller that is cancelled cancels its run, unless others wait for it too: its blocks are stopped and their
    processes killed before the cancellation goes on. The run can be recovered at once, by any executor.

    `async with executor:` does the background work: retention, as the configuration says, and, with
    `recover_every_seconds`, the recovery of runs whose process is gone. Without it nothing has to be closed. The
    store belongs to whoever made it.

    Args:
        checkpoint_store: Keeps the checkpoints; None: this process's memory.
        checkpoint_config: Which checkpoints are saved, how large they may be, and how long they are kept.
        on_event: Awaited with an `Event` whenever something happens in a run.
        library: Workflows that are found by their names, besides those that are registered.
        secrets: What `secrets.NAME` reads; None: the variables `WORKFLOW_SECRET_<NAME>`.
        lease_seconds: How long after a process is gone its runs may be recovered by others.
        recover_every_seconds: How often `async with executor:` looks for runs to recover; None: never.
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
    ) -> None:
        self.checkpoint_store = InMemoryCheckpointStore() if checkpoint_store is None else checkpoint_store
        self.checkpoint_config = CheckpointConfig() if checkpoint_config is None else checkpoint_config
        self._lease_seconds = check_lease("an executor", lease_seconds)
        self._listeners: tuple[EventCallback | None, ...] = (on_event,)
        self._secrets = Secrets() if secrets is None else secrets
        self._plans = PlanFinder(library)
        self._stored = StoredRuns(self.checkpoint_store)
        self._running = RunningRuns()
        self._background = Background(self.checkpoint_store, self.checkpoint_config, self, recover_every_seconds)

    async def __aenter__(self) -> Self:
        await self._background.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._background.stop()

    def add_listener(self, callback: EventCallback) -> None:
        """Tell one more callback what happens in the runs that begin, or go on, from now on."""
        self._listeners = (*self._listeners, callback)

    def remove_listener(self, callback: EventCallback) -> None:
        """Tell a callback nothing any more of runs that begin, or go on, from now on."""
        self._listeners = tuple(one for one in self._listeners if one != callback)

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
                has come to, which is `running` also after a crash (`recover` continues it).

        Returns:
            What the run has come to. An expression or a block that fails is a `failure`, not an exception.

        Raises:
            WorkflowNotFoundError: No workflow has this name, and no file this path; or a nested one is missing.
            WorkflowDefinitionError: The workflow cannot run, or the inputs are not what it takes.
            ValueError: The run belongs to another workflow, or its id is not fit to be one.
            SecretError: A secret is not fit to be one.
            LeaseLostError: Another process has taken the run over.
            CheckpointStoreError: The store failed; the run can be recovered.
        """
        if run_id is not None:
            check_name("run_id", run_id)
        plan = await self._plans.find(workflow)
        name = plan.definition.name
        if run_id is None:
            run_id = new_id()
            return await self._running.wait_for(self._running.start(self._begin(plan, inputs, run_id), run_id, name))
        running = await self._running.busy_with(run_id)
        if running is None:
            running = self._running.start(self._begin_once(plan, inputs, run_id), run_id, name)
        else:
            _check_same_workflow(run_id, running.workflow_name, name)
        return await self._running.wait_for(running)

    async def resume_workflow(
        self, checkpoint_id: str, response: str, *, definition: Literal["saved", "current"] = "saved"
    ) -> WorkflowResult:
        """Answer a paused run, and go on with it from what its checkpoint holds.

        Of any number of executors that answer the same pause, one goes on; the answer is durable before a block runs.

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
        _check_response(response)
        if definition not in {"saved", "current"}:
            raise ValueError(f"definition must be 'saved' or 'current', not {definition!r}")
        state = await self._stored.load(checkpoint_id)
        if not state.is_paused:
            raise ValueError(f"checkpoint {checkpoint_id!r} is {state.status} and does not wait for an answer")
        progress = await self._read(state)
        if definition == "current":
            progress = await asyncio.to_thread(self._switched, progress)
        question = progress.first_question()
        question.outputs_for(response)  # refuses what is no answer, before the checkpoint is claimed
        answers = {question.path: response}
        work = self._claim_and_go(state, progress, lambda run: run.answer(answers))
        return await self._running.wait_for(self._running.start(work))

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
        if run_id is None:
            return await self._background.recover_all()
        check_name("run_id", run_id)
        running = await self._running.busy_with(run_id) or self._running.start(self._recover_one(run_id), run_id)
        return await self._running.wait_for(running)

    async def _recover_one(self, run_id: str) -> WorkflowResult:
        head = await self._stored.newest(run_id)
        if head is None:
            raise CheckpointNotFoundError(f"run {run_id!r} has no checkpoint to continue from; start it again")
        return await self._take_over(head)

    async def take_over(self, head: CheckpointState) -> WorkflowResult:
        """Continue a run from its newest checkpoint, if there is something to do in it now.

        Raises:
            WorkflowsError: See `recover`.
        """
        return await self._running.wait_for(self._running.start(self._take_over(head)))

    async def _take_over(self, head: CheckpointState) -> WorkflowResult:
        if head.status is CheckpointStatus.RUNNING:
            return await self._claim_and_go(head, await self._read(head), lambda run: run.go())
        if not head.is_paused:
            return result_of(head)
        progress = await self._read(head)
        answers = progress.overdue_answers()
        if not answers:
            return result_of(head)
        return await self._claim_and_go(head, progress, lambda run: run.answer(answers))

    async def fork(
        self, checkpoint_id: str, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Begin a new run where another one was when a checkpoint was saved; the other one is left alone.

        What was done by then is not done again. Of a run that failed, the blocks that had failed are, whole: with all
        of their items, and a nested workflow from its beginning.

        Args:
            checkpoint_id: Any checkpoint but that of a success.
            inputs: Inputs that differ from the other run's. Blocks that are done are not done again with them.
            run_id: Names the new run; None: a fresh one. See `execute_workflow`.

        Returns:
            What the new run has come to.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ValueError: It is the end of a run that succeeded; or see `execute_workflow`.
            WorkflowDefinitionError: The checkpoint cannot be continued, or the inputs are not what it takes.
            CheckpointStoreError: See `execute_workflow`.
        """
        if run_id is not None:
            check_name("run_id", run_id)
        given = _checked(inputs)
        state = await self._stored.load(checkpoint_id)
        name = state.workflow_name
        progress = await asyncio.to_thread(forked, state, run_id or new_id(), given, self._plans.find_named)
        self._check_secrets(given)
        if run_id is None:
            return await self._running.wait_for(self._running.start(self._begin_run(progress, None), None, name))
        running = await self._running.busy_with(run_id)
        if running is None:
            running = self._running.start(self._fork_once(progress), run_id, name)
        else:
            _check_same_workflow(run_id, running.workflow_name, name)
        return await self._running.wait_for(running)

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
        for _ in range(MOST_TRIES):
            head = await self._stored.newest(run_id)
            if head is None:
                if self._stop(run_id):  # saves are switched off
                    return WorkflowResult("cancelled", run_id)
                raise CheckpointNotFoundError(f"run {run_id!r} has no checkpoint, so there is nothing to cancel")
            if RESULT_STATUSES[head.status] not in {"running", "paused"}:
                return result_of(head)
            state = cancelled_state(head)
            with contextlib.suppress(LeaseLostError):  # it went on meanwhile: once more, from where it is now
                await self.checkpoint_store.save_checkpoint(state, follows=head.checkpoint_id)
                running = self._stop(run_id)
                if running is not None and running is not asyncio.current_task():
                    await asyncio.wait([running])
                await asyncio.to_thread(remove_scratch_folder, run_id)
                return result_of(state)
        raise CheckpointStoreError(f"run {run_id!r} goes on faster than it can be cancelled; try again")

    def _stop(self, run_id: str) -> asyncio.Task[WorkflowResult] | None:
        """Stop the blocks of a run that was cancelled; its task, if this executor is busy with it."""
        running = self._running.get(run_id)
        if running is None or running.run is None:
            return None
        running.run.lose(LeaseLostError(f"run {run_id!r} was cancelled"))
        return running.task

    async def list_runs(
        self,
        workflow_name: str | None = None,
        *,
        status: ResultStatus | None = None,
        limit: int = 50,
        before: RunSummary | str | None = None,
    ) -> list[RunSummary]:
        """List runs by their newest checkpoints, the one that was saved last first.

        Args:
            workflow_name: Only this workflow's.
            status: Only those that have come to this.
            limit: The most to return.
            before: Go on after a page: its last run, or that one's `cursor`.

        Raises:
            ValueError: A filter, the limit or the cursor makes no sense.
            CheckpointStoreError: The store failed.
        """
        return await self._stored.list(workflow_name, status=status, limit=limit, before=before)

    async def _begin(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        return await self._begin_run(await self._new_progress(plan, inputs, run_id), None)

    async def _begin_once(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        there = await self._existing(run_id, plan.definition.name)
        return there or await self._begin_named(await self._new_progress(plan, inputs, run_id))

    async def _fork_once(self, progress: Progress) -> WorkflowResult:
        there = await self._existing(progress.run_id, progress.workflow_name)
        return there or await self._begin_named(progress)

    async def _existing(self, run_id: str, workflow_name: str) -> WorkflowResult | None:
        """What a run has come to, whoever began it; None: there is none of this id."""
        head = await self._stored.newest(run_id)
        if head is None:
            return None
        _check_same_workflow(run_id, head.workflow_name, workflow_name)
        return result_of(head)

    async def _new_progress(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> Progress:
        given = _checked(inputs)
        self._check_secrets(given)
        find = self._plans.find_named
        # Those that are named may have to be read and compiled.
        nested = NestedWorkflows(plan, find)
        if plan.names_others:
            nested = await asyncio.to_thread(NestedWorkflows.of, plan, find)
        return Progress(Frame(plan, evaluate_inputs(plan, given, run_id), run_id), nested)

    def _check_secrets(self, inputs: dict[str, Any]) -> None:
        """Refuse inputs that hold a secret: they are kept with the run."""
        self._secrets.values()
        if self._secrets.scrub(inputs) is not inputs:
            raise WorkflowDefinitionError(
                "an input holds a secret, and inputs are kept with the run: have the block that needs it read "
                "secrets.NAME instead"
            )

    def _switched(self, progress: Progress) -> Progress:
        name = progress.workflow_name
        plan = self._plans.find_named(name)
        if plan is None:
            raise WorkflowNotFoundError(
                f"there is no current workflow {name!r}: register it, or put its file into a folder of "
                "WORKFLOWS_TEMPLATE_PATHS"
            )
        return switched(progress, plan, self._plans.find_named)

    async def _begin_named(self, progress: Progress) -> WorkflowResult:
        """Begin a run that was not there a moment ago, unless another process has begun it since."""
        run_id = progress.run_id
        # The same id wherever the run is begun, so that of two processes one is told that it exists.
        first_id = f"{hashlib.sha256(run_id.encode()).hexdigest()[:32]}-first"
        try:
            return await self._begin_run(progress, first_id)
        except LeaseLostError:
            there = None if progress.checkpoint_id else await self._existing(run_id, progress.workflow_name)
            if there is None:
                raise
            return there

    async def _begin_run(self, progress: Progress, first_id: str | None) -> WorkflowResult:
        run = self._make_run(progress, new_id())
        return await self._finish(progress, run.begin(first_id))

    async def _claim_and_go(self, state: CheckpointState, progress: Progress, step: Step) -> WorkflowResult:
        """Go on from a checkpoint in this task, if it can be claimed."""
        owner, store = new_id(), self.checkpoint_store
        asked_at = Moment.now()
        claimed: CheckpointState | None = None
        try:
            claimed = await store.claim_checkpoint(state.checkpoint_id, owner, self._lease_seconds)
            _check_same_state(state, claimed)
            run = self._make_run(progress, owner, asked_at)
        except BaseException as error:
            if claimed is not None or isinstance(error, asyncio.CancelledError):  # it may be claimed by now
                with contextlib.suppress(CheckpointStoreError):
                    await store.release_claim(state.checkpoint_id, owner)
            raise
        return await self._finish(progress, step(run))

    async def _finish(self, progress: Progress, work: Awaitable[WorkflowResult]) -> WorkflowResult:
        """Wait for a run's end or pause; and tidy up when it is over."""
        try:
            result = await work
        except LeaseLostError:
            head = await self._stored.newest(progress.run_id)
            if head is None or head.status is not CheckpointStatus.CANCELLED:
                raise
            result = result_of(head)
        if progress.uses_scratch and not result.is_paused:
            await asyncio.to_thread(remove_scratch_folder, progress.run_id)
        return result

    def _make_run(self, progress: Progress, owner: str, claimed_at: Moment | None = None) -> Run:
        self._secrets.values()  # they are read anew; one that is not fit to be one is an error before anything runs
        run = Run(
            progress,
            self.checkpoint_store,
            self.checkpoint_config,
            owner=owner,
            lease_seconds=self._lease_seconds,
            secrets=self._secrets,
            on_event=together(*self._listeners),
            claimed_at=claimed_at,
        )
        self._running.note(progress.run_id, progress.workflow_name, run)
        return run

    async def _read(self, state: CheckpointState) -> Progress:
        # Compiles the workflow's expressions, which takes a while for a large one.
        return await asyncio.to_thread(Progress.from_state, state, self._plans.find_named)


def _check_same_state(read: CheckpointState, claimed: CheckpointState) -> None:
    if claimed != read:
        raise CheckpointAlreadyClaimedError(
            f"checkpoint {read.checkpoint_id!r} was saved anew while it was being read; look at it again"
        )


def _check_same_workflow(run_id: str, workflow_name: str | None, wanted: str) -> None:
    if workflow_name not in {None, wanted}:
        raise ValueError(
            f"run {run_id!r} is a run of workflow {workflow_name!r}, not of {wanted!r}; choose another run_id"
        )


def _checked(inputs: object) -> dict[str, Any]:
    """The inputs of a run, by name."""
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise WorkflowDefinitionError(
            f"the inputs of a run are a mapping of names to values, not {type(inputs).__name__}"
        )
    return dict(inputs)


def _check_response(response: object) -> None:
    if not isinstance(response, str):
        raise ValueError(f"an answer must be a str, not {type(response).__name__}")  # noqa: TRY004 - the contract's
    if len(response) > MAX_RESPONSE_CHARACTERS:
        raise ValueError(f"an answer has at most {MAX_RESPONSE_CHARACTERS:,} characters, not {len(response):,}")
    try:
        response.encode()
    except UnicodeEncodeError:
        raise ValueError("an answer must not hold a lone surrogate") from None
