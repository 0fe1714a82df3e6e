"""`examples/release-check.yaml`, over folders of every kind. It looks, and changes nothing."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from workflows_mcp import WorkflowExecutor, WorkflowResult

EXAMPLE = Path(__file__).parents[2] / "examples" / "release-check.yaml"

HOSTILE_NAME = 'it\'s "my" $(touch pwned) release;'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a name that a shell must not take at its word, and a bit of everything in it."""
    folder = tmp_path / HOSTILE_NAME
    (folder / "src" / "o'clock").mkdir(parents=True)
    (folder / "README.md").write_text("A thing.\n")
    (folder / "LICENSE").write_text("Do as you like.\n")
    (folder / "CHANGELOG.md").write_text("## 1.2.3\n\nFirst.\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "thing"\nversion = "1.2.3"\n')
    (folder / "src" / "o'clock" / 'a "b".py').write_text("x = 1\n")
    return folder


def commit(folder: Path) -> None:
    """Make the folder a git repository, with all that is in it committed."""
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-C", str(folder)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *words], check=True)


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all that there is, git's own files included."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    }


async def check(folder: Path | str, answer: str = "approve", **inputs: object) -> tuple[str, WorkflowResult]:
    """The prompt that the run asks, and what it has come to after the answer."""
    executor = WorkflowExecutor()
    paused = await executor.execute_workflow(EXAMPLE, {"path": str(folder), **inputs})
    assert paused.is_paused, paused.error
    assert paused.prompt is not None
    assert paused.checkpoint_id is not None
    return paused.prompt, await executor.resume_workflow(paused.checkpoint_id, answer)


def grades(report: str) -> dict[str, str]:
    """Each check's result, from the report's table."""
    rows = (line.split("|") for line in report.splitlines() if line.startswith("|"))
    return {row[1].strip(): row[2].strip() for row in rows}


async def test_a_repository_in_order_is_ready_and_untouched(folder: Path) -> None:
    """Every check passes, the commands to release are printed and not run, and no file has changed."""
    commit(folder)
    before = everything_in(folder)
    prompt, result = await check(folder)
    assert everything_in(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == [HOSTILE_NAME]

    assert result.is_success, result.error
    report = result.outputs["report"]
    table = grades(report)
    assert len(table) == 13, "eleven checks and the table's two heads"
    assert set(table.values()) == {"PASS", "result", "---"}
    assert "**Ready**" in prompt
    assert "**Approved** for release." in report
    commands = result.outputs["release_commands"].splitlines()
    assert commands[0].endswith("tag -a 'v1.2.3' -m 'v1.2.3'")
    # What is printed can be pasted: a shell takes it for the folder's name, and for nothing else.
    assert shlex.split(commands[0])[:3] == ["git", "-C", str(folder)]


async def test_what_is_wrong_is_found_and_what_is_no_part_of_the_release_is_not(folder: Path) -> None:
    """Without git too; secrets are named by their place and never shown."""
    secret = "AKIA" + "ABCDEFGHIJKLMNOP"
    (folder / "LICENSE").unlink()
    (folder / "package.json").write_text('{\n  "version": "9.9.9",\n}\n')
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "merge.txt").write_text("a\n<" + "<<<<<< HEAD\nb\n")
    (folder / "keys.txt").write_text(f"\nkey = {secret}\n")
    (folder / "large.bin").write_bytes(bytes(3 * 1024))
    (folder / "notes.txt").write_text("TODO" + ": everything\n")
    for skipped in (".venv", "node_modules"):
        (folder / skipped).mkdir()
        (folder / skipped / "broken_too.py").write_text("def f(:\n")
    before = everything_in(folder)

    prompt, result = await check(folder, "  not today, it's 'broken'\n", max_file_kb=2)
    assert everything_in(folder) == before
    report = result.outputs["report"]
    found = {name: grade for name, grade in grades(report).items() if grade in {"FAIL", "WARN"}}
    assert found == {
        "git": "WARN",
        "documents": "FAIL",
        "version": "FAIL",
        "changelog": "WARN",
        "Python files": "FAIL",
        "data files": "FAIL",
        "conflict markers": "FAIL",
        "secrets": "FAIL",
        "large files": "WARN",
        "notes to self": "WARN",
    }
    assert "**Not ready:** 6 failed" in prompt
    for line in ("broken.py:1", "merge.txt:2", "keys.txt:2: an AWS access key", "large.bin: 3 KiB", "notes.txt 1"):
        assert f"\n- {line}" in report
    assert secret not in report
    assert "broken_too" not in report
    assert "**Held back**: not today, it's 'broken'" in report
    assert result.outputs["release_commands"] == ""


async def test_untracked_dependencies_are_skipped_in_a_repository_too(folder: Path) -> None:
    """Nothing says that a .gitignore names them; what git does ignore is not looked at either."""
    (folder / ".gitignore").write_text("ignored.py\n")
    commit(folder)
    for name in ("ignored.py", ".venv/lib/a.py", "web/node_modules/b.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("def f(:\n")
    _, result = await check(folder)
    assert grades(result.outputs["report"])["Python files"] == "PASS"


async def test_nothing_is_imported_from_the_folder_that_is_inspected(folder: Path) -> None:
    """A file there may bear the name of a module of Python's own."""
    for module in ("ast", "json", "os", "re", "sitecustomize"):
        (folder / f"{module}.py").write_text("open('imported', 'w')\n")
    _, result = await check(folder)
    assert result.is_success
    assert not (folder / "imported").exists()


async def test_an_empty_folder_and_a_missing_one_get_an_answer(tmp_path: Path) -> None:
    """The one a report, the other a failure that names it."""
    (tmp_path / "empty").mkdir()
    _, result = await check(tmp_path / "empty")
    assert grades(result.outputs["report"])["files"] == "FAIL"
    missing = await WorkflowExecutor().execute_workflow(EXAMPLE, {"path": str(tmp_path / "missing")})
    assert missing.status == "failure"
    assert "missing" in str(missing.error)


async def test_the_checks_of_a_huge_folder_end_when_their_time_is_over(folder: Path) -> None:
    """And the report says how far they came."""
    _, result = await check(folder, max_seconds=0)
    assert grades(result.outputs["report"])["Python files"] == "WARN"
    assert "only 0 of 1 were looked at in the time given" in result.outputs["report"]


async def test_the_path_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made absolute once, since whoever continues the run may be somewhere else."""
    monkeypatch.chdir(folder.parent)
    executor = WorkflowExecutor()
    paused = await executor.execute_workflow(EXAMPLE, {"path": folder.name})
    monkeypatch.chdir(os.sep)
    result = await executor.resume_workflow(str(paused.checkpoint_id), "yes")
    assert str(folder) in shlex.split(result.outputs["release_commands"])
