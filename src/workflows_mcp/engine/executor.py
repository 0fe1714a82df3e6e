"""`WorkflowExecutor`: runs workflows, pauses them, goes on with them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState
from workflows_mcp.engine.checkpoint_store import CheckpointStore, InMemoryCheckpointStore
from workflows_mcp.engine.events import EventCallback
from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.plan import Plan, plan_workflow
from workflows_mcp.engine.progress import Progress, new_id
from workflows_mcp.engine.result import RESULT_STATUSES, WorkflowResult
from workflows_mcp.engine.run import Run
from workflows_mcp.engine.workflow import WorkflowDefinition, WorkflowSource, coerce_inputs, read_workflow
from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    WorkflowNotFoundError,
)

__all__ = ["MAX_RESPONSE_CHARACTERS", "WorkflowExecutor", "WorkflowResult"]

MAX_RESPONSE_CHARACTERS = 2**20
"""The longest answer that is taken."""


@dataclass
class _Running:
    """A run that this executor is busy with."""

    workflow_name: str
    task: asyncio.Task[WorkflowResult]
    callers: int = 0
    run: Run | None = None
    """What drives it; None while it only looks what the store has, and no block may run yet."""


class WorkflowExecutor:
    """Runs workflows.

    A checkpoint is saved before the first wave, after every wave, at every pause and at the end; between two
    checkpoints a block may run more than once, if the process crashes. The blocks of one wave run at the same time.
    When a block fails, those that depend on it are skipped, all others still run, and the run is a failure.

    A caller that is cancelled cancels its run, unless others wait for it too: its blocks are stopped and their
    processes killed before the cancellation goes on. The run can be recovered from its newest checkpoint.

    Nothing has to be closed; the store belongs to whoever made it.

    Args:
        checkpoint_store: Keeps the checkpoints; None: this process's memory.
        checkpoint_config: Which checkpoints are saved, and how large they may be.
        on_event: Awaited with an `Event` whenever something happens in a run.
    """

    def __init__(
        self,
        checkpoint_store: CheckpointStore | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        *,
        on_event: EventCallback | None = None,
    ) -> None:
        self.checkpoint_store = InMemoryCheckpointStore() if checkpoint_store is None else checkpoint_store
        self.checkpoint_config = CheckpointConfig() if checkpoint_config is None else checkpoint_config
        self._on_event = on_event
        self._registered: dict[str, Plan] = {}
        self._running: dict[str, _Running] = {}

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
        plan = _read_plan(source)
        self._registered[plan.definition.name] = plan
        return plan.definition

    async def execute_workflow(
        self, workflow: WorkflowSource, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> WorkflowResult:
        """Run a workflow to its end, or to a pause.

        Args:
            workflow: The name of a registered workflow; or whatever `load_workflow` takes, which this does not
                register.
            inputs: The workflow's inputs by name.
            run_id: Names the run; None: a fresh one. A run that there is already does not run again: if this
                executor is busy with it, its result is awaited; else the newest checkpoint tells what it has come
                to, which is `running` also after a crash (`recover` continues it).

        Returns:
            What the run has come to. An expression or a block that fails is a `failure`, not an exception.

        Raises:
            WorkflowNotFoundError: No workflow has this name, and no file this path.
            WorkflowDefinitionError: The workflow cannot run, or the inputs are not what it takes.
            ValueError: The run belongs to another workflow, or its id is not fit to be one.
            CheckpointStoreError: The store failed; the run can be recovered.
        """
        if run_id is not None:
            check_name("run_id", run_id)
        plan = await self._find_plan(workflow)
        if run_id is None:
            return await self._join_or_start(new_id(), plan, lambda run_id: self._begin(plan, inputs, run_id))
        return await self._join_or_start(run_id, plan, lambda run_id: self._begin_once(plan, inputs, run_id))

    async def resume_workflow(self, checkpoint_id: str, response: str) -> WorkflowResult:
        """Answer a paused run, and go on with it from what its checkpoint holds.

        Args:
            checkpoint_id: The checkpoint of the pause.
            response: The answer, at most `MAX_RESPONSE_CHARACTERS`.

        Returns:
            What the run has come to; the next pause, when another block of the wave asks too.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            CheckpointAlreadyClaimedError: The run has gone on from it, or is just doing so in this executor; other
                processes are not kept away yet.
            RuntimeError: An event callback of the same run awaits this.
            ValueError: The checkpoint does not wait for an answer, or the answer is not fit to be one.
            WorkflowDefinitionError: Another program saved it, or its workflow cannot run any more.
            CheckpointStoreError: The store failed.
        """
        _check_response(response)
        state = await self.checkpoint_store.load_checkpoint(checkpoint_id)
        if state is None:
            raise CheckpointNotFoundError(
                f"there is no checkpoint {checkpoint_id!r}; list those that wait with is_paused=True"
            )
        if not state.is_paused:
            raise ValueError(f"checkpoint {checkpoint_id!r} is {state.status} and does not wait for an answer")
        progress = await _read_progress(state)
        while (busy := self._running.get(progress.run_id)) is not None:
            # One that is ending its pause, and whoever watches it has the question already, is waited for.
            if busy.run is not None and busy.run.paused_at != checkpoint_id and not busy.task.cancelling():
                raise _gone_on(checkpoint_id, progress.run_id)
            if busy.task is asyncio.current_task():
                raise RuntimeError("an event callback cannot await the answer to its own run: start a task for it")
            await asyncio.wait([busy.task])
        running = self._start(progress.run_id, progress.workflow_name, self._answer(progress, checkpoint_id, response))
        return await self._wait_for(running)

    async def recover(self, run_id: str) -> WorkflowResult:
        """Continue a run that crashed, from its newest checkpoint.

        The caller vouches that nobody else is running it. Blocks that were running at the crash run again.

        Args:
            run_id: Names the run.

        Returns:
            What the run has come to. One that had ended, or waits for an answer, is only told so; one that this
            executor is busy with is awaited.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint.
            WorkflowDefinitionError: Another program saved it, or its workflow cannot run any more.
            CheckpointStoreError: The store failed.
        """
        check_name("run_id", run_id)
        return await self._join_or_start(run_id, None, self._continue)

    async def _find_plan(self, workflow: WorkflowSource) -> Plan:
        if isinstance(workflow, str) and workflow in self._registered:
            return self._registered[workflow]
        try:
            # A large file takes a while to read and compile.
            return await asyncio.to_thread(_read_plan, workflow)
        except WorkflowNotFoundError as error:
            if not isinstance(workflow, str) or not self._registered:
                raise
            known = ", ".join(sorted(self._registered))
            raise WorkflowNotFoundError(
                f"{error}, and no workflow of this name is registered; there are {known}"
            ) from None

    async def _begin(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        label = f"workflow {plan.definition.name!r}"
        coerced = coerce_inputs(plan.definition.inputs, dict(inputs or {}), label)
        return await self._run(Progress(plan, run_id, coerced)).go()

    async def _begin_once(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        newest = await self._newest(run_id)
        if newest is None:
            return await self._begin(plan, inputs, run_id)
        _check_same_workflow(run_id, newest.workflow_name, plan)
        return _result_of(newest)

    async def _continue(self, run_id: str) -> WorkflowResult:
        newest = await self._newest(run_id)
        if newest is None:
            raise CheckpointNotFoundError(f"run {run_id!r} has no checkpoint to continue from; start it again")
        if RESULT_STATUSES[newest.status] != "running":
            return _result_of(newest)
        return await self._run(await _read_progress(newest)).go()

    async def _answer(self, progress: Progress, checkpoint_id: str, response: str) -> WorkflowResult:
        newest = await self.checkpoint_store.list_checkpoints(run_id=progress.run_id, limit=1)
        if not newest or newest[0].checkpoint_id != checkpoint_id:
            raise _gone_on(checkpoint_id, progress.run_id)
        return await self._run(progress).answer(response)

    def _run(self, progress: Progress) -> Run:
        run = Run(progress, self.checkpoint_store, self.checkpoint_config, self._on_event)
        self._running[progress.run_id].run = run
        return run

    async def _newest(self, run_id: str) -> CheckpointState | None:
        deleted = None
        while found := await self.checkpoint_store.list_checkpoints(run_id=run_id, limit=1):
            checkpoint_id = found[0].checkpoint_id
            state = await self.checkpoint_store.load_checkpoint(checkpoint_id)
            if state is not None:
                return state
            # Deleted since it was listed; the run may have others.
            if checkpoint_id == deleted:
                raise CheckpointStoreError(f"checkpoint {checkpoint_id!r} is listed, but cannot be loaded")
            deleted = checkpoint_id
        return None

    async def _join_or_start(
        self, run_id: str, plan: Plan | None, work: Callable[[str], Coroutine[Any, Any, WorkflowResult]]
    ) -> WorkflowResult:
        while (running := self._running.get(run_id)) is not None and running.task.cancelling():
            await asyncio.wait([running.task])
        if running is None:
            running = self._start(run_id, "" if plan is None else plan.definition.name, work(run_id))
        elif plan is not None:
            _check_same_workflow(run_id, running.workflow_name, plan)
        return await self._wait_for(running)

    def _start(self, run_id: str, workflow_name: str, work: Coroutine[Any, Any, WorkflowResult]) -> _Running:
        running = _Running(workflow_name, asyncio.create_task(work, name=f"run {run_id}"))
        self._running[run_id] = running
        running.task.add_done_callback(lambda _: self._running.pop(run_id))
        return running

    async def _wait_for(self, running: _Running) -> WorkflowResult:
        running.callers += 1
        try:
            return await asyncio.shield(running.task)
        except asyncio.CancelledError:
            if running.callers == 1 and not running.task.done():
                running.task.cancel()
                await asyncio.wait([running.task])
            raise
        finally:
            running.callers -= 1


def _read_plan(source: WorkflowSource) -> Plan:
    definition = read_workflow(source)
    is_path = not isinstance(source, WorkflowDefinition) and "\n" not in str(source)
    return plan_workflow(definition, str(source) if is_path else None)


async def _read_progress(state: CheckpointState) -> Progress:
    # Compiles the workflow's expressions, which takes a while for a large one.
    return await asyncio.to_thread(Progress.from_state, state)


def _check_same_workflow(run_id: str, workflow_name: str, plan: Plan) -> None:
    if workflow_name != plan.definition.name:
        raise ValueError(
            f"run {run_id!r} is a run of workflow {workflow_name!r}, not of {plan.definition.name!r}; "
            "choose another run_id"
        )


def _check_response(response: object) -> None:
    if not isinstance(response, str):
        raise ValueError(f"an answer must be a str, not {type(response).__name__}")  # noqa: TRY004 - the contract's
    if len(response) > MAX_RESPONSE_CHARACTERS:
        raise ValueError(f"an answer has at most {MAX_RESPONSE_CHARACTERS:,} characters, not {len(response):,}")
    try:
        response.encode()
    except UnicodeEncodeError:
        raise ValueError("an answer must not hold a lone surrogate") from None


def _gone_on(checkpoint_id: str, run_id: str) -> CheckpointAlreadyClaimedError:
    return CheckpointAlreadyClaimedError(
        f"run {run_id!r} has already gone on from checkpoint {checkpoint_id!r}; nothing was done. "
        "Look at the run's newest checkpoint"
    )


def _result_of(state: CheckpointState) -> WorkflowResult:
    return WorkflowResult(
        status=RESULT_STATUSES[state.status],
        run_id=state.run_id or "",
        outputs=state.context.get("outputs", {}),
        error=state.context.get("error"),
        checkpoint_id=state.checkpoint_id,
        prompt=state.pause_prompt,
    )
