"""`checkpoints diff`."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import CLI
from workflows_mcp import CheckpointState, InMemoryCheckpointStore, SQLAlchemyCheckpointStore, WorkflowResult
from workflows_mcp.cli.diff import diff_command
from workflows_mcp.cli.failures import CommandError
from workflows_mcp.cli.options import Options
from workflows_mcp.testing import make_state
from workflows_mcp.testing.values import nested

DATABASE = ("--database-url", "runs.db")


@pytest.fixture
def newest(cli: CLI, waiting: WorkflowResult) -> list[str]:
    """The checkpoints of the run that waits, the newest first."""
    listed = cli("checkpoints", "list", "--json", *DATABASE).json()["checkpoints"]
    assert listed[0]["checkpoint_id"] == waiting.checkpoint_id
    return [one["checkpoint_id"] for one in listed]


def test_one_checkpoint_is_compared_with_the_one_before_it(cli: CLI, newest: list[str]) -> None:
    """Both are named, then each change stands on a line with its sign; a pipe gets no colours."""
    out = cli("checkpoints", "diff", newest[0], *DATABASE).out
    assert out.splitlines()[0].startswith(f"before  {newest[1]}  running, wave 1, ")
    assert out.splitlines()[1].startswith(f"after   {newest[0]}  paused, wave 1, ")
    assert "1 added, 4 changed\n" in out
    assert '\n+ context.blocks.question: {"status": "paused"' in out or "\n+ context.blocks.question: {5 keys}" in out
    assert '\n~ pause_prompt: null → "Go on, Ann?"\n' in out
    assert "checkpoint_id" not in out
    assert "\x1b" not in out


def test_the_first_of_a_run_is_compared_with_nothing(cli: CLI, newest: list[str]) -> None:
    """Which is said; a large value is told by its size, and --full shows it."""
    first = cli("checkpoints", "diff", newest[-1], *DATABASE).out
    assert "It is the first that is kept of run " in first
    assert "+ block_definitions: {3 keys} (" in first
    assert "echo hello" not in first
    assert "echo hello" in cli("checkpoints", "diff", newest[-1], "--full", *DATABASE).out


def test_programs_get_every_change_whole(cli: CLI, newest: list[str]) -> None:
    """Also backwards; `added` and `removed` have one side only."""
    found = cli("checkpoints", "diff", newest[0], newest[-1], "--json", *DATABASE).json()
    assert (found["before"]["checkpoint_id"], found["after"]["checkpoint_id"]) == (newest[0], newest[-1])
    assert (found["more"], sum(found["counts"].values())) == (0, len(found["changes"]))
    [status] = [one for one in found["changes"] if one["path"] == "status"]
    expected = {"kind": "changed", "path": "status", "pointer": "/status", "before": "paused", "after": "running"}
    assert status == expected
    [gone] = [one for one in found["changes"] if one["path"] == "context.blocks.greet"]
    assert (gone["kind"], gone["before"]["status"], "after" in gone) == ("removed", "succeeded", False)


def test_checkpoints_of_other_runs_may_be_compared_and_secrets_are_not_shown(
    cli: CLI, newest: list[str], tmp_path: Path
) -> None:
    """That they are of other runs is said; no more than so many changes are named, and the rest is counted."""

    async def save() -> None:
        async with SQLAlchemyCheckpointStore(tmp_path / "runs.db") as store:
            await store.save_checkpoint(make_state("same", workflow_name="w", created_at=2.0))
            many = {f"key {number}": number for number in range(300)}
            await store.save_checkpoint(make_state("other", run_id="o", context={**many, "token": "hunter22"}))
            await store.save_checkpoint(make_state("alone", workflow_name="w", created_at=1.0))

    asyncio.run(save())
    secret = {"WORKFLOW_SECRET_TOKEN": "hunter22"}
    shown = cli("checkpoints", "diff", newest[0], "other", *DATABASE, env=secret)
    assert "They are of runs of different workflows: run " in shown.out
    assert "… and " in shown.out
    assert "more: see them with --limit 3" in shown.out
    whole = cli("checkpoints", "diff", newest[0], "other", "--limit", "1000", "--full", *DATABASE, env=secret)
    assert '+ context.token:\n    "***"\n' in whole.out
    assert "hunter22" not in shown.out + whole.out
    found = cli("checkpoints", "diff", newest[0], "other", "--json", *DATABASE).json()
    assert found["more"] == 0, "programs get all, however many"
    assert len(found["changes"]) > 300
    assert "Nothing differs.\n" in cli("checkpoints", "diff", "other", "other", *DATABASE).out
    assert "Nothing else differs.\n" in cli("checkpoints", "diff", "alone", "same", *DATABASE).out
    assert "It belongs to no run" in cli("checkpoints", "diff", "alone", *DATABASE).out


def test_a_limit_is_offered_only_where_it_is_taken(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of more changes than that, a program gets all."""
    runs = shutil.copy(sqlite_template, tmp_path / "runs.db")
    monkeypatch.setattr("workflows_mcp.cli.diff._MOST_TO_ASK_FOR", 3)

    async def compare() -> None:
        async with SQLAlchemyCheckpointStore(runs) as store:
            await store.save_checkpoint(make_state("a", context={}))
            await store.save_checkpoint(make_state("b", context=dict.fromkeys("wxyz")))
        await diff_command("a", "b", limit=1, options=Options(database_url=str(runs)))

    asyncio.run(compare())
    assert "… and 3 more: see them with --json, which has all\n" in capsys.readouterr().out


def test_values_of_any_kind_are_shown_without_harm(
    tmp_path: Path, sqlite_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What moves a terminal's cursor is left out."""
    runs = shutil.copy(sqlite_template, tmp_path / "runs.db")

    async def compare() -> None:
        async with SQLAlchemyCheckpointStore(runs) as store:
            await store.save_checkpoint(make_state("a", context={}))
            await store.save_checkpoint(make_state("b", context={"odd": "x\x9b2Jy"}))
        await diff_command("a", "b", options=Options(database_url=str(runs)))

    asyncio.run(compare())
    assert '+ context.odd: "x 2Jy"\n' in capsys.readouterr().out


class _Foreign(InMemoryCheckpointStore):
    """Holds what no store of ours takes."""

    async def load_checkpoint(self, checkpoint_id: str) -> CheckpointState | None:
        """See `CheckpointStore.load_checkpoint`."""
        deep = nested(100_000) if checkpoint_id == "b" else None
        return make_state(checkpoint_id, context={"deep": deep})


@pytest.mark.parametrize("full", [False, True])
def test_what_is_nested_too_deeply_is_cut_or_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """As another program may have saved it."""

    @asynccontextmanager
    async def opened(_: Options) -> AsyncIterator[InMemoryCheckpointStore]:
        yield _Foreign()

    monkeypatch.setattr("workflows_mcp.cli.diff.open_store", opened)
    comparing = diff_command("a", "b", full=full)
    if full:
        with pytest.raises(CommandError, match="nested too deeply to be shown whole"):
            asyncio.run(comparing)
    else:
        asyncio.run(comparing)
        assert "~ context.deep: null → {1 key} (" in capsys.readouterr().out


def test_a_checkpoint_that_is_not_there_is_named(cli: CLI, newest: list[str]) -> None:
    """With what lists those that are."""
    failed = cli("checkpoints", "diff", newest[0], "nope", *DATABASE)
    assert failed.code == 1
    assert "there is no checkpoint 'nope'; those that there are: workflows-mcp checkpoints list" in failed.error()
    assert cli("checkpoints", "diff", "", *DATABASE).code == 2


def test_a_run_is_told_from_its_checkpoints(cli: CLI, newest: list[str], waiting: WorkflowResult) -> None:
    """Whoever names it learns what to type instead."""
    failed = cli("checkpoints", "diff", waiting.run_id, *DATABASE)
    assert failed.code == 1
    assert f"there is such a run; what it saved last: workflows-mcp checkpoints diff {newest[0]} " in failed.error()
    assert f"its checkpoints: workflows-mcp checkpoints list --run={waiting.run_id} " in failed.error()
