"""The command as people use it: a process of its own, in a clean environment and a folder of its own."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor, WorkflowResult, upgrade_schema

PASSWORD = "s3cret-pa55"

ASKING = """\
name: asking
inputs:
  who: {type: str}
blocks:
  - id: greet
    type: Shell
    inputs: {command: "echo hello {{ inputs.who | shquote }}"}
  - id: question
    type: Prompt
    depends_on: [greet]
    inputs: {prompt: "Go on, {{ inputs.who }}?"}
  - id: end
    type: Shell
    depends_on: [question]
    inputs: {command: "printf %s {{ blocks.question.outputs.response | shquote }}"}
outputs:
  greeting: "{{ blocks.greet.outputs.stdout | trim }}"
  answer: "{{ blocks.end.outputs.stdout }}"
"""
"""A workflow that greets, asks, and gives the answer back."""


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, and what it printed where."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)

    def error(self) -> str:
        """The one line on stderr that says what went wrong."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


class Forks:
    """Runs commands in forks of one process that has everything imported: see `forked.py`."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )

    def run(self, words: list[str], folder: Path, environment: dict[str, str], stdin: str = "") -> Outcome:
        """Run a command to its end, in a folder, with nothing in the environment but this."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = {"words": words, "cwd": str(folder), "env": environment, "stdin": stdin}
        self._server.stdin.write(f"{json.dumps(order)}\n")
        self._server.stdin.flush()
        return checked(Outcome(*json.loads(self._server.stdout.readline())))

    def close(self) -> None:
        """End the process that is forked."""
        self._server.communicate()


def environment_in(folder: Path) -> dict[str, str]:
    """That of a command in a folder."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "WORKFLOWS_SLOW_OPERATION_SECONDS": "60",  # that this machine is busy is no line on stderr
    }


class CLI:
    """Runs `workflows-mcp` in a folder, with nothing in the environment but what is given.

    Args:
        folder: Where.
        forks: What is run to its end is run there.
        commands: Makes a folder with commands that begin quickly: see `tests/documents/client.py`.
    """

    def __init__(self, folder: Path, forks: Forks, commands: Callable[[], Path]) -> None:
        self.folder = folder
        self._commands = commands
        self.environment = environment_in(folder)
        self._forks = forks

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a command, from the very start of Python, with its streams in pipes."""
        return self._start([sys.executable, "-m", "workflows_mcp"], words, options)

    def start_quickly(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a command where it does not count how it begins: what is signalled or killed hands that on."""
        return self._start([str(self._commands() / "workflows-mcp")], words, options)

    def _start(self, command: list[str], words: Iterable[str | Path], options: dict[str, Any]) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**self.environment, **options.pop("env", {})}
        whole = [*command, *map(str, words)]
        return subprocess.Popen(whole, text=True, cwd=self.folder, env=environment, **{**pipes, **options})

    def finish(self, process: subprocess.Popen[str], stdin: str | None = None) -> Outcome:
        """Wait for the end of a command that was started."""
        with process:
            out, err = process.communicate(stdin, timeout=60)
        return checked(Outcome(process.returncode, out or "", err or ""))

    def __call__(self, *words: str | Path, stdin: str = "", env: dict[str, str] | None = None) -> Outcome:
        """Run a command to its end."""
        return self._forks.run([str(word) for word in words], self.folder, {**self.environment, **(env or {})}, stdin)


def checked(outcome: Outcome) -> Outcome:
    """What a command did; whatever that is, it shows no traceback and no password."""
    assert "Traceback" not in outcome.out + outcome.err, outcome.err
    assert PASSWORD not in outcome.out + outcome.err
    return outcome


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Where most commands are run."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def cli(tmp_path: Path, forks: Forks, request: pytest.FixtureRequest) -> CLI:
    """The command, in an empty folder."""
    return CLI(tmp_path, forks, lambda: Path(request.getfixturevalue("quick_commands")))


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    """The file of a workflow that asks."""
    path = tmp_path / "asking.yaml"
    path.write_text(ASKING)
    return path


@pytest.fixture(scope="session")
def waiting_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WorkflowResult]:
    """A database with a run that waits for its answer, to be copied."""
    path = tmp_path_factory.mktemp("waiting") / "runs.db"

    async def run() -> WorkflowResult:
        await upgrade_schema(str(path))
        async with SQLAlchemyCheckpointStore(str(path)) as store:
            return await WorkflowExecutor(store).execute_workflow(ASKING, {"who": "Ann"})

    return path, asyncio.run(run())


@pytest.fixture
def waiting(waiting_template: tuple[Path, WorkflowResult], tmp_path: Path) -> WorkflowResult:
    """A run that waits for its answer, in `runs.db` in the command's folder."""
    path, result = waiting_template
    shutil.copy(path, tmp_path / "runs.db")  # with its mode
    return result
