"""The `Shell` block, with real commands."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from workflows_mcp.engine.blocks import BlockContext, BlockFailedError
from workflows_mcp.engine.blocks.shell import MAX_STREAM_BYTES, Shell, ShellInputs

CONTEXT = BlockContext(workflow_name="w", run_id="r", block_id="b")


async def run(command: str, **inputs: Any) -> dict[str, Any]:
    """The outputs of a command."""
    return await Shell().run(ShellInputs(command=command, **inputs), CONTEXT)


async def fails(command: str, **inputs: Any) -> BlockFailedError:
    """How a command fails."""
    with pytest.raises(BlockFailedError) as caught:
        await run(command, **inputs)
    return caught.value


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def read_pid(fifo: Path) -> int:
    """The number that a command writes into a pipe, once it does."""
    return int(await asyncio.to_thread(fifo.read_text))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe through which a command can say that it runs."""
    path = tmp_path / "pid"
    os.mkfifo(path)
    return path


async def test_the_streams_and_the_exit_code_are_the_outputs() -> None:
    """As text, exactly as written."""
    assert await run("printf 'a\\n'; printf ' b' >&2") == {
        "stdout": "a\n",
        "stderr": " b",
        "exit_code": 0,
        "truncated": False,
    }


async def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """They do not fail the block."""
    assert (await run("printf 'a\\377b\\000c'"))["stdout"] == "a\ufffdb\0c"


async def test_a_stream_is_kept_up_to_its_cap_and_the_command_still_ends() -> None:
    """`truncated` says so; the other stream is whole."""
    outputs = await run(f"head -c {3 * MAX_STREAM_BYTES} /dev/zero | tr '\\0' x; echo end >&2")
    assert outputs["stdout"] == "x" * MAX_STREAM_BYTES
    assert outputs["stderr"] == "end\n"
    assert outputs["truncated"] is True
    exact = await run(f"head -c {MAX_STREAM_BYTES} /dev/zero | tr '\\0' x")
    assert len(exact["stdout"]) == MAX_STREAM_BYTES
    assert exact["truncated"] is False


async def test_an_exit_code_other_than_0_fails_with_the_end_of_stderr() -> None:
    """And keeps the outputs."""
    failure = await fails("echo out; for i in $(seq 99); do echo line $i >&2; done; exit 3")
    assert str(failure).startswith("the command ended with exit code 3; stderr ends with:\nline 90\n")
    assert str(failure).endswith("line 99")
    assert failure.outputs["exit_code"] == 3
    assert failure.outputs["stdout"] == "out\n"
    assert str(await fails("exit 7")) == "the command ended with exit code 7; stderr is empty"


async def test_a_killed_command_names_the_signal() -> None:
    """Its exit code is negative then."""
    failure = await fails("kill -TERM $$")
    assert "killed by signal SIGTERM" in str(failure)
    assert failure.outputs["exit_code"] == -signal.SIGTERM
    assert "killed by signal 40;" in str(await fails("kill -40 $$"))  # it has no name


async def test_a_command_reads_nothing_from_our_stdin() -> None:
    """It sees the end of it at once."""
    assert (await run("cat; echo done"))["stdout"] == "done\n"


async def test_it_runs_in_its_working_dir(tmp_path: Path) -> None:
    """Which must be a folder."""
    assert (await run("pwd -P", working_dir=str(tmp_path)))["stdout"] == f"{tmp_path.resolve()}\n"
    assert str(await fails("pwd", working_dir=str(tmp_path / "gone"))).endswith("gone' is not a folder")


async def test_variables_are_given_and_ours_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and secrets of the executor do not reach commands, whatever the case of their names."""
    monkeypatch.setenv("workflows_encryption_keys", "canary")
    monkeypatch.setenv("Workflows_Database_URL", "postgresql://u:canary@h/d")
    monkeypatch.setenv("workflow_secret_key", "canary")
    monkeypatch.setenv("WORKFLOWS_DATABASE_URL", "postgresql://u:canary@h/d")
    monkeypatch.setenv("WORKFLOW_SECRET_KEY", "canary")
    monkeypatch.setenv("CHECKPOINT_DB_PATH", "canary")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("PGPASSFILE", "/canary")
    monkeypatch.setenv("HARMLESS", "here")
    outputs = await run("env; echo $GREETING", env={"GREETING": "hi $HARMLESS", "NUMBER": 5, "FLAG": True})
    assert "canary" not in outputs["stdout"]
    lines = outputs["stdout"].splitlines()
    assert {"HARMLESS=here", "NUMBER=5", "FLAG=True"} <= set(lines)
    assert lines[-1] == "hi $HARMLESS"


async def test_a_command_that_is_too_long_for_the_system_fails_clearly() -> None:
    """No traceback, no partial run."""
    assert str(await fails("true " + "x" * 3_000_000)) == "the command could not be started: Argument list too long"


async def test_a_timeout_kills_all_that_the_command_started(fifo: Path) -> None:
    """Its children too; what was written before is kept."""
    command = f"echo early; sh -c 'echo $$ > {fifo}; exec sleep 1000' & wait"
    pid = asyncio.ensure_future(read_pid(fifo))
    failure = await fails(command, timeout_seconds=0.5)
    assert str(failure).startswith("the command was killed after 0.5 s (timeout_seconds)")
    assert failure.outputs["stdout"] == "early\n"
    assert not is_alive(await pid)


async def test_cancellation_kills_all_that_the_command_started(fifo: Path) -> None:
    """And waits until it is gone."""
    block = asyncio.create_task(run(f"trap '' TERM INT HUP; sh -c 'echo $$ > {fifo}; exec sleep 1000' & wait"))
    pid = await read_pid(fifo)
    assert is_alive(pid)
    block.cancel()
    with pytest.raises(asyncio.CancelledError):
        await block
    assert not is_alive(pid)


async def test_cancellation_at_any_moment_leaves_no_process(tmp_path: Path) -> None:
    """Even while the command is being started."""
    mark = tmp_path / "mark"
    for steps in range(12):
        block = asyncio.create_task(run(f"exec sh -c 'exec sleep 1000' {mark}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        block.cancel()
        with pytest.raises(asyncio.CancelledError):
            await block
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _holds(path, str(mark))]
    assert left == []


def _holds(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_waits_for_what_still_holds_its_output() -> None:
    """Like a shell's own $( )."""
    assert (await run("(sleep 0.05; echo late) & echo early"))["stdout"] == "early\nlate\n"


async def test_what_left_the_session_does_not_hold_a_timeout_up(fifo: Path) -> None:
    """It keeps the pipe open, and is nobody's to kill."""
    pid_read = asyncio.ensure_future(read_pid(fifo))
    failure = await fails(f"setsid sh -c 'echo $$ > {fifo}; exec sleep 1000' & wait", timeout_seconds=0.3)
    pid = await pid_read
    try:
        assert "killed after 0.3 s" in str(failure)
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_many_commands_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other through a pipe."""
    os.mkfifo(tmp_path / "p")
    one, two = await asyncio.gather(
        run("read -r x < p; echo got $x", working_dir=str(tmp_path)), run("echo it > p", working_dir=str(tmp_path))
    )
    assert one["stdout"] == "got it\n"
    assert two["exit_code"] == 0
