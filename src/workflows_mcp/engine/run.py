"""Drives one run: its blocks, its checkpoints and the lease that makes it ours."""

import asyncio
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from workflows_mcp.engine.brake import Brake, HeldBackError
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointState, CheckpointStatus
from workflows_mcp.engine.checkpoint_store import CheckpointStore
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
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.lease import Heartbeat, Moment
from workflows_mcp.engine.outputs import evaluate_outputs
from workflows_mcp.engine.progress import Progress, Question
from workflows_mcp.engine.result import WorkflowResult
from workflows_mcp.engine.runner import Runner, finished
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.state_json import why_not_json
from workflows_mcp.errors import (
    CheckpointEncodeError,
    CheckpointStoreError,
    CheckpointTooLargeError,
    ExecutorStoppedError,
    LeaseLostError,
)

__all__ = ["Run"]

_RELEASING: set[asyncio.Task[None]] = set()
"""Releases that are under way: the event loop alone would not keep them."""

_RELEASE_SECONDS = 2.0
"""How long a run that is stopped waits for its lease to be released; it runs out by itself, too."""


class Run:
    """One run in this process.

    Every save but the first follows the run's newest checkpoint under the lease of this object's owner, so whoever
    lost the run to somebody else can save nothing more. Saves and renewals take turns.

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
        self._store = store
        self._config = config
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._secrets = secrets
        self._on_event = on_event
        self._on_begun = on_begun
        self._claimed_at = claimed_at
        self._turn = asyncio.Lock()
        self._next_save: asyncio.Task[None] | None = None
        self._lost: LeaseLostError | None = None
        self._is_cut = False
        self._has_begun = False
        self._has_unsaved_answers = False
        self._brake = Brake()
        self._heartbeat = Heartbeat(self._renew, self.lose, lease_seconds)
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
                await self._release()
                await self._tell_stopped("cancelled", None)
                raise
            assert self._task is not None
            self._task.uncancel()
            if self._lost is None:
                return await self._leave()
            await self._tell_stopped("lost", self._lost)
            raise self._lost from None
        except LeaseLostError as error:
            await self._tell_stopped("lost", error)
            raise
        except BaseException as error:
            await self._release()
            await self._tell_stopped("failed", error)
            raise
        finally:
            self._heartbeat.stop()
            self._task = None  # what is heard of a loss from now on comes too late to cancel whoever awaits this

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
        state = await self._save(self._progress.to_state(CheckpointStatus.PAUSED))
        block_id, prompt = state.paused_block_id, state.pause_prompt
        assert block_id is not None
        assert prompt is not None
        await self._tell(RunPaused(**self._names, checkpoint_id=state.checkpoint_id, block_id=block_id, prompt=prompt))
        return WorkflowResult("paused", state.run_id or "", checkpoint_id=state.checkpoint_id, prompt=prompt)

    async def _hand_over(self) -> WorkflowResult:
        """Leave what was held back to whoever recovers the run; it is saved though saves are switched off."""
        await self._save(None)
        await self._release()
        await self._tell_stopped("cancelled", None)
        return self.so_far

    async def _leave(self) -> WorkflowResult:
        """The same when blocks had to be stopped.

        Raises:
            ExecutorStoppedError: Nothing is left to be recovered.
        """
        await self._release(saves=self._has_begun)
        await self._tell_stopped("cancelled", None)
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
        state = await self._save(progress.to_state(CheckpointStatus.COMPLETED, outputs=outputs))
        await self._tell(RunEnded(**self._names, status="success", error=None, checkpoint_id=state.checkpoint_id))
        return WorkflowResult("success", progress.run_id, outputs, checkpoint_id=state.checkpoint_id)

    async def _end_failed(self, error: str) -> WorkflowResult:
        await self._save(self._progress.to_state(CheckpointStatus.FAILED, error=error))
        return await self._failure(error)

    async def _give_up(self, error: str) -> WorkflowResult:
        """End the run because its state cannot be saved, with as much of it as can be."""
        error = "; ".join([*self._progress.root.failures, f"the state of the run cannot be saved: {error}"])
        for state in _smaller_states(self._progress, error):
            try:
                await self._save(state)
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
            await self._save(
                state if checkpoint_id is None else dataclasses.replace(state, checkpoint_id=checkpoint_id)
            )

    async def _save_progress(self) -> None:
        """Save how far it has come; those who ask while a save is under way share the next one."""
        if not self._config.enabled:
            return
        if not self._turn.locked() and self._next_save is None:
            await self._save(None)
            return
        if self._next_save is None:
            self._next_save = asyncio.create_task(self._save_next(), name="save the run")
            # Nobody may be left to hear of its error.
            self._next_save.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next_save)

    async def _save_next(self) -> None:
        await self._save(None)

    async def _save(self, state: CheckpointState | None) -> CheckpointState:
        """Save a state; None: how far the run has come when it is this save's turn."""
        progress = self._progress
        async with self._turn:
            if state is None:
                self._next_save = None
                state = progress.to_state(CheckpointStatus.RUNNING)
            asked_at = Moment.now()
            try:
                await self._write(state)
            except asyncio.CancelledError:
                # It may be saved by now, and what comes next must follow it. Saving it again is safe.
                with contextlib.suppress(CheckpointStoreError):
                    await self._write(state)
                    self._note_saved(state, asked_at)
                raise
            self._note_saved(state, asked_at)
        if self._on_event is not None:
            wave = state.current_wave_index
            await self._tell(
                CheckpointSaved(**self._names, checkpoint_id=state.checkpoint_id, status=state.status, wave=wave)
            )
        return state

    async def _write(self, state: CheckpointState) -> None:
        """Save under the lease; the run keeps it while it goes on."""
        follows, goes_on = self._progress.checkpoint_id, state.status is CheckpointStatus.RUNNING
        await self._store.save_checkpoint(
            state,
            follows=follows,
            owner=self._owner if goes_on or follows is not None else None,
            lease_seconds=self._lease_seconds if goes_on else None,
            max_bytes=self._config.max_checkpoint_bytes,
        )

    def _note_saved(self, state: CheckpointState, asked_at: Moment) -> None:
        progress = self._progress
        progress.saved_at = state.created_at
        progress.checkpoint_id = state.checkpoint_id
        self._has_unsaved_answers = False
        self._note_begun()
        if state.status is CheckpointStatus.RUNNING:
            self._heartbeat.beat(asked_at)
        else:
            self._heartbeat.stop()

    def _note_begun(self) -> None:
        self._has_begun = True
        self._on_begun()

    async def _renew(self) -> None:
        async with self._turn:
            checkpoint_id = self._progress.checkpoint_id
            if checkpoint_id is not None:
                await self._store.renew_lease(checkpoint_id, self._owner, self._lease_seconds)

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
            self._task.cancel()

    def brake(self) -> None:
        """Let it come to a stop: what is under way goes on to its end, and is saved; the rest is left to others."""
        self._brake.pull()

    def cut(self) -> None:
        """Stop all that runs, save how far it has come, and leave the rest to others."""
        if self._task is not None and self._lost is None and not self._is_cut:
            self._is_cut = True
            self._task.cancel()

    async def _release(self, *, saves: bool = False) -> None:
        """Let others take the run over at once, or as soon as a save that is under way is over."""
        releasing = asyncio.create_task(self._release_in_turn(saves=saves), name="release a run")
        _RELEASING.add(releasing)
        releasing.add_done_callback(_RELEASING.discard)
        await asyncio.wait([releasing], timeout=_RELEASE_SECONDS)

    async def _release_in_turn(self, *, saves: bool) -> None:
        if saves:
            with contextlib.suppress(CheckpointStoreError):
                await self._save(None)
        async with self._turn:
            if self._progress.checkpoint_id is not None:
                with contextlib.suppress(CheckpointStoreError):
                    await self._store.release_claim(self._progress.checkpoint_id, self._owner)

    async def _tell_stopped(self, reason: Literal["cancelled", "lost", "failed"], error: BaseException | None) -> None:
        self._task = None  # a loss that is heard of meanwhile must not cancel what is on its way to its end
        name = None if error is None else type(error).__name__
        await self._tell(RunStopped(**self._names, reason=reason, error=name))

    async def _tell(self, event: Event) -> None:
        await send(self._on_event, event)


def _smaller_states(progress: Progress, error: str) -> list[CheckpointState]:
    """Final states of a run that does not fit, the fullest first."""
    failed = CheckpointStatus.FAILED
    root = progress.root
    states = []
    unsaved = {one for one, record in root.records.items() if (record.completed_at or math.inf) > progress.saved_at}
    for dropped in (unsaved, root.records.keys()):
        records = {
            block_id: record.without_data() if block_id in dropped else record
            for block_id, record in root.records.items()
            if record.is_over
        }
        bare = Frame(root.plan, root.inputs, root.run_id, None, root.started_at, records, root.wave_index)
        states.append(dataclasses.replace(progress, root=bare).to_state(failed, error=error))
    last = dataclasses.replace(
        states[-1], runtime_inputs={}, block_definitions={}, workflow_stack=[], execution_waves=[], completed_blocks=[]
    )
    context = {"started_at": root.started_at, "blocks": {}, "error": error}
    return [*states, dataclasses.replace(last, context=context)]
