"""What a model is told when something goes wrong says what to do next, and shows nothing that it must not."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest
from mcp import Client
from pydantic import BaseModel, ValidationError

from tests.server.conversation import Said, settings_of, talking, until
from workflows_mcp import errors
from workflows_mcp.server import services
from workflows_mcp.server.app import build_server
from workflows_mcp.server.failures import explain

ABOUT_A_CHECKPOINT = {"checkpoint_id": "c1"}

TOLD: dict[str, tuple[Exception, dict[str, str], str]] = {
    "a checkpoint that is gone": (
        errors.CheckpointNotFoundError("is_paused=True"),
        ABOUT_A_CHECKPOINT,
        "list_checkpoints",
    ),
    "a run that is gone": (errors.CheckpointNotFoundError("start it again"), {"run_id": "r1"}, "no run 'r1'"),
    "a claim": (errors.CheckpointAlreadyClaimedError("heads_only=True"), ABOUT_A_CHECKPOINT, "get_run"),
    "a run that was lost": (errors.LeaseLostError("the lease is not this owner's"), {}, "get_run"),
    "a schema": (errors.SchemaOutOfDateError("run workflows-mcp db upgrade"), {}, "whoever runs this server"),
    "a full disk": (errors.StoreFullError("the disk is full"), {}, "the disk is full. No tool"),
    "a store that is away": (
        errors.StoreUnavailableError("it is away; try again"),
        {},
        "it is away; try again. If it is so again in a minute, no tool",
    ),
    "a definition": (errors.WorkflowDefinitionError("block 'a' is unknown"), {}, "block 'a' is unknown"),
    "a value": (ValueError("limit must be at least 0"), {}, "limit must be at least 0"),
}
"""What is raised, what the call was about, and what of it is told."""


@pytest.mark.parametrize("name", TOLD)
def test_an_error_that_is_foreseen_is_told_in_words_of_the_tools(name: str) -> None:
    """And not in those of a command line, or of Python."""
    error, arguments, word = TOLD[name]
    told = explain(error, "a_tool", arguments)
    assert word in told
    assert "=True" not in told


def unreadable() -> ValidationError:
    """An error of pydantic, which quotes what it could not read."""

    class Model(BaseModel):
        number: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"number": "s3cret"})
    return caught.value


@pytest.mark.parametrize("error", [KeyError("s3cret"), UnicodeDecodeError("utf-8", b"s3cret", 0, 1, "x"), unreadable()])
def test_an_error_that_is_not_foreseen_is_told_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The text may quote what is stored; its type and its place are enough to find it."""
    told = explain(error, "a_tool", {})
    assert type(error).__name__ in told
    [record] = caplog.records
    assert type(error).__name__ in record.getMessage()
    assert record.exc_info is None
    assert "s3cret" not in told + record.getMessage()


async def test_the_id_of_a_run_is_no_checkpoint_but_names_one(tmp_path: Path) -> None:
    """Whichever tool is given it; what is neither is told as before."""
    async with talking(settings_of(tmp_path)) as call:
        asked = (await call.ok("execute_workflow", workflow="anything", run_id="mine")).data["checkpoint_id"]
        for tool, more in {"resume_workflow": {"response": "x"}, "fork_run": {}, "delete_checkpoint": {}}.items():
            said = await call.refused(tool, checkpoint_id="mine", **more)
            assert said.endswith(f"That is the id of a run, whose newest checkpoint is {asked!r}")
            assert "of a run" not in await call.refused(tool, checkpoint_id="other", **more)


async def test_a_bug_of_ours_is_a_short_answer_and_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on."""
    caplog.set_level(logging.DEBUG)
    async with talking(settings_of(tmp_path)) as call:
        monkeypatch.setattr(call.services.library, "find", lambda _: dict[str, str]()["s3cret"])
        refusal = await call.refused("execute_workflow", workflow="greet")
        monkeypatch.undo()
        await call.ok("execute_workflow", workflow="fail")
    assert "failed unexpectedly (KeyError)" in refusal
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in lines] == ["workflows_mcp.server.failures"]
    assert "engine/finding.py:" in lines[0].getMessage()
    assert not any("s3cret" in record.getMessage() or record.exc_info for record in caplog.records)


async def test_a_database_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    """The server has begun all the same, and works as soon as there is a database."""
    away = settings_of(tmp_path, "postgresql://someone:s3cret@127.0.0.1:1/runs", deadline_seconds=0.3)
    async with talking(away) as call:
        refusal = await call.refused("execute_workflow", workflow="fail")
    assert "127.0.0.1:1" in refusal
    assert "s3cret" not in refusal


async def test_a_database_of_a_kind_that_there_is_not_is_told_by_the_tools(tmp_path: Path) -> None:
    """A client shows what tools say, and seldom why a server did not begin."""
    wrong = settings_of(tmp_path, "mysql://someone:s3cret@host/runs")
    async with Client(build_server(wrong)) as client:
        said = Said.of(await client.call_tool("execute_workflow", {"workflow": "fail"}))
    assert said.is_error
    assert "mysql" in said.text
    assert "No tool can mend that" in said.text
    assert "s3cret" not in said.text


def test_a_token_that_is_not_fit_is_of_no_concern_without_http(tmp_path: Path) -> None:
    """It is asked for over HTTP alone, and a client over stdio would only see that there is no server."""
    build_server(settings_of(tmp_path, http_token="weak", http_token_file=tmp_path / "missing"))


async def test_a_database_that_comes_back_is_used(tmp_path: Path, sqlite_template: Path) -> None:
    """Without a restart of the server."""
    path = tmp_path / "runs.db"
    path.write_text("this is no database, and is left alone")
    async with talking(settings_of(tmp_path, str(path))) as call:
        refusal = await call.refused("execute_workflow", workflow="fail")
        assert str(path) in refusal
        assert "No tool can mend that" in refusal
        shutil.copy(sqlite_template, path)
        assert (await call.ok("execute_workflow", workflow="fail")).data["status"] == "failure"


@pytest.mark.parametrize(("log_format", "runs_are_logged"), [("json", True), ("text", False)])
async def test_what_happens_in_runs_is_logged_for_programs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, log_format: str, *, runs_are_logged: bool
) -> None:
    """By the ids of runs, and without what they work on; people ask the tools."""
    caplog.set_level(logging.INFO)
    async with talking(settings_of(tmp_path, log_format=log_format)) as call:
        await call.ok("execute_workflow", workflow="greet", inputs={"who": "s3cret"}, run_id="one")
    told = [record for record in caplog.records if record.name == "workflows_mcp.runs"]
    assert ("a run is over" in {record.getMessage() for record in told}) is runs_are_logged
    assert all(record.__dict__["fields"]["run_id"] == "one" for record in told)
    assert "s3cret" not in repr([record.__dict__ for record in told])


def test_the_root_logger_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would have all libraries print their tracebacks."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    build_server(settings_of(tmp_path))
    assert logging.getLogger().handlers == []


async def test_calls_that_come_while_the_database_is_away_wait_for_one_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told what came of it, and the next call makes another; one that is given up disturbs no other."""
    attempts: list[asyncio.Event] = []

    async def prepare(_: object) -> None:
        attempts.append(asyncio.Event())
        await attempts[-1].wait()
        raise errors.CheckpointStoreError("the database is away")

    monkeypatch.setattr(services, "prepare_database", prepare)
    async with talking(settings_of(tmp_path, str(tmp_path / "runs.db"))) as call:
        for number in (1, 2):
            given_up = asyncio.create_task(call.services.prepare())
            calls = [asyncio.create_task(call("list_runs")) for _ in range(5)]
            await until(lambda: len(attempts) == number)  # noqa: B023 - it is called here alone
            given_up.cancel()
            await asyncio.sleep(0.01)
            attempts[-1].set()
            assert {said.text for said in await asyncio.gather(*calls)} == {"the database is away"}
    assert len(attempts) == 2
