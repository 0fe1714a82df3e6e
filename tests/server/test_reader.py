"""Texts that clients send are read one after the other, beside all else that a server does."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.server.conversation import settings_of, talking
from workflows_mcp.errors import WorkflowDefinitionError
from workflows_mcp.server.reader import Reader
from workflows_mcp.server.tools import running

BUSY_AT_THE_END = """
import asyncio, threading
from workflows_mcp.server.reader import Reader

async def main():
    reading = asyncio.create_task(Reader().read(threading.Event().wait))
    await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_one_at_a_time_is_read_and_none_that_nobody_waits_for() -> None:
    """What goes wrong is raised, and the next one is read."""
    reader, gate, begun = Reader(), threading.Event(), threading.Event()
    called: list[str] = []

    def first() -> str:
        begun.set()
        gate.wait(10)
        return "first"

    def fail() -> None:
        raise ValueError("no YAML")

    reading = asyncio.create_task(reader.read(first))
    await asyncio.to_thread(begun.wait, 10)
    given_up = asyncio.create_task(reader.read(lambda: called.append("given up")))
    failing = asyncio.create_task(reader.read(fail))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert not reading.done()
    gate.set()
    assert await reading == "first"
    with pytest.raises(ValueError, match="no YAML"):
        await failing
    assert await reader.read(lambda: called) == []


def test_it_keeps_no_process_from_its_end() -> None:
    """However long it still had to read."""
    subprocess.run([sys.executable, "-c", BUSY_AT_THE_END], check=True, timeout=20)


async def test_texts_that_take_long_keep_no_other_call_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are at once: more than there are threads for all calls."""
    gate = threading.Event()

    def slowly(_: object) -> None:
        gate.wait(20)
        raise WorkflowDefinitionError("it is no YAML")

    monkeypatch.setattr(running, "read_workflow", slowly)
    async with talking(settings_of(tmp_path)) as call:
        several = [asyncio.create_task(call("execute_inline_workflow", workflow_yaml="x")) for _ in range(40)]
        await asyncio.sleep(0)
        await call.ok("list_runs")
        await call.ok("list_workflows")
        assert not any(one.done() for one in several)
        gate.set()
        assert {said.text for said in await asyncio.gather(*several)} == {"it is no YAML"}


async def test_many_inputs_are_checked_quickly(tmp_path: Path) -> None:
    """In a time that grows as their number does."""
    inputs = "".join(f"  i{number}: {{}}\n" for number in range(2000))
    text = (
        f"name: b\ninputs:\n{inputs}blocks: [{{id: a, type: Shell, inputs: {{command: 'echo {{{{ inputs.i7 }}}}'}}}}]\n"
    )
    async with talking(settings_of(tmp_path)) as call:
        began = time.process_time()
        said = await call.ok("validate_workflow_yaml", yaml_content=text)
        assert time.process_time() - began < 3
    assert said.data["valid"]
    unread = [warning for warning in said.data["warnings"] if "read nowhere" in warning]
    assert len(unread) == 1999
    assert "input 'i7' is read nowhere" not in unread
