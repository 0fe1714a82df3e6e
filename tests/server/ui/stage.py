"""A database of runs to be looked at: those of a small company's last week, made by real executors.

python -m tests.server.ui.stage runs.db    # then: workflows-mcp ui --database-url runs.db
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.clocks import HOUR, Clock
from tests.faults.crew import fork, join
from workflows_mcp import (
    CheckpointConfig,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    upgrade_schema,
)
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.persistence.backup import backup_database
from workflows_mcp.testing import make_state

__all__ = ["HISTORY", "STAGE_ENVIRONMENT", "WORKFLOWS", "make_stage", "set_stage"]

WORKFLOWS = Path(__file__).parent / "workflows"

HISTORY = 60
"""Steps of the run with the long history."""

STAGE_ENVIRONMENT = {"WORKFLOWS_TEMPLATE_PATHS": str(WORKFLOWS), "WORKFLOWS_AUTO_CLEANUP": "false"}
"""What a server needs that shows these runs, besides the database's URL."""

_PACE = 100.0
"""What takes a second on the stage has taken this many."""

_MINUTE, _DAY = 60.0, 24 * HOUR

_LEASE_SECONDS = 24 * HOUR
"""So long what is under way at the end counts as at work, though nobody works on it."""

_SUPPLIERS = ("Northwind", "Adria Foods", "Hansen & Sons", "Café Zürich")


class _FastClock(Clock):
    """Goes as many times faster as `_PACE` says, from when it is set on."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._shown = self._since = super().time()

    def begin(self, seconds_ago: float) -> None:
        """Set it to a time before now."""
        self._since = super().time()
        self._shown = self._since - seconds_ago

    def time(self) -> float:
        """See `Clock.time`."""
        return self._shown + (super().time() - self._since) * _PACE


@dataclass(frozen=True)
class _Scene:
    """A run, and when it was what.

    Attributes:
        run_id: Names it.
        workflow: Runs.
        ago: So many seconds ago it began.
        inputs: Its inputs.
        answers: What was answered, each with how many seconds ago.
    """

    run_id: str
    workflow: str
    ago: float
    inputs: dict[str, Any] = field(default_factory=dict)
    answers: tuple[tuple[float, str], ...] = ()


def _scenes() -> Iterator[_Scene]:
    """The runs that are over, or wait."""
    yield _Scene("release-4.1.0", "release", 5.2 * _DAY, {"version": "4.1.0"}, ((5.1 * _DAY, "Release it"),))
    for night in (3, 2):
        yield _Scene(f"import-day-{night}", "data-import", night * _DAY - 3 * HOUR, {"day": f"{night} days ago"})
    yield _invoice(2038, 3.4 * _DAY, "1,240.50", (3.1 * _DAY, "Pay"))
    yield _invoice(2039, 2.6 * _DAY, "89.00", (2.2 * _DAY, "Reject"))
    for number in range(24):
        supplier = _SUPPLIERS[number % len(_SUPPLIERS)]
        yield _Scene(f"prices-{number + 1:02}", "price-sync", (47 - number * 1.9) * HOUR, {"supplier": supplier})
    yield _Scene("release-4.2.0", "release", 31 * HOUR, {"version": "4.2.0"}, ((29 * HOUR, "Release it"),))
    yield _invoice(2041, 26 * HOUR, "12,980.00")
    yield _Scene("deploy-4.2.0", "deploy", 25 * HOUR, {"version": "4.2.0", "careful": False})
    yield _Scene("backup-orders", "nightly-backup", 10 * HOUR)
    yield _Scene("import-last-night", "data-import", 9 * HOUR, {"day": "yesterday"})
    yield _Scene("onboard-adria-foods", "supplier-onboarding", 5.5 * HOUR, {"supplier": "Adria Foods"})
    yield _invoice(2042, 3.2 * HOUR, "310.20", (3 * HOUR, "Ask the supplier"))
    yield _invoice(2043, 2.1 * HOUR, "1,240.50")
    yield _Scene(
        "deploy-4.2.1", "deploy", 80 * _MINUTE, {"version": "4.2.1"}, ((70 * _MINUTE, "Go on"),)
    )  # waits for its second region
    yield _Scene("release-4.3.0", "release", 14 * _MINUTE, {"version": "4.3.0", "channel": "stable and beta"})


def _invoice(number: int, ago: float, amount: str, *answers: tuple[float, str]) -> _Scene:
    supplier = _SUPPLIERS[number % len(_SUPPLIERS)]
    inputs = {"number": f"INV-{number}", "supplier": supplier, "amount": amount}
    return _Scene(f"invoice-{number}", "invoice-approval", ago, inputs, answers)


def _ledger() -> str:
    """A workflow of many steps, one after the other."""
    steps = []
    for number in range(1, HISTORY + 1):
        needs = f", depends_on: [day_{number - 1:03}]" if number > 1 else ""
        steps.append(f"- {{id: day_{number:03}, type: Shell{needs}, inputs: {{command: echo {number * 137} booked}}}}")
    return "\n".join(["name: ledger-reconcile", "blocks:", *steps, ""])


async def set_stage(file: Path) -> None:
    """Make a database of runs; in a process of its own, which goes by another clock from then on.

    Args:
        file: A path where no file is yet.
    """
    with tempfile.TemporaryDirectory() as folder:
        clock = _FastClock(Path(folder) / "clock")
        clock.install()
        url = Path(folder) / "runs.db"
        await upgrade_schema(url)
        async with SQLAlchemyCheckpointStore(url) as store:
            executor = WorkflowExecutor(
                store,
                CheckpointConfig(auto_cleanup=False),
                library=WorkflowLibrary([WORKFLOWS]),
                lease_seconds=_LEASE_SECONDS,
            )
            clock.begin(6.5 * _DAY)
            await executor.execute_workflow(_ledger(), run_id="ledger-november")
            for scene in _scenes():
                await _play(executor, clock, scene)
            await _leave(store, clock)
            await _show_what_is_under_way(executor, clock, store)
            await backup_database(url, file)
            await executor.cancel("import-today")


async def _play(executor: WorkflowExecutor, clock: _FastClock, scene: _Scene) -> None:
    clock.begin(scene.ago)
    result = await executor.execute_workflow(scene.workflow, scene.inputs, run_id=scene.run_id)
    for ago, answer in scene.answers:
        assert result.checkpoint_id is not None, result
        clock.begin(ago)
        result = await executor.resume_workflow(result.checkpoint_id, answer)


async def _leave(store: SQLAlchemyCheckpointStore, clock: _FastClock) -> None:
    """A run of somebody else's executor, whose process is gone: nobody here can go on with it."""
    waves = [["fetch"], ["parse", "count"], ["load"]]
    needs = {"fetch": [], "parse": ["fetch"], "count": ["fetch"], "load": ["parse", "count"]}
    clock.begin(7.5 * HOUR)
    for number in range(3):
        state = make_state(
            f"etl-7741-{number}",
            workflow_name="legacy-etl",
            run_id="etl-7741",
            runtime_inputs={"source": "s3://example/orders-2026-11.csv"},
            context={"rows_read": 40_000 * number, "rows_bad": [17, 4_022][:number]},
            completed_blocks=[block for wave in waves[:number] for block in wave],
            current_wave_index=number,
            execution_waves=waves,
            block_definitions={block: {"type": "task", "depends_on": before} for block, before in needs.items()},
        )
        follows = f"etl-7741-{number - 1}" if number else None
        await store.save_checkpoint(state, follows=follows, owner="etl-worker-3", lease_seconds=30)
        await asyncio.sleep(20 / _PACE)


async def _show_what_is_under_way(
    executor: WorkflowExecutor, clock: _FastClock, store: SQLAlchemyCheckpointStore
) -> None:
    """A run that has come to its fourth wave, and stays there."""
    clock.begin(2 * _MINUTE)
    inputs = {"day": "today", "seconds": 600}
    await executor.start_workflow("data-import", inputs, run_id="import-today")
    while (await store.list_checkpoints(run_id="import-today", limit=1))[0].current_wave_index < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def _set_stage_and_end(file: str) -> None:
    asyncio.run(set_stage(Path(file)))
    os._exit(0)  # by its own clock there is no telling what else of it would take how long


async def make_stage(file: Path) -> None:
    """Make a database of runs, in a process of its own.

    Raises:
        RuntimeError: It could not be made; stderr says why.
    """
    code = await join(fork(_set_stage_and_end, str(file)))
    if code:
        raise RuntimeError(f"the stage was not set: exit code {code}")


if __name__ == "__main__":
    began = time.perf_counter()
    asyncio.run(set_stage(Path(sys.argv[1])))
    print(f"{sys.argv[1]}, in {time.perf_counter() - began:.1f} s")
