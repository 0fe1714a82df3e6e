"""Begins runs and goes on with them, each in a task of its own: looks what is there, claims it, and tidies up."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from workflows_mcp.engine.arguments import check_inputs, check_same_workflow
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState, CheckpointStatus
from workflows_mcp.engine.continuing import forked, switched
from workflows_mcp.engine.disabling import DisabledBlocks
from workflows_mcp.engine.events import EventCallback, together
from workflows_mcp.engine.finding import PlanFinder
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.lease import Moment
from workflows_mcp.engine.nested import NestedWorkflows
from workflows_mcp.engine.outputs import evaluate_inputs
from workflows_mcp.engine.plan import Plan
from workflows_mcp.engine.progress import Progress, new_id
from workflows_mcp.engine.result import WorkflowResult, result_of
from workflows_mcp.engine.run import Run
from workflows_mcp.engine.running import Running, RunningRuns
from workflows_mcp.engine.saving import seen_through
from workflows_mcp.engine.scratch import remove_scratch_folder
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.stored_runs import StoredRuns, no_such_run
from workflows_mcp.errors import (
    CheckpointAlreadyClaimedError,
    LeaseLostError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)

__all__ = ["Driver"]

_Step = Callable[[Run], Awaitable[WorkflowResult]]


class Driver:
    """Works on the runs of one executor. What it raises is told by the methods of `WorkflowExecutor`.

    Args:
        stored: What the store that keeps the checkpoints knows of runs.
        config: Which are saved, and how large they may be.
        plans: Finds workflows.
        disabled: Block types with which no run goes on here.
        running: The runs that the executor is busy with.
        secrets: What blocks may read, and nothing may keep.
        lease_seconds: How long after a process is gone its runs may be recovered by others.
    """

    def __init__(
        self,
        stored: StoredRuns,
        config: CheckpointConfig,
        *,
        plans: PlanFinder,
        disabled: DisabledBlocks,
        running: RunningRuns,
        secrets: Secrets,
        lease_seconds: float,
    ) -> None:
        self.listeners: tuple[EventCallback | None, ...] = ()
        self._stored = stored
        self._store = stored.store
        self._config = config
        self._plans = plans
        self._disabled = disabled
        self._running = running
        self._secrets = secrets
        self._lease_seconds = lease_seconds

    async def begin(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str | None) -> Running:
        """A run of a workflow that has begun to be worked on; of one that is there already, what is known of it."""
        name = plan.definition.name
        if run_id is None:
            run_id = new_id()
            return self._running.start(self._begin(plan, inputs, run_id), run_id, name)
        return await self._join(run_id, name) or self._running.start(
            self._begin_once(plan, inputs, run_id), run_id, name
        )

    async def fork(self, state: CheckpointState, inputs: Mapping[str, Any], run_id: str | None) -> Running:
        """The same for a run that begins where another one was."""
        name = state.workflow_name
        progress = await asyncio.to_thread(forked, state, run_id or new_id(), inputs, self._plans.find_named)
        await self._check_blocks(progress)
        self._check_secrets(inputs)
        if run_id is None:
            return self._running.start(self._begin_run(progress, None), None, name)
        await self._existing(run_id, name, state.checkpoint_id)  # also one that is being worked on must be a fork
        return await self._join(run_id, name) or self._running.start(self._fork_once(progress), run_id, name)

    async def answer(self, state: CheckpointState, response: str, *, is_current: bool) -> Running:
        """The same for a run that waits; refuses what is no answer before anything is claimed."""
        progress = await self._read(state)
        if is_current:
            progress = await asyncio.to_thread(self._switched, progress)
        await self._check_blocks(progress)
        question = progress.first_question()
        question.outputs_for(response)
        answers = {question.path: response}
        return self._running.start(self._claim_and_go(state, progress, lambda run: run.answer(answers)))

    async def recover(self, run_id: str) -> Running:
        """The same for a run whose process is gone."""
        return await self._running.busy_with(run_id) or self._running.start(self._recover_one(run_id), run_id)

    def take_over(self, head: CheckpointState) -> Running:
        """The same, from its newest checkpoint, if there is something to do in it now."""
        return self._running.start(self._take_over(head))

    async def _join(self, run_id: str, workflow_name: str) -> Running | None:
        running = await self._running.busy_with(run_id)
        if running is not None:
            check_same_workflow(run_id, running.workflow_name, workflow_name)
        return running

    async def _begin(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        return await self._begin_run(await self._new_progress(plan, inputs, run_id), None)

    async def _begin_once(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> WorkflowResult:
        there = await self._existing(run_id, plan.definition.name)
        return there or await self._begin_named(await self._new_progress(plan, inputs, run_id))

    async def _fork_once(self, progress: Progress) -> WorkflowResult:
        there = await self._existing(progress.run_id, progress.workflow_name, progress.parent_checkpoint_id)
        return there or await self._begin_named(progress)

    async def _recover_one(self, run_id: str) -> WorkflowResult:
        head = await self._stored.newest(run_id)
        if head is None:
            raise no_such_run(run_id)
        return await self._take_over(head)

    async def _take_over(self, head: CheckpointState) -> WorkflowResult:
        if head.status is not CheckpointStatus.RUNNING and not head.is_paused:
            return result_of(head)
        if not head.is_paused and head.run_id is not None and self._running.drives(head.run_id):
            # Its lease has run out while the store was away, and is renewed once that is back.
            raise CheckpointAlreadyClaimedError(f"run {head.run_id!r} is under way in this very executor")
        progress = await self._read(head)
        if head.is_paused:
            answers = progress.overdue_answers()
            if not answers:
                return result_of(head)
        await self._check_blocks(progress)
        if head.is_paused:
            return await self._claim_and_go(head, progress, lambda run: run.answer(answers))
        return await self._claim_and_go(head, progress, lambda run: run.go())

    async def _existing(self, run_id: str, workflow_name: str, forked_from: str | None = None) -> WorkflowResult | None:
        """What a run has come to, whoever began it; None: there is none of this id. A fork is of one checkpoint."""
        head = await self._stored.newest(run_id)
        if head is None:
            return None
        check_same_workflow(run_id, head.workflow_name, workflow_name)
        if forked_from is not None and head.parent_checkpoint_id != forked_from:
            raise ValueError(
                f"run {run_id!r} is there already, and was not forked from checkpoint {forked_from!r}; choose another "
                "run_id"
            )
        return result_of(head)

    async def _new_progress(self, plan: Plan, inputs: Mapping[str, Any] | None, run_id: str) -> Progress:
        given = check_inputs(inputs)
        self._check_secrets(given)
        find = self._plans.find_named
        # Those that are named may have to be read and compiled.
        nested = NestedWorkflows(plan, find)
        if plan.names_others:
            nested = await asyncio.to_thread(NestedWorkflows.of, plan, find)
        return Progress(Frame(plan, evaluate_inputs(plan, given, run_id), run_id), nested)

    def _check_secrets(self, inputs: Mapping[str, Any]) -> None:
        """Refuse inputs that hold a secret: they are kept with the run."""
        self._secrets.values()
        if self._secrets.scrub(inputs) is not inputs:
            raise WorkflowDefinitionError(
                "an input holds a secret, and inputs are kept with the run: have the block that needs it read "
                "secrets.NAME instead"
            )

    async def _read(self, state: CheckpointState) -> Progress:
        # Compiles the workflow's expressions, which takes a while for a large one.
        return await asyncio.to_thread(Progress.from_state, state, self._plans.find_named)

    async def _check_blocks(self, progress: Progress) -> None:
        """Leave a run to others that has blocks which are switched off here."""
        if self._disabled:
            await asyncio.to_thread(self._disabled.check_run, progress)

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
            if progress.checkpoint_id:
                raise
            there = await self._existing(run_id, progress.workflow_name, progress.parent_checkpoint_id)
            if there is None:
                raise
            return there

    async def _begin_run(self, progress: Progress, first_id: str | None) -> WorkflowResult:
        run = self._make_run(progress, new_id())
        return await self._finish(progress, run.begin(first_id))

    async def _claim_and_go(self, state: CheckpointState, progress: Progress, step: _Step) -> WorkflowResult:
        """Go on from a checkpoint in this task, if it can be claimed."""
        owner = new_id()
        self._secrets.values()  # one that is not fit to be one is an error before anything is claimed
        asked_at = Moment.now()
        claimed: CheckpointState | None = None
        try:
            claimed = await self._store.claim_checkpoint(state.checkpoint_id, owner, self._lease_seconds)
            _check_same_state(state, claimed)
            run = self._make_run(progress, owner, asked_at)
        except BaseException as error:
            if claimed is not None or isinstance(error, asyncio.CancelledError):  # it may be claimed by now
                await seen_through(self._give_back(state.checkpoint_id, owner))
            raise
        return await self._finish(progress, step(run))

    async def _give_back(self, checkpoint_id: str, owner: str) -> None:
        with contextlib.suppress(Exception):  # the error that made it necessary is the one to tell
            await self._store.release_claim(checkpoint_id, owner)

    async def _finish(self, progress: Progress, work: Awaitable[WorkflowResult]) -> WorkflowResult:
        """Wait for a run's end or pause; and tidy up when it is over."""
        try:
            result = await work
        except LeaseLostError:
            head = await self._stored.newest(progress.run_id)
            if head is None or head.status is not CheckpointStatus.CANCELLED:
                raise
            result = result_of(head)
        # One that stopped on the way may go on here, and look for its files.
        if progress.uses_scratch and result.status not in {"paused", "running"}:
            await asyncio.to_thread(remove_scratch_folder, progress.run_id)
        return result

    def _make_run(self, progress: Progress, owner: str, claimed_at: Moment | None = None) -> Run:
        self._secrets.values()  # they are read anew; one that is not fit to be one is an error before anything runs
        run = Run(
            progress,
            self._store,
            self._config,
            owner=owner,
            lease_seconds=self._lease_seconds,
            secrets=self._secrets,
            on_event=together(*self.listeners),
            on_begun=self._running.current().note_begun,
            claimed_at=claimed_at,
        )
        self._running.note(progress.run_id, progress.workflow_name, run)
        return run


def _check_same_state(read: CheckpointState, claimed: CheckpointState) -> None:
    if claimed != read:
        raise CheckpointAlreadyClaimedError(
            f"checkpoint {read.checkpoint_id!r} was saved anew while it was being read; look at it again"
        )
