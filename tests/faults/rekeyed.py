"""A database is sealed with a new key while processes save there, and whoever does it is killed on the way."""

import asyncio
import dataclasses
import json
import resource
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tests.faults.audit import audit
from tests.faults.crew import append, join, start
from tests.faults.load import STOP, Acknowledged, Met, met, save_until_stopped, state_of, until_saving
from tests.faults.row import Effort, Place, Row, Verdict
from tests.persistence.chained import bases_of, broken_of, run_of, save_run
from workflows_mcp import CheckpointState, SQLAlchemyCheckpointStore, rekey_checkpoints, upgrade_schema
from workflows_mcp.persistence.keys import new_key
from workflows_mcp.settings import Settings, load_settings

__all__ = ["ROW"]

_WRITERS = ("writer-0", "writer-1")
_TASKS = 4
_AT_ONCE = 500

_RUNS, _SHARE_OF_RUNS = 20, 10
"""How many runs there are besides, and that they have one in so many checkpoints: plain ones, then some that are sealed
with the older key, deltas of the former."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Seal plain checkpoints and those under an older key; then take that key away, and load all."""
    old, new = new_key("old"), new_key("new")
    both = load_settings(encryption_keys=f"{new.entry},{old.entry}")
    await upgrade_schema(place.url)
    verdict = Verdict()
    acknowledged = Acknowledged(place.folder / "acknowledged")
    total = effort.of(100_000, 1_000)
    sealed = load_settings(encryption_keys=old.entry)
    await _fill(place.url, total, sealed, acknowledged)
    history = run_of(effort.of(1_000, 40))
    await _save_history(place.url, history, sealed)
    bases = await _bases_of(place.url, history)
    before = await _save(place, "before", both, None, asyncio.sleep(effort.of(10.0, 0.2)))
    rekeying = _rekey_and_kill(place, both, total, effort.of(4, 1), verdict)
    # A tenth of the very checkpoints that are rekeyed, each again and again.
    beside = await _save(place, "beside", both, total // len(_WRITERS) // _TASKS // 10, rekeying)
    verdict.figures["p99 ms of a save before, beside"] = f"{before.milliseconds(0.99)}/{beside.milliseconds(0.99)}"
    verdict.figures["worst ms of a save before, beside"] = f"{before.milliseconds(1)}/{beside.milliseconds(1)}"
    # The older key is gone, and nothing is believed that is not sealed.
    alone = load_settings(encryption_keys=new.entry, encryption="required")
    async with SQLAlchemyCheckpointStore(place.url, settings=alone) as store:
        plain, by_key = await store.count_seals()
        verdict.require(
            not plain and set(by_key) == {new.name}, f"{plain} are plain, and the others sealed by {by_key}"
        )
        broken = await broken_of(store, history, others_too=True)
        kept = await _bases_of(place.url, history) == bases
        await store.delete_run("run")
        (await audit(store, acknowledged)).tell(verdict)
    verdict.require(not broken, f"of {len(history):,} states of a run, these do not load: {sorted(broken)[:3]}")
    verdict.require(kept, "what was a delta is none any more, or one of something else")
    verdict.figures["deltas"] = len(bases)
    return verdict


async def _save_history(url: str, history: Sequence[CheckpointState], settings: Settings) -> None:
    """Save a run whose states are deltas: a half in plain text, and what goes on from there sealed."""
    half = len(history) // 2
    async with (
        SQLAlchemyCheckpointStore(url, settings=load_settings(encryption="off")) as plain,
        SQLAlchemyCheckpointStore(url, settings=settings) as sealed,
    ):
        await save_run(plain, history[:half])
        claimed = history[half - 1].checkpoint_id
        await sealed.claim_checkpoint(claimed, "rekeyed")
        await sealed.release_claim(claimed, "rekeyed")
        await save_run(sealed, history[half:])


async def _bases_of(url: str, history: Sequence[CheckpointState]) -> dict[str, str]:
    """What of a run is stored as a delta of what; nobody else saves there."""
    ids = {state.checkpoint_id for state in history}
    return {one: base for one, base in (await bases_of(url)).items() if one in ids}


async def _fill(url: str, total: int, settings: Settings, acknowledged: Acknowledged) -> None:
    """Save what the writers will save again later: every other checkpoint in plain text, the others sealed."""
    places = [
        (f"{writer}-{task}-{number}", number)
        for writer in _WRITERS
        for task in range(_TASKS)
        for number in range(total // len(_WRITERS) // _TASKS)
    ]
    # Two that are open at the same time: one that begins without keys where others have sealed saves nothing.
    async with (
        SQLAlchemyCheckpointStore(url) as plain,
        SQLAlchemyCheckpointStore(url, settings=settings) as sealed,
    ):
        await plain.save_checkpoint(state_of(*places[0]))
        runs = await _fill_runs(plain, sealed, total // _SHARE_OF_RUNS // _RUNS)
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            saves = ((sealed if at % 2 else plain).save_checkpoint(state_of(*one)) for at, one in enumerate(some))
            await asyncio.gather(*saves)
    everything = [*places, *runs]
    acknowledged.file.write_text("".join(f"{checkpoint_id} {number}\n" for checkpoint_id, number in everything))


async def _fill_runs(
    plain: SQLAlchemyCheckpointStore, sealed: SQLAlchemyCheckpointStore, waves: int
) -> list[tuple[str, int]]:
    """Save runs which begin in plain text and go on sealed; returns what was saved."""
    names = [f"run-{number}" for number in range(_RUNS)]
    for wave in range(waves):
        if wave == waves // 2:
            last = [f"{name}/{wave - 1}" for name in names]
            await asyncio.gather(*(sealed.claim_checkpoint(one, "sealing") for one in last))
        store = plain if wave < waves // 2 else sealed
        await asyncio.gather(*(store.save_checkpoint(state_of(f"{name}/{wave}", wave)) for name in names))
    return [(f"{name}/{wave}", wave) for wave in range(waves) for name in names]


async def _save(place: Place, when: str, settings: Settings, ids: int | None, during: Coroutine[Any, Any, None]) -> Met:
    """Have the writers save while something else happens; what they met with."""
    folder = place.folder / when
    folder.mkdir()
    names = [name if ids else f"{when}-{name}" for name in _WRITERS]
    writers = [start(write, place.url, folder, name, ids, settings) for name in names]
    await until_saving(folder, len(writers))
    await during
    (folder / STOP).touch()
    codes = [await join(one) for one in writers]
    found = met(folder)
    assert not any(codes), f"writers ended with exit codes {codes}"
    assert found.processes == len(writers)
    assert not found.errors, found.errors[:3]
    return found


async def write(url: str, folder: Path, name: str, ids: int | None, settings: Settings) -> None:
    """What a writer does, until it is stopped."""
    acknowledged = Acknowledged(folder.parent / "acknowledged")
    # Newer ones than those that were there: an older one that is put back is told from them.
    first = ids or 0
    await save_until_stopped(
        url, acknowledged, folder, tasks=_TASKS, ids=ids, first=first, name=name, settings=settings
    )


async def _rekey_and_kill(place: Place, settings: Settings, total: int, kills: int, verdict: Verdict) -> None:
    """Have processes rekey, each killed when it has done a part of what is left, but for the last one."""
    began = time.perf_counter()
    for number in range(kills + 1):
        told = place.folder / f"rekeyed-{number}"
        process = start(rekey, place.url, settings, told)
        if number < kills:
            while process.exitcode is None and not (told.exists() and _seen(told) > total * (number + 1) / (kills + 2)):
                await asyncio.sleep(0.005)
            verdict.require(process.exitcode is None, f"a process that rekeys ended by itself ({process.exitcode})")
            process.kill()
        code = await join(process)
    seconds = time.perf_counter() - began
    verdict.require(not code, f"the process that rekeys ended with exit code {code}")
    last = json.loads(told.with_suffix(".json").read_text())
    verdict.require(last["failed"] == 0 and last["left"] == 0, f"not all were rekeyed: {last}")
    verdict.figures |= {
        "checkpoints": total,
        "kills": kills,
        "s": f"{seconds:.1f}",
        "by the last one": last["changed"],
        "MB more at its peak": last["megabytes"],
    }


def _seen(told: Path) -> int:
    return max(map(int, told.read_text().split()), default=0)


async def rekey(url: str, settings: Settings, told: Path) -> None:
    """What the process does that is killed, or not."""
    async with SQLAlchemyCheckpointStore(url, settings=settings) as store:
        await store.list_checkpoints(limit=1)  # what any store takes, whatever it does
        await store.count_seals()
        megabytes = _peak()
        done = await rekey_checkpoints(store, on_progress=lambda seen, _: append(told, str(seen)))
    result = {**dataclasses.asdict(done), "megabytes": round(_peak() - megabytes)}
    told.with_suffix(".json").write_text(json.dumps(result))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ROW = Row(
    fault="rekey under load",
    promise="Two processes save on while all is sealed anew, by one that is killed and begun again: every acknowledged "
    "save loads equal, the older key is needed for none, and what was stored as deltas still is.",
    check=check,
)
