"""A client is told how far the run has come that its call waits for, and no client holds a run up."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.server.conversation import MODES, Mode, settings_of, talking
from workflows_mcp.server import progress as progress_module


@dataclass
class Listener:
    """What a client has been told.

    Attributes:
        told: The notifications, in turn.
        seconds: How long it takes for each.
    """

    told: list[tuple[float, float | None, str | None]] = field(default_factory=list)
    seconds: float = 0.0

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Note a notification."""
        await asyncio.sleep(self.seconds)
        self.told.append((progress, total, message))


async def test_all_waves_are_told_in_turn(tmp_path: Path) -> None:
    """What is done, of how many, and what runs now, all of it before the answer; an answered question counts on."""
    listener = Listener(seconds=0.02)

    async with talking(settings_of(tmp_path)) as call:
        client = call.client
        paused = await client.call_tool("execute_workflow", {"workflow": "approve"}, progress_callback=listener)
        assert listener.told == [(0, 3, "wave 1 of 3: build"), (1, 3, "wave 2 of 3: ask")]
        listener.told.clear()
        answer = {"checkpoint_id": (paused.structured_content or {})["checkpoint_id"], "response": "yes"}
        await client.call_tool("resume_workflow", answer, progress_callback=listener)
        assert listener.told == [(2, 3, "wave 3 of 3: deploy"), (3, 3, "all waves are done")]


NESTED = """
name: outer
blocks:
  - {id: first, type: Workflow, inputs: {workflow: approve_all}}
  - {id: second, type: Workflow, depends_on: [first], inputs: {workflow: approve_all}}
"""


@pytest.mark.parametrize("mode", MODES)
async def test_nested_waves_are_told_between_two_waves(tmp_path: Path, mode: Mode) -> None:
    """The number only ever rises, as the protocol wants it."""
    listener = Listener()

    settings = settings_of(tmp_path)
    three = "\n".join(
        f"  - {{id: b{n}, type: Shell, depends_on: [{f'b{n - 1}' if n else ''}], inputs: {{command: 'true'}}}}"
        for n in range(3)
    )
    (tmp_path / "library" / "approve_all.yaml").write_text(f"name: approve_all\nblocks:\n{three}\n")
    async with talking(settings, mode) as call:
        await call.client.call_tool("execute_inline_workflow", {"workflow_yaml": NESTED}, progress_callback=listener)
    assert {total for _, total, _ in listener.told} == {2}
    assert all(before[0] < after[0] for before, after in pairwise(listener.told))
    assert [message for done, _, message in listener.told if done == int(done)] == [
        "wave 1 of 2: first",
        "wave 2 of 2: second",
        "all waves are done",
    ]
    assert "second, wave 3: b2" in {message for done, _, message in listener.told if 1 < done < 2}


async def test_a_client_that_takes_no_progress_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the run, nor for long the answer of the call."""
    monkeypatch.setattr(progress_module, "_SECONDS_TO_SEND_THE_LAST", 0.05)
    is_told = asyncio.Event()

    async def never(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the SDK's signature
        is_told.set()
        await asyncio.Event().wait()

    async with talking(settings_of(tmp_path)) as call:
        said = await asyncio.wait_for(
            call.client.call_tool("execute_workflow", {"workflow": "approve"}, progress_callback=never), 20
        )
    assert is_told.is_set()
    assert (said.structured_content or {})["status"] == "paused"


async def test_a_client_that_is_gone_is_told_nothing_more(tmp_path: Path) -> None:
    """Its run goes on all the same, and nothing is kept of the call."""
    gate = tmp_path / "gate"
    text = f"""
name: two
blocks:
  - {{id: a, type: Shell, inputs: {{command: "while [ ! -e {gate} ]; do sleep 0.02; done"}}}}
  - {{id: b, type: Shell, depends_on: [a], inputs: {{command: "true"}}}}
"""
    listener = Listener()

    async with talking(settings_of(tmp_path)) as call:
        arguments = {"workflow_yaml": text, "run_id": "one", "wait_seconds": 0.1}
        await call.client.call_tool("execute_inline_workflow", arguments, progress_callback=listener)
        gate.touch()
        assert (await call.services.executor.wait_for_run("one", 20)).is_success
    assert "wave 2 of 2: b" not in {message for _, _, message in listener.told}
