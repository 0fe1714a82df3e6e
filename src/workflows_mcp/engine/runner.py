"""Runs the blocks of a run, wave after wave, those of nested workflows and each item of a block too.

It can be begun anywhere: what is over is not done again, what waits for an answer goes on waiting, and what was under
way when the process died begins again.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence

from workflows_mcp.engine.blocks import BlockFailedError, Call, Pause
from workflows_mcp.engine.brake import Brake, HeldBackError
from workflows_mcp.engine.calling import MAX_BLOCKS_AT_ONCE, Caller, check_json
from workflows_mcp.engine.concurrent import at_once
from workflows_mcp.engine.endings import can_be_kept, finished, missing_dependency, outputs_of, shortened
from workflows_mcp.engine.events import BlockSkipped, BlockStarted, Event, WaveFinished, WaveStarted
from workflows_mcp.engine.frame import Frame
from workflows_mcp.engine.items import Weights, failure_of, items_of
from workflows_mcp.engine.place import Place
from workflows_mcp.engine.plain_json import copy_json
from workflows_mcp.engine.plan import truth_of
from workflows_mcp.engine.progress import Progress
from workflows_mcp.engine.record import BlockRecord
from workflows_mcp.engine.secrets import Secrets
from workflows_mcp.engine.state_json import MAX_STATE_BYTES
from workflows_mcp.errors import BlockTypeDisabledError

__all__ = ["Runner"]


class Runner:
    """Runs the blocks of one run.

    Args:
        progress: How far the run has come; it is kept up to date.
        secrets: What `secrets.NAME` reads, and what must not be kept.
        save: Awaited after every wave but for those of the run's own workflow, and, if `saves_blocks`, after every
            block.
        confirm: Awaited before a block begins; raises an error when it must not.
        brake: Brings the run to a stop.
        saves_blocks: Whether a block that is over is saved at once.
        max_bytes: What a state may have; None: `MAX_STATE_BYTES`.
        tell: Is told what happens; None: nobody wants to know.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        secrets: Secrets,
        save: Callable[[], Awaitable[None]],
        confirm: Callable[[], Awaitable[None]],
        brake: Brake,
        saves_blocks: bool,
        max_bytes: int | None,
        tell: Callable[[Event], Awaitable[None]] | None,
    ) -> None:
        self._secrets = secrets
        self._save = save
        self._brake = brake
        self._saves_blocks = saves_blocks
        self._max_bytes = max_bytes or MAX_STATE_BYTES
        self._tell = tell
        self._caller = Caller(progress, secrets, confirm)
        self._workers = MAX_BLOCKS_AT_ONCE - 1
        self._names = {"run_id": progress.run_id, "workflow_name": progress.workflow_name}

    async def advance(self, frame: Frame) -> bool:
        """Run a workflow as far as it goes.

        Returns:
            True: all its waves are over. False: something in it waits for an answer, or was held back by the brake.

        Raises:
            CheckpointStoreError: It could not be saved.
        """
        waves = frame.plan.waves
        while frame.wave_index < len(waves):
            await self._run_wave(frame)
            if frame.is_waiting or (self._brake.has_held and not frame.is_wave_over):
                return False
            frame.wave_index += 1
            await self._save()
        return True

    async def _run_wave(self, frame: Frame) -> None:
        records = frame.records
        left = [one for one in frame.wave if one not in records or not records[one].is_over]
        fresh = [one for one in left if one not in records]
        if self._tell is None or not fresh:
            await self._run_blocks(frame, left)
            return
        wave, within = frame.wave_index, frame.path
        await self._tell(
            WaveStarted(**self._names, wave=wave, block_ids=tuple(map(frame.path_of, fresh)), within=within)
        )
        started = time.monotonic()
        await self._run_blocks(frame, left)
        seconds = time.monotonic() - started
        await self._tell(WaveFinished(**self._names, wave=wave, seconds=seconds, waits=frame.is_waiting, within=within))

    async def _run_blocks(self, frame: Frame, block_ids: Sequence[str]) -> None:
        if len(block_ids) == 1:
            await self._run_block(frame, block_ids[0])
        else:
            parts = [functools.partial(self._run_block, frame, block_id) for block_id in block_ids]
            await self._together(parts, len(block_ids))

    async def _together(self, parts: Sequence[Callable[[], Awaitable[None]]], most: int) -> None:
        """Do all parts, at most so many at the same time.

        Besides one worker for each call, a run has only as many as its blocks have places: workflows that call
        themselves several times would else grow by a power of that before the first of their blocks is over.
        """
        left = iter(parts)

        async def work(*, is_extra: bool) -> None:
            try:
                for part in left:
                    await part()
            finally:
                self._workers += is_extra

        extra = max(min(most, len(parts), self._workers + 1) - 1, 0)
        self._workers -= extra
        await at_once(work(is_extra=index > 0) for index in range(extra + 1))

    async def _run_block(self, frame: Frame, block_id: str) -> None:
        place = Place(frame, frame.plan.blocks[block_id])
        record = frame.records.get(block_id)
        if record is None:
            if self._brake.holds():
                return
            record = BlockRecord("running", frame.wave_index)
            frame.records[block_id] = record
            if await self._is_skipped(place, record):
                return
        if place.block.definition.for_each is None:
            await self._run_once(place, record)
        else:
            await self._run_items(place, record)

    async def _is_skipped(self, place: Place, record: BlockRecord) -> bool:
        """Whether it will not run; if its condition cannot be told, it has failed."""
        try:
            if place.key is None:
                reason = missing_dependency(place)
                if reason is None and not place.block.asks_each:
                    reason = self._refused_by_condition(place)
            else:
                reason = self._refused_by_condition(place) if place.block.asks_each else None
        except BlockFailedError as error:
            record.started_at = time.time()
            await self._end(place, record, error)
            return True
        if reason is None:
            return False
        record.status, record.message, record.completed_at = "skipped", reason, time.time()
        if self._tell is not None:
            await self._tell(BlockSkipped(**self._names, block_id=place.path, wave=record.wave, reason=reason))
        return True

    def _refused_by_condition(self, place: Place) -> str | None:
        condition = place.block.condition
        if condition is True:
            return None
        verdict = (
            condition if isinstance(condition, bool) else truth_of(self._caller.render(place, condition, "condition"))
        )
        if verdict is None:
            raise BlockFailedError("condition: its value is neither true nor false")
        return None if verdict else "its condition is false"

    async def _run_once(self, place: Place, record: BlockRecord) -> None:
        """Run it, again if it may be tried again; leaves it as it is when it waits for an answer, or is held back."""
        if record.status == "paused" and record.child is None:
            return
        definition = place.block.definition
        if record.started_at is None:
            record.started_at = time.time()
            if self._tell is not None:
                await self._tell(BlockStarted(**self._names, block_id=place.path, wave=record.wave))
        while True:
            try:
                await self._attempt_in_time(place, record, definition.timeout_seconds)
                failure = None
            except BlockFailedError as error:
                failure = error
            except HeldBackError:
                return
            except BlockTypeDisabledError as error:
                self._brake.refuse(error)
                return
            if failure is None or record.attempts > definition.retries.times:
                break
            record.status, record.child = "running", None
            retries = definition.retries
            await self._brake.sleep(retries.delay_seconds * retries.backoff ** (record.attempts - 1))
            record.attempts += 1
        await self._end(place, record, failure)

    async def _attempt_in_time(self, place: Place, record: BlockRecord, seconds: float | None) -> None:
        if seconds is None:
            await self._attempt(place, record)
            return
        try:
            async with asyncio.timeout(seconds) as limit:
                await self._attempt(place, record)
        except TimeoutError:
            if not limit.expired():
                raise
            raise BlockFailedError(f"it was ended after {seconds:g} s (timeout_seconds)") from None

    async def _attempt(self, place: Place, record: BlockRecord) -> None:
        """Run it once; then it has succeeded or waits, or something in it was held back.

        Raises:
            BlockFailedError: It has failed.
            HeldBackError: It must not begin.
            BlockTypeDisabledError: It cannot go on, on this server.
        """
        record.status = "running"
        child = record.child
        if child is None:
            outcome = await self._caller.call(place, record)
            if isinstance(outcome, Pause):
                self._caller.pause(outcome, record)
                return
            if isinstance(outcome, Call):
                child = record.child = await self._caller.nest(place, outcome)
            else:
                outputs = outcome
        if child is not None:
            if not await self.advance(child):
                record.status = "paused" if child.is_waiting else "running"
                return
            outputs = outputs_of(child)
            record.has_answers = child.holds_answer
        if place.block.files:
            outputs = {**outputs, **await self._caller.read_files(place, record)}
        check_json(outputs, "outputs")
        # A copy: a block type may keep what it gave, and change it.
        record.status, record.outputs, record.child = "succeeded", copy_json(self._secrets.scrub(outputs)), None

    async def _end(self, place: Place, record: BlockRecord, failure: BlockFailedError | None) -> None:
        """Note how it ended, unless it waits, and tell."""
        if failure is not None:
            record.has_answers = record.child is not None and record.child.holds_answer
            record.status, record.child = "failed", None
            # What cannot be saved, such as half a character of a file's name, must not make the run unsavable.
            record.message = shortened(self._secrets.scrub_text(str(failure))).encode(errors="replace").decode()
            record.outputs = copy_json(self._secrets.scrub(failure.outputs)) if can_be_kept(failure.outputs) else {}
        if not record.is_over:
            return
        record.completed_at = time.time()
        if self._tell is not None:
            await self._tell(finished(self._names, place.path, record))
        if self._saves_blocks or self._brake.is_pulled:
            await self._save()

    async def _run_items(self, place: Place, record: BlockRecord) -> None:
        """Run a block for each of its items that is not over yet."""
        definition = place.block.definition
        if record.started_at is None:
            record.started_at = time.time()
            record.mode = definition.for_each_mode
            if self._tell is not None:
                await self._tell(BlockStarted(**self._names, block_id=place.path, wave=record.wave))
        try:
            places = items_of(place, self._caller.render(place, place.block.for_each, "for_each"))
        except BlockFailedError as error:
            await self._end(place, record, error)
            return
        keys = {one.key for one in places}
        # A fork may have other inputs, and so other items.
        items = record.items = {key: item for key, item in (record.items or {}).items() if key in keys}
        weights = Weights(place.path, self._max_bytes)
        if definition.for_each_mode == "sequential":
            await self._run_in_order(places, items, weights, stops=not definition.continue_on_error)
        else:

            async def run(one: Place) -> None:
                weights.add(await self._run_item(one, items))

            parts = [functools.partial(run, one) for one in places]
            await self._together(parts, definition.max_parallel or MAX_BLOCKS_AT_ONCE)
        statuses = {item.status for item in items.values()}
        if "paused" in statuses:
            record.status = "paused"
        elif self._brake.has_held and (len(items) < len(places) or "running" in statuses):
            record.status = "running"
        else:
            record.status = "succeeded"
            await self._end(place, record, failure_of(items))

    async def _run_in_order(
        self, places: list[Place], items: dict[str, BlockRecord], weights: Weights, *, stops: bool
    ) -> None:
        for index, place in enumerate(places):
            record = await self._run_item(place, items)
            weights.add(record)
            if not record.is_over:
                return
            if record.status == "failed" and stops:
                for one in places[index + 1 :]:
                    assert one.key is not None
                    reason = f"item {place.key!r}, which came before it, failed"
                    now = time.time()
                    items[one.key] = BlockRecord("skipped", record.wave, message=reason, completed_at=now)
                return

    async def _run_item(self, place: Place, items: dict[str, BlockRecord]) -> BlockRecord:
        assert place.key is not None
        record = items.get(place.key)
        await asyncio.sleep(0)  # many items that wait for nothing would hold up all other runs, and the lease's renewal
        if record is None:
            record = BlockRecord("running", place.frame.wave_index)
            if self._brake.holds():
                return record
            items[place.key] = record
            if await self._is_skipped(place, record):
                return record
        if not record.is_over:
            await self._run_once(place, record)
        return record
