"""Rows in the table that no store has written."""

import asyncio
import contextlib
import dataclasses
import json
import os
import resource
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from tests.faults.crew import join, start_command
from tests.faults.hostile_data import HOSTILE, BadText, Hostile, bombs
from tests.faults.load import state_of
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import (
    CheckpointDecodeError,
    CheckpointMetadata,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    WorkflowsError,
    upgrade_schema,
)
from workflows_mcp.engine.filters import check_name
from workflows_mcp.engine.state_json import MAX_STATE_BYTES

__all__ = ["ROW"]

_GOOD = 40
"""How many checkpoints there are among the hostile ones that must not be harmed by them."""

_MOST_BYTES = 2 * MAX_STATE_BYTES + 2**26
"""How much memory may be taken: the largest JSON, that once more in its parser, and some."""

_PAGE = 7


async def check(place: Place, effort: Effort) -> Verdict:
    """Put hostile rows between good ones, and do everything that there is to do with such a table."""
    verdict = Verdict({"rows": 0})
    await upgrade_schema(place.url)
    rows = [one for one in (*HOSTILE, *bombs(are_few=effort.is_quick)) if place.database in one.databases]
    async with SQLAlchemyCheckpointStore(place.url) as store:
        for number in range(_GOOD):
            await store.save_checkpoint(dataclasses.replace(state_of(f"good-{number}", number), run_id="good"))
    await _write(place, rows)
    verdict.figures["rows"] = len(rows)
    trial = _Trial(place, rows, verdict, is_quick=effort.is_quick)
    before = _peak()
    async with SQLAlchemyCheckpointStore(place.url) as store:
        for work in (trial.list_all, trial.page, trial.load_all, trial.claim_all, trial.stream, trial.look_at_runs):
            await trial.attempt(work, store)
        more = _peak() - before
        verdict.figures["peak MB more"] = more >> 20
        verdict.require(more < _MOST_BYTES, f"{more:,} bytes of memory were taken")
        await trial.attempt(lambda _: trial.command_lines(effort.of(12, 1)), store)
        await trial.attempt(trial.retain, store)
        await trial.attempt(trial.delete_all, store)
    verdict.figures.update(errors=trial.typed, crashes=trial.crashes)
    verdict.require(trial.typed, "no error was raised, so nothing was hostile")
    return verdict


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Trial:
    """What is done with a table of good and hostile rows.

    Attributes:
        typed: How many errors of the right type there were.
        crashes: How many others.
    """

    def __init__(self, place: Place, rows: list[Hostile], verdict: Verdict, *, is_quick: bool) -> None:
        self._is_quick = is_quick
        self.typed = self.crashes = 0
        self._place = place
        self._rows = rows
        self._verdict = verdict
        self._require = verdict.require
        self._by_id = {_as_listed(row.checkpoint_id): row for row in rows}

    async def attempt(self, work: Callable[[SQLAlchemyCheckpointStore], Any], store: SQLAlchemyCheckpointStore) -> None:
        """Do something; an error that comes out of it counts as a crash."""
        name = getattr(work, "__name__", "?")
        try:
            await work(store)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._crash(name, error)

    def _crash(self, what: str, error: BaseException) -> None:
        self.crashes += 1
        self._verdict.broken.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")

    async def list_all(self, store: SQLAlchemyCheckpointStore) -> None:
        """Listings hold every row, the order included."""
        listed = await store.list_checkpoints()
        self._require(len(listed) == len(self._rows) + _GOOD, f"{len(listed)} rows are listed")
        self._require({one.checkpoint_id for one in listed} >= set(self._by_id), "some hostile rows are not listed")
        good = await store.list_checkpoints(run_id="good")
        self._require([one.checkpoint_id for one in good] == _good_ids(), "the good run is not as it was")
        await store.take_series(0.0, 2e9, 10)
        for wanted in ({"is_paused": True}, {"is_paused": False}, {"heads_only": True}, {"status": "running"},
                       {"id_contains": "o"}, {"runs_only": True}, {"status": "paused", "is_paused": True},
                       {"created_after": 0.0}, {"created_before": 0.0}, {"workflow_name": ""}):  # fmt: skip
            await store.list_checkpoints(**wanted)
        await store.list_abandoned()
        stats = await store.get_stats()
        self._require(stats.total_checkpoints == len(listed), f"{stats.total_checkpoints} rows are counted")
        self._require(stats.workflows.get("load") == _GOOD, "the good workflow is miscounted")

    async def page(self, store: SQLAlchemyCheckpointStore) -> None:
        """Page by page, each row comes once, the good ones in their order."""
        for size in (1, _PAGE):
            found: list[CheckpointMetadata] = []
            while page := await store.list_checkpoints(limit=size, before=found[-1] if found else None):
                found += page
                if len(found) > len(self._rows) + _GOOD:
                    break
            missing = {**self._by_id, **dict.fromkeys(_good_ids())}.keys() - {one.checkpoint_id for one in found}
            self._require(
                len(found) == len(self._rows) + _GOOD and not missing, f"pages of {size} miss {missing!r:.200}"
            )

    async def load_all(self, store: SQLAlchemyCheckpointStore) -> None:
        """Each hostile one raises its error, or loads; a good one beside it loads."""
        for checkpoint_id, row in self._addressable():
            await self._expect(row, "load", store.load_checkpoint(checkpoint_id))
        together = [
            *_good_ids(),
            *(checkpoint_id for checkpoint_id, row in self._addressable() if "payload" in row.columns),
        ]
        loads = [store.load_checkpoint(checkpoint_id) for checkpoint_id in together[: _GOOD + 30]]
        for checkpoint_id, found in zip(together, await asyncio.gather(*loads, return_exceptions=True), strict=False):
            is_good = checkpoint_id.startswith("good-")
            self._require(
                not is_good or getattr(found, "run_id", None) == "good", f"{checkpoint_id} was lost: {found!r:.100}"
            )

    async def claim_all(self, store: SQLAlchemyCheckpointStore) -> None:
        """A claim of a damaged one says so, and nobody holds it afterwards."""
        for checkpoint_id, row in self._addressable():
            if self._is_quick and "34 GB" in row.name:
                continue  # that is unpacked for half a second
            if row.columns.keys() & {"lease_owner", "superseded"}:
                with contextlib.suppress(WorkflowsError):
                    await store.claim_checkpoint(checkpoint_id, "claimant", 0.001)
                continue
            await self._expect(row, "claim", store.claim_checkpoint(checkpoint_id, "claimant", 0.001))
            if not row.loads:
                await self._expect(row, "claim again", store.claim_checkpoint(checkpoint_id, "another", 0.001))

    async def _expect(self, row: Hostile, what: str, call: Any) -> None:
        try:
            found = await call
        except CheckpointDecodeError as error:
            self.typed += 1
            self._require(not row.loads, f"{what} of {row.name}: {error}")
            text = str(error)
            self._require(
                text.isprintable() and len(text) < 1_000, f"{what} of {row.name}: the message is {text!r:.80}"
            )
            self._require(
                error.__context__ is None, f"{what} of {row.name}: {error.__context__!r:.80} hangs on the error"
            )
        except Exception as error:  # noqa: BLE001 - it is what was found
            self._crash(f"{what} of {row.name}", error)
        else:
            self._require(row.loads and found is not None, f"{what} of {row.name} brought {found!r:.80}")

    async def stream(self, store: SQLAlchemyCheckpointStore) -> None:
        """The stream brings every state that can be read, tells of every one that cannot, and ends."""
        damaged: list[object] = []
        states = [
            one async for one in store.iter_checkpoints(on_damaged=lambda known, _: damaged.append(known.checkpoint_id))
        ]
        seen = Counter([*(one.checkpoint_id for one in states), *damaged])
        wanted = {_as_listed(row.checkpoint_id): row for row in self._rows}
        self._require(set(seen) == {*wanted, *_good_ids()}, f"the stream left out {str(set(wanted) - set(seen))[:200]}")
        self._require(max(seen.values()) == 1, "the stream brought some twice")
        told = {key for key, row in wanted.items() if not row.loads}
        self._require(set(damaged) == told, f"told of the wrong ones: {str(set(damaged) ^ told)[:200]}")
        self._require(
            [one.checkpoint_id for one in states if one.run_id == "good"] == _good_ids(), "good ones are missing"
        )
        try:
            async for _ in store.iter_checkpoints():
                pass
        except CheckpointDecodeError:
            self.typed += 1
        else:
            self._verdict.broken.append("a stream that is to stop at a damaged one went on")

    async def look_at_runs(self, store: SQLAlchemyCheckpointStore) -> None:
        """Runs are listed, and what can be recovered of them is looked at."""
        executor = WorkflowExecutor(store)
        runs = await executor.list_runs(limit=1_000)
        self._require(any(run.run_id == "good" for run in runs), "the good run is not listed")
        paged: list[Any] = []
        while page := await executor.list_runs(limit=_PAGE, before=paged[-1] if paged else None):
            paged += page
            if len(paged) > len(runs):
                break
        self._require(
            [one.checkpoint_id for one in paged] == [one.checkpoint_id for one in runs], "pages of runs differ"
        )
        await executor.recover()

    async def command_lines(self, shown: int) -> None:
        """Commands show what there is, or end with one line that says why they cannot."""
        commands = [["checkpoints", "list", "--limit", "500"], ["runs", "list", "--json", "--limit", "500"]]
        commands += [["doctor"], ["doctor", "--deep", "--json"]]
        if shown > 1:
            commands += [["checkpoints", "list", "--json", "--limit", "500"], ["runs", "list", "--limit", "500"]]
            commands += [["runs", "show", "'; DROP TABLE checkpoints; --"], ["db", "current"]]
        ids = [checkpoint_id for checkpoint_id, _ in self._addressable()]
        commands += [["checkpoints", "show", checkpoint_id] for checkpoint_id in ids[:: max(1, len(ids) // shown)]]
        two_at_a_time = asyncio.Semaphore(2)

        async def run(words: list[str]) -> None:
            async with two_at_a_time:
                await self._command_line(words)

        await asyncio.gather(*map(run, commands))

    async def _command_line(self, words: list[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOWS_")}
        with tempfile.TemporaryDirectory(dir=self._place.folder) as name:
            files = Path(name, "out"), Path(name, "err")
            process = start_command(words, {**kept, "WORKFLOWS_DATABASE_URL": self._place.url}, *files)
            code = await join(process)
            out, err = (file.read_text() for file in files)
        what = " ".join(words)[:80]
        row = self._by_id.get(words[-1]) if words[1:2] == ["show"] else None
        fails = row is not None and words[0] == "checkpoints" and not (row.loads and row.can_be_shown)
        self._require(
            code == (1 if fails or words[0] == "doctor" else 0),
            f"{what}: exit code {code}: {err[-200:]}",
        )
        if fails:
            self.typed += 1
            is_clear = err.startswith("error: ") and err.count("\n") == 1 and "a bug" not in err
            self._require(is_clear and not out, f"{what}: {err[:200]!r}")
        self._require("Traceback" not in err and "a bug" not in err, f"{what}: {err[-300:]}")
        self._require(not {"\x1b", "\x07"} & set(err), f"{what}: control characters reach the terminal")
        found = json.loads(out) if "--json" in words and not fails else None
        if words[0] == "doctor" and found is not None:
            problems = {one["check"]: one["found"] for one in found if one["verdict"] == "problem"}
            damaged = sum(not row.loads for row in self._rows)
            told = problems.get("payloads", "nothing")
            self._require(
                problems.keys() <= {"payloads", "integrity"} and f" {damaged} cannot be read" in told,
                f"{what}: {damaged} cannot be read: {problems!r:.200}",
            )

    async def retain(self, store: SQLAlchemyCheckpointStore) -> None:
        """Retention takes what it should of the good ones, and comes to an end."""
        async with asyncio.timeout(60):
            await store.trim_per_workflow(10)
        left = await store.list_checkpoints(workflow_name="load")
        self._require([one.checkpoint_id for one in left] == _good_ids()[:10], "trim left the wrong ones")
        await store.save_checkpoint(dataclasses.replace(state_of("good-old", 0), created_at=1.0, run_id="good"))
        async with asyncio.timeout(60):
            await store.cleanup_expired(time.time() - 2.0, keep_paused=False)
        self._require(await store.load_checkpoint("good-old") is None, "what had expired is there still")

    async def delete_all(self, store: SQLAlchemyCheckpointStore) -> None:
        """What has an id that can be named can be deleted; the rest is in nobody's way."""
        self._require(await store.delete_run("good") == 10, "the good run was not deleted whole")
        for row in self._rows:
            if isinstance(row.columns.get("run_id"), str) and _is_name(row.columns["run_id"]):
                await store.delete_run(row.columns["run_id"])
        for checkpoint_id, _ in self._addressable():
            await store.delete_checkpoint(checkpoint_id)
        left = [one.checkpoint_id for one in await store.list_checkpoints()]
        named = [one for one in left if _is_name(one)]
        self._require(not named, f"{named[:3]} cannot be deleted")
        await store.save_checkpoint(state_of("after", 1))
        self._require(await store.load_checkpoint("after") == state_of("after", 1), "nothing can be saved any more")
        await store.vacuum()

    def _addressable(self) -> Iterable[tuple[str, Hostile]]:
        """The rows whose ids a caller can name."""
        for row in self._rows:
            if _is_name(row.checkpoint_id):
                yield str(row.checkpoint_id), row


def _good_ids() -> list[str]:
    return [f"good-{number}" for number in reversed(range(_GOOD))]


def _is_name(value: object) -> bool:
    with contextlib.suppress(ValueError):
        return not isinstance(value, bytes) and bool(check_name("checkpoint_id", value))
    return False


def _as_listed(checkpoint_id: object) -> Any:
    return checkpoint_id.decode("utf-8", "surrogateescape") if isinstance(checkpoint_id, BadText) else checkpoint_id


async def _write(place: Place, rows: Iterable[Hostile]) -> None:
    """Write the rows, each like a good one but for what is hostile; none has a NULL where none may be."""
    if place.database == "sqlite":
        with contextlib.closing(sqlite3.connect(place.url)) as file:
            file.row_factory = sqlite3.Row
            model = dict(file.execute("SELECT * FROM checkpoints WHERE checkpoint_id = 'good-0'").fetchone())
            for number, row in enumerate(rows):
                made = _row(model, number, row)
                marks = ["CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in made.values()]
                values = [bytes(value) if isinstance(value, BadText) else value for value in made.values()]
                file.execute(f"INSERT INTO checkpoints ({', '.join(made)}) VALUES ({', '.join(marks)})", values)
            file.commit()
        return
    server = await asyncpg.connect(place.url)
    try:
        await server.execute("BEGIN")
        [found] = await server.fetch("SELECT * FROM checkpoints WHERE checkpoint_id = 'good-0'")
        model = dict(found)
        for number, row in enumerate(rows):
            made = _row(model, number, row)
            places = ", ".join(f"${index}" for index in range(1, len(made) + 1))
            await server.execute(f"INSERT INTO checkpoints ({', '.join(made)}) VALUES ({places})", *made.values())
        await server.execute("COMMIT")
    finally:
        await server.close()


def _row(model: Mapping[str, Any], number: int, row: Hostile) -> dict[str, Any]:
    """A row that is hostile in its own way, and created at the time of a good one."""
    named = {
        "checkpoint_id": row.name,
        "workflow_name": "hostile",
        "run_id": None,
        "created_at": 1.8e9 + number % _GOOD,
    }
    made = {**model, **named, **row.columns}
    if row.loads and "payload" not in row.columns:
        made["encoding"], made["payload"] = "guide-json", json.dumps({
            "runtime_inputs": {}, "context": {}, "completed_blocks": [], "current_wave_index": 0, "execution_waves": [],
            "block_definitions": {}, "workflow_stack": [],
        }).encode()  # fmt: skip
    return made


ROW = Row(
    fault="hostile rows",
    promise="A row that nobody's store wrote has a typed error of its own; all else goes on, and memory is bounded.",
    check=check,
)
