"""Drives one run: its blocks, its checkpoints and the lease that makes it ours."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from workflows_mcp.engine.brake import Brake, HeldBackError
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
from workflows_mcp.engine.endings import finished
from workflows_mcp.engine.events import (
    CheckpointSaved,
    Event,
    EventCallback,
    RunEnded,
    RunPaused,
    RunStarted,
    RunStopped,
    send,
)
from workflows_mcp.engine.expressions import ExpressionError
from workflows_mcp.engine.giving_up import smaller_states
from workflows_mcp.engine.lease import Heartbeat, Moment
from workflows_mcp.engine.outputs import evaluate_outputs
from workflows_mcp.engine.plain_json import why_not_json
from workflows_mcp.engine.progress import Progress, Question
from workflows_mcp.engine.result import WorkflowResult, result_of
from workflows_mcp.engine.runner import Runner
from workflows_mcp.engine.saving import Saver
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.errors import (
    BlockTypeDisabledError,
    CheckpointEncodeError,
    CheckpointTooLargeError,
    ExecutorStoppedError,
    LeaseLostError,
)

__all__ = ["Run"]


class Run:
    """One run in this process.

    Every save but the first follows the run's newest checkpoint under the lease of this object's owner, so whoever
    lost the run to somebody else can save nothing more.

    Args:
        progress: How far it has come.
        store: Keeps its checkpoints.
        config: Which checkpoints are saved, and how large they may be.
        owner: What its leases are taken for; used by nobody else, ever. The newest checkpoint, if there is one, is
            leased to it.
        lease_seconds: How long after the end of its process others may take the run over.
        secrets: What its blocks may read, and its checkpoints must not hold.
        on_event: Is told what happens.
        on_begun: Called, perhaps more than once, when a crash would not undo what was asked for: the first checkpoint
            is durable, or the answer is; or the run is ours, where it only goes on, or saves are switched off.
        claimed_at: When that lease was asked for; None: there is no checkpoint yet.
    """

    def __init__(
        self,
        progress: Progress,
        store: CheckpointStore,
        config: CheckpointConfig,
        *,
        owner: str,
        lease_seconds: float,
        secrets: Secrets,
        on_event: EventCallback | None,
        on_begun: Callable[[], None],
        claimed_at: Moment | None = None,
    ) -> None:
        self._progress = progress
        self._config = config
        self._secrets = secrets
        self._on_event = on_event
        self._on_begun = on_begun
        self._claimed_at = claimed_at
        self._lost: LeaseLostError | None = None
        self._is_cut = False
        self._has_begun = False
        self._has_unsaved_answers = False
        self._brake = Brake()
        self._end: CheckpointState | None = None
        self._saver = Saver(
            progress,
            store,
            owner=owner,
            lease_seconds=lease_seconds,
            max_bytes=config.max_checkpoint_bytes,
            on_saved=self._note_saved,
            tell=self._tell_saved,
        )
        self._heartbeat = Heartbeat(self._saver.renew, self.lose, lease_seconds)
        self._names = {"run_id": progress.run_id, "workflow_name": progress.workflow_name}
        self._task: asyncio.Task[object] | None = None
        self._runner = Runner(
            progress,
            secrets=secrets,
            save=self._save_progress,
            confirm=self._confirm,
            brake=self._brake,
            saves_blocks=config.checkpoint_every == "block",
            max_bytes=config.max_checkpoint_bytes,
            tell=None if on_event is None else self._tell,
        )

    @property
    def run_id(self) -> str:
        """Names the run."""
        return self._progress.run_id

    @property
    def progress(self) -> Progress:
        """How far it has come by now; not to be changed."""
        return self._progress

    @property
    def so_far(self) -> WorkflowResult:
        """What is told of it while it runs, and when it stops on the way."""
        return WorkflowResult("running", self.run_id, checkpoint_id=self._progress.checkpoint_id)

    async def begin(self, checkpoint_id: str | None = None) -> WorkflowResult:
        """Save the first checkpoint, and go on to the end or the next pause.

        Args:
            checkpoint_id: Names the first checkpoint; None: a fresh id.

        Raises:
            LeaseLostError: There is a checkpoint of this id already, and it is somebody else's.
            CheckpointStoreError: See `go`.
        """
        return await self._drive(functools.partial(self._save_first, checkpoint_id), continued=False)

    async def answer(self, answers: Mapping[str, str]) -> WorkflowResult:
        """Note answers, and go on to the end or the next pause. What was answered is durable before anything runs.

        Args:
            answers: The answers by the paths of the blocks that wait for them.

        Raises:
            CheckpointStoreError: See `go`.
        """
        return await self._drive(functools.partial(self._take, answers))

    async def go(self) -> WorkflowResult:
        """Go on to the end, or to the next pause.

        Returns:
            What the run has come to. A state that cannot be saved makes it a failure.

        Raises:
            LeaseLostError: The run is somebody else's now, or was cancelled.
            BlockTypeDisabledError: It comes to a block that is switched off on this server. Others can recover it.
            CheckpointStoreError: A checkpoint could not be saved for a reason that lies with the store. The run
                can be recovered.
        """
        return await self._drive()

    async def _drive(
        self, first: Callable[[], Awaitable[None]] | None = None, *, continued: bool = True
    ) -> WorkflowResult:
        self._task = asyncio.current_task()
        try:
            if self._claimed_at is not None:
                self._heartbeat.beat(self._claimed_at)
            return await self._go_on(first, continued=continued)
        except asyncio.CancelledError:
            if self._lost is None and not self._is_cut:
                await self._let_go("cancelled")
                raise
            assert self._task is not None
            self._task.uncancel()
            if self._lost is None:
                return await self._leave()
            await self._let_go("lost", self._lost)
            raise self._lost from None
        except LeaseLostError as error:
            await self._let_go("lost", error)
            raise
        except BaseException as error:
            await self._let_go("failed", error)
            raise
        finally:
            self._on_its_own()

    async def _go_on(self, first: Callable[[], Awaitable[None]] | None, *, continued: bool) -> WorkflowResult:
        try:
            if self._on_event is not None:
                root = self._progress.root
                waves, wave = root.plan.waves, root.wave_index
                await self._tell(RunStarted(**self._names, waves=waves, wave=wave, continued=continued))
            if first is not None:
                await first()
            if first is None or not self._config.enabled:
                self._note_begun()
            if await self._runner.advance(self._progress.root):
                return await self._finish()
            return await (self._hand_over() if self._brake.has_held else self._pause())
        except (CheckpointTooLargeError, CheckpointEncodeError) as error:
            return await self._give_up(str(error))

    async def _take(self, answers: Mapping[str, str]) -> None:
        """Note answers; they are saved before a block runs."""
        for question in list(self._progress.questions()):
            if question.path in answers:
                self._note(question, answers[question.path])
                self._has_unsaved_answers = self._config.enabled
                if self._on_event is not None:
                    await self._tell(finished(self._names, question.path, question.record))

    def _note(self, question: Question, response: str) -> None:
        record = question.record
        record.outputs = self._secrets.scrub(question.outputs_for(response))
        record.status = "succeeded"
        record.completed_at = time.time()

    async def _pause(self) -> WorkflowResult:
        state = await self._saver.save(self._progress.to_state(CheckpointStatus.PAUSED))
        block_id, prompt = state.paused_block_id, state.pause_prompt
        assert block_id is not None
        assert prompt is not None
        await self._tell(RunPaused(**self._names, checkpoint_id=state.checkpoint_id, block_id=block_id, prompt=prompt))
        return WorkflowResult("paused", state.run_id or "", checkpoint_id=state.checkpoint_id, prompt=prompt)

    async def _hand_over(self) -> WorkflowResult:
        """Leave what was held back to whoever recovers the run; it is saved though saves are switched off.

        Raises:
            BlockTypeDisabledError: That has to be another server.
        """
        await self._saver.save(None)
        if self._brake.refusal is not None:
            raise BlockTypeDisabledError(f"run {self.run_id!r} is left to other servers: {self._brake.refusal}")
        await self._let_go("cancelled")
        return self.so_far

    async def _leave(self) -> WorkflowResult:
        """The same when blocks had to be stopped.

        Raises:
            ExecutorStoppedError: Nothing is left to be recovered.
        """
        await self._let_go("cancelled", saves=self._has_begun and self._end is None)
        if self._end is not None:
            return result_of(self._end)
        if self._has_begun and self._progress.checkpoint_id is not None:
            return self.so_far
        raise ExecutorStoppedError(
            f"run {self.run_id!r} was stopped with its server before what was asked for was saved: ask again"
        )

    async def _finish(self) -> WorkflowResult:
        progress = self._progress
        failures = progress.root.failures
        outputs = {}
        if not failures:
            try:
                outputs = evaluate_outputs(progress.root)
                flaw = why_not_json(outputs, "outputs")
                failures = [flaw] if flaw else []
            except ExpressionError as error:
                failures = [str(error)]
        if failures:
            return await self._end_failed("; ".join(failures))
        state = await self._saver.save(progress.to_state(CheckpointStatus.COMPLETED, outputs=outputs))
        await self._tell(RunEnded(**self._names, status="success", error=None, checkpoint_id=state.checkpoint_id))
        return WorkflowResult("success", progress.run_id, outputs, checkpoint_id=state.checkpoint_id)

    async def _end_failed(self, error: str) -> WorkflowResult:
        await self._saver.save(self._progress.to_state(CheckpointStatus.FAILED, error=error))
        return await self._failure(error)

    async def _give_up(self, error: str) -> WorkflowResult:
        """End the run because its state cannot be saved, with as much of it as can be."""
        error = "; ".join([*self._progress.root.failures, f"the state of the run cannot be saved: {error}"])
        for state in smaller_states(self._progress, error):
            try:
                await self._saver.save(state)
                break
            except (CheckpointTooLargeError, CheckpointEncodeError):
                continue
        return await self._failure(error)

    async def _failure(self, error: str) -> WorkflowResult:
        checkpoint_id = self._progress.checkpoint_id
        await self._tell(RunEnded(**self._names, status="failure", error=error, checkpoint_id=checkpoint_id))
        return WorkflowResult("failure", self._progress.run_id, error=error, checkpoint_id=checkpoint_id)

    async def _save_first(self, checkpoint_id: str | None) -> None:
        if self._config.enabled:
            state = self._progress.to_state(CheckpointStatus.RUNNING)
            await self._saver.save(
                state if checkpoint_id is None else dataclasses.replace(state, checkpoint_id=checkpoint_id)
            )

    async def _save_progress(self) -> None:
        if self._config.enabled:
            await self._saver.save_shared()

    def _note_saved(self, state: CheckpointState, asked_at: Moment) -> None:
        self._has_unsaved_answers = False
        self._note_begun()
        if state.status is CheckpointStatus.RUNNING:
            self._heartbeat.beat(asked_at)
        else:
            self._end = state
            self._heartbeat.stop()

    async def _tell_saved(self, state: CheckpointState) -> None:
        if self._on_event is not None:
            wave = state.current_wave_index
            await self._tell(
                CheckpointSaved(**self._names, checkpoint_id=state.checkpoint_id, status=state.status, wave=wave)
            )

    def _note_begun(self) -> None:
        self._has_begun = True
        self._on_begun()

    async def _confirm(self) -> None:
        """Make sure that the run is still ours when the lease may be over: others may have finished what comes next.

        Raises:
            HeldBackError: The run is to come to a stop.
            LeaseLostError: It is somebody else's.
            CheckpointStoreError: Nobody knows.
        """
        if self._brake.holds():
            raise HeldBackError
        if self._has_unsaved_answers:
            await self._save_progress()
        if self._heartbeat.may_be_over:
            await self._heartbeat.beat_now()

    def lose(self, error: LeaseLostError) -> None:
        """Stop all that runs: the run is not ours any more."""
        if self._task is not None and self._lost is None:
            self._lost = error
            _cancel_once(self._task)

    def brake(self) -> None:
        """Let it come to a stop: what is under way goes on to its end, and is saved; the rest is left to others."""
        self._brake.pull()

    def cut(self) -> None:
        """Stop all that runs, save how far it has come, and leave the rest to others."""
        if self._task is not None and self._lost is None and not self._is_cut:
            self._is_cut = True
            _cancel_once(self._task)

    def _on_its_own(self) -> None:
        """From now on nobody ends the run: it is on its way to its end here, and who awaits that must not be cancelled.

        Nor is its lease renewed: a renewal after the release would find that the run is nobody's any more.
        """
        self._task = None
        self._heartbeat.stop()

    async def _let_go(
        self, reason: Literal["cancelled", "lost", "failed"], error: BaseException | None = None, *, saves: bool = False
    ) -> None:
        """Leave the run to others, and tell.

        Args:
            reason: Why it does not go on here; what is lost is not ours to release.
            error: The same; None: it was cancelled.
            saves: Whether to save before how far it has come, if that can be done.
        """
        self._on_its_own()
        if reason != "lost":
            await self._saver.release(saves=saves)
        name = None if error is None else type(error).__name__
        await self._tell(RunStopped(**self._names, reason=reason, error=name))

    async def _tell(self, event: Event) -> None:
        await send(self._on_event, event)


def _cancel_once(task: "asyncio.Task[object]") -> None:
    """Cancel a task, unless it is cancelled already: a second time would cut off a save that is made up for."""
    if not task.cancelling():
        task.cancel()
