"""`run`, `resume` and `recover`, as scripts and people use them."""

import asyncio
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import CLI, PASSWORD
from workflows_mcp import WorkflowResult, upgrade_schema

KEYS = ["status", "outputs", "error", "run_id", "checkpoint_id", "prompt"]


def test_a_run_pauses_with_the_command_that_resumes_it_and_that_command_works(cli: CLI, asking: Path) -> None:
    """What is printed can be pasted, with quotes and spaces in names and values; progress stays off stdout."""
    ran = cli("run", asking, "--input", "who=O'Neil & Sons", "--database-url", "my runs.db")
    assert ran.code == 0
    assert "Go on, O'Neil & Sons?" in ran.out
    assert "greet" in ran.err
    assert "greet" not in ran.out

    command = next(line for line in ran.out.splitlines() if "workflows-mcp resume" in line)
    program, *words = shlex.split(command.replace("TEXT", "'yes, go on'"))
    assert program == "workflows-mcp"
    resumed = cli(*words)
    assert resumed.code == 0, resumed.err
    assert resumed.out.startswith("success: run ")
    assert "  greeting: hello O'Neil & Sons\n  answer: yes, go on\n" in resumed.out


def test_json_is_one_object_whatever_the_run_comes_to(cli: CLI, asking: Path, tmp_path: Path) -> None:
    """The same six keys on stdout and nothing else."""
    failing = tmp_path / "failing.yaml"
    failing.write_text("name: f\nblocks:\n- {id: a, type: Shell, inputs: {command: 'echo no good >&2; exit 3'}}\n")
    paused = cli("run", asking, "--input", "who=Ann", "--json", "--database-url", "runs.db")
    failed = cli("run", failing, "--json", "--database-url", "runs.db")

    assert (paused.code, failed.code) == (0, 1)
    assert list(paused.json()) == list(failed.json()) == KEYS
    assert paused.json()["status"] == "paused"
    assert paused.json()["prompt"] == "Go on, Ann?"
    assert paused.json()["outputs"] == {}
    assert failed.json()["status"] == "failure"
    assert "exit code 3" in failed.json()["error"]
    last = failed.err.splitlines()[-1]
    assert last.startswith("error: run ")
    assert "no good" in last


def test_the_answer_may_come_from_stdin_and_is_taken_once(cli: CLI, waiting: WorkflowResult) -> None:
    """A second answer to the same checkpoint is refused, and nothing runs."""
    words = ("resume", str(waiting.checkpoint_id), "--response", "-", "--json", "--database-url", "runs.db")
    resumed = cli(*words, stdin="line 1\nline 2\n")
    assert resumed.code == 0
    assert list(resumed.json()) == KEYS
    assert resumed.json()["status"] == "success"
    assert resumed.json()["outputs"] == {"greeting": "hello Ann", "answer": "line 1\nline 2"}

    again = cli(*words, stdin="once more")
    assert again.code == 1
    assert "was answered already" in again.error()
    shown = shlex.split(again.error().partition("workflows-mcp ")[2])
    assert shown == ["runs", "show", waiting.run_id, "--database-url", "runs.db"]
    assert "success" in cli(*shown).out
    assert "✓ question: answered\n" in resumed.err
    assert again.out == ""


def test_a_repeated_run_id_gives_the_result_and_does_not_run_again(cli: CLI, tmp_path: Path) -> None:
    """A script may be started twice with the same run id."""
    workflow = tmp_path / "count.yaml"
    workflow.write_text(
        "name: count\nblocks:\n- {id: a, type: Shell, inputs: {command: 'echo >> ran'}}\noutputs: {done: 'yes'}\n"
    )
    words = ("run", workflow, "--run-id", "nightly", "--json", "--database-url", "runs.db")
    first, second = cli(*words), cli(*words)
    assert first.json()["run_id"] == "nightly"
    assert second.json() == first.json()
    assert second.err.splitlines()[-1] == "run nightly is there already: nothing ran"
    assert "nothing ran" not in first.err
    assert (tmp_path / "ran").read_text() == "\n"


def test_block_types_that_are_switched_off_neither_run_nor_go_on(
    cli: CLI, asking: Path, waiting: WorkflowResult, tmp_path: Path
) -> None:
    """Nothing is stored or claimed, and a typing mistake switches nothing off without a word."""
    for words in (
        ("run", asking, "--input", "who=Ann", "--database-url", "new.db"),
        ("resume", str(waiting.checkpoint_id), "--response", "x", "--database-url", "runs.db"),
    ):
        refused = cli(*words, env={"WORKFLOWS_DISABLED_BLOCKS": "Shell,Prompt"})
        assert refused.code == 1
        assert "is switched off on this server" in refused.error()
        mistaken = cli(*words, env={"WORKFLOWS_DISABLED_BLOCKS": "shell"})
        assert "there is no block type 'shell'; there are Prompt, Shell, Workflow" in mistaken.error()
    assert not (tmp_path / "new.db").exists()
    assert cli("resume", str(waiting.checkpoint_id), "--response", "x", "--database-url", "runs.db").code == 0


def test_memory_runs_but_says_that_nobody_can_answer(cli: CLI, asking: Path) -> None:
    """No command is printed that could not work."""
    ran = cli("run", asking, "--input", "who=Ann", "--database-url", "memory://")
    assert ran.code == 0
    assert "kept in memory" in ran.out
    assert "workflows-mcp resume" not in ran.out


def test_without_any_setting_the_database_is_created_in_the_data_folder_and_its_path_told(
    cli: CLI, asking: Path, tmp_path: Path
) -> None:
    """A newcomer needs no set-up, and knows where the data is."""
    ran = cli("run", asking, "--input", "who=Ann")
    path = tmp_path / ".local/share/workflows-mcp/checkpoints.db"
    assert ran.code == 0
    assert path.is_file()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert str(path) in ran.err
    assert "--database-url" not in ran.out


def test_the_env_file_is_read_when_it_is_named(cli: CLI, asking: Path, tmp_path: Path) -> None:
    """A .env file that happens to lie in the folder is not obeyed."""
    (tmp_path / "settings.env").write_text("WORKFLOWS_DATABASE_URL=from-env-file.db\n")
    (tmp_path / ".env").write_text("WORKFLOWS_DATABASE_URL=stranger.db\n")
    ran = cli("run", asking, "--input", "who=Ann", "--env-file", "settings.env")
    assert "--env-file settings.env" in ran.out
    assert (tmp_path / "from-env-file.db").exists()
    assert not (tmp_path / "stranger.db").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_blocks_and_says_how_it_goes_on(
    cli: CLI, tmp_path: Path, number: signal.Signals
) -> None:
    """The printed command continues the run; what was saved does not run again."""
    os.mkfifo(tmp_path / "started")
    workflow = tmp_path / "waiting.yaml"
    workflow.write_text(
        "name: waiting\nblocks:\n"
        "- {id: quick, type: Shell, inputs: {command: 'echo >> quick-ran'}}\n"
        "- id: slow\n  type: Shell\n  depends_on: [quick]\n"
        "  inputs: {command: 'test -e go || { echo $$ > started; exec sleep 600; }'}\n"
    )
    process = cli.start("run", workflow, "--database-url", "runs.db")
    block = int((tmp_path / "started").read_text())  # opening a FIFO waits for the block to open it too
    process.send_signal(number)
    interrupted = cli.finish(process)
    last = interrupted.err.splitlines()[-1]
    assert interrupted.code == 128 + number
    assert last.startswith("interrupted; go on with: workflows-mcp recover ")
    with pytest.raises(ProcessLookupError):
        os.kill(block, 0)

    if number == signal.SIGINT:
        (tmp_path / "go").touch()
        recovered = cli(*shlex.split(last.partition("workflows-mcp ")[2]), "--no-wait")  # its lease was released
        assert recovered.code == 0, recovered.err
        assert recovered.out.startswith("success: run ")
        assert (tmp_path / "quick-ran").read_text() == "\n"


HOLDING = """\
name: holding
blocks:
  - id: hold
    type: Shell
    inputs: {command: "echo > started; cat go"}
"""


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_a_run_whose_watcher_goes_away_ends_as_it_would_have(cli: CLI, tmp_path: Path, kind: str) -> None:
    """Its progress is shown to nobody, and its result is not the worse for that."""
    (tmp_path / "w.yaml").write_text(HOLDING)
    for name in ("started", "go"):
        os.mkfifo(tmp_path / name)
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()
    process = cli.start("run", "w.yaml", "--json", "--database-url", "runs.db", stderr=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    (tmp_path / "started").read_text()
    os.close(ours)
    (tmp_path / "go").write_text("on")
    outcome = cli.finish(process)
    assert outcome.code == 0
    assert outcome.json()["status"] == "success"


def test_a_run_begins_although_nobody_can_be_told_of_its_database(cli: CLI, asking: Path) -> None:
    """The note that a database was created goes nowhere."""
    ours, theirs = os.pipe()
    os.close(ours)
    process = cli.start_quickly(
        "run", asking, "--input", "who=Ann", "--json", "--database-url", "runs.db", stderr=theirs
    )
    os.close(theirs)
    outcome = cli.finish(process)
    assert outcome.code == 0
    assert outcome.json()["status"] == "paused"


def test_a_closed_stdin_is_no_answer(cli: CLI, waiting: WorkflowResult) -> None:
    """As an empty one."""
    words = ("resume", str(waiting.checkpoint_id), "--database-url", "runs.db")
    outcome = cli.finish(cli.start(*words, stdin=None, preexec_fn=lambda: os.close(0)))
    assert outcome.code == 2
    assert "give the answer with --response" in outcome.error()


def test_a_second_signal_does_not_break_the_cleanup_off(cli: CLI, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice learns all the same how the run goes on."""
    (tmp_path / "w.yaml").write_text(HOLDING)
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    process = cli.start("run", "w.yaml", "--database-url", "runs.db")
    (tmp_path / "started").read_text()
    process.send_signal(signal.SIGINT)
    time.sleep(0.003)  # two that are pending at once would be one
    process.send_signal(signal.SIGINT)
    outcome = cli.finish(process)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1].startswith("interrupted; go on with: workflows-mcp recover ")


def test_signals_that_come_while_the_interpreter_shuts_down_change_nothing(cli: CLI, tmp_path: Path) -> None:
    """Not the exit code, and not what was said."""
    (tmp_path / "w.yaml").write_text(HOLDING)
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    process = cli.start("run", "w.yaml", "--database-url", "runs.db")
    (tmp_path / "started").read_text()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = next(line for line in process.stderr if line.startswith("interrupted"))
    while process.poll() is None:  # at every moment up to the end
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "workflows-mcp recover" in said
    assert process.stderr.read() == ""
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_word_ends_a_command_without_another(number: int) -> None:
    """Nothing is left that an exception could end."""
    script = (
        "import os, sys\n"
        "from workflows_mcp.cli.entry import run_command_line\n"
        "run_command_line(['--version'])\n"
        "os.kill(os.getpid(), int(sys.argv[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(int(number))], check=False, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (-number, b"")


def test_a_database_that_fails_under_a_run_is_told_with_how_it_goes_on(cli: CLI, tmp_path: Path) -> None:
    """Once it is repaired."""
    (tmp_path / "break.py").write_text(
        "import sqlite3\n"
        "database = sqlite3.connect('runs.db')\n"
        "tables = database.execute(\"SELECT name FROM sqlite_master WHERE name LIKE '%checkpoints'\").fetchall()\n"
        "for (name,) in tables:\n"
        "    database.execute(f'ALTER TABLE {name} RENAME TO gone')\n"
        "database.commit()\n"
    )
    (tmp_path / "w.yaml").write_text("name: w\nblocks:\n- {id: a, type: Shell, inputs: {command: python3 break.py}}\n")
    outcome = cli("run", "w.yaml", "--run-id", "r", "--database-url", "runs.db")
    assert outcome.code == 1
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith("; go on with: workflows-mcp recover r --database-url runs.db")


CHOOSING = """\
name: choosing
blocks:
  - {id: question, type: Prompt, inputs: {prompt: "Go on?", choices: ["yes", "no"]}}
  - {id: end, type: Shell, depends_on: [question], inputs: {command: "printf before"}}
outputs: {answer: "{{ blocks.question.outputs.response }}", end: "{{ blocks.end.outputs.stdout }}"}
"""


@pytest.fixture
def choosing(cli: CLI, tmp_path: Path) -> str:
    """The checkpoint of a run in `runs.db` that waits for one of two answers; its workflow is in a library."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "choosing.yaml").write_text(CHOOSING)
    asked = cli("run", "library/choosing.yaml", "--database-url", "runs.db")
    assert "Answer with TEXT, one of: yes, no:\n" in asked.out
    return shlex.split(asked.out.splitlines()[-1])[2]


def test_on_a_terminal_resume_asks_until_the_answer_fits(cli: CLI, choosing: str) -> None:
    """The prompt is shown with its choices, and the answer read, on the terminal."""
    ours, theirs = pty.openpty()
    words = ("resume", choosing, "--database-url", "runs.db", "--json")
    with cli.start_quickly(*words, stdin=theirs, stderr=theirs, env={"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = _read_until("> ", ours)
        os.write(ours, b"maybe\n")
        refused = _read_until("> ", ours)
        os.write(ours, b"YES\n")
        out = _drain(process, ours)
    assert "Go on?" in shown
    assert "(one of: yes, no)" in shown
    assert "the answer must be one of: yes, no" in refused
    assert process.returncode == 0
    assert '"answer": "yes"' in out


def test_without_a_fit_answer_the_choices_are_told_and_the_run_waits_on(cli: CLI, choosing: str) -> None:
    """Be the answer missing or another one."""
    words = ("resume", choosing, "--database-url", "runs.db")
    missing, unfit = cli(*words), cli(*words, "--response", "maybe")
    assert missing.code == 2
    assert "--response TEXT, one of: yes, no" in missing.error()
    assert unfit.code == 1
    assert "must be one of: yes, no" in unfit.error()
    assert "answer: no\n" in cli(*words, "--response", "no").out


def test_a_run_goes_on_with_its_workflow_as_it_was_or_as_it_is_now(cli: CLI, choosing: str, tmp_path: Path) -> None:
    """With the current one only where what is done, or waits, has not changed."""
    library = {"WORKFLOWS_TEMPLATE_PATHS": "library"}
    words = ("resume", choosing, "--response", "yes", "--database-url", "runs.db", "--definition")
    path = tmp_path / "library" / "choosing.yaml"
    path.write_text(CHOOSING.replace("Go on?", "Really?"))
    refused = cli(*words, "current", env=library)
    assert "block 'question', which is under way, has changed" in refused.error()
    path.write_text(CHOOSING.replace("before", "after"))
    assert "end: after\n" in cli(*words, "current", env=library).out


def test_no_password_stands_in_the_command_that_resumes(cli: CLI, asking: Path, postgres_url: str) -> None:
    """A password is typed into the URL although the server wants none; it must come back nowhere."""
    parts = urlsplit(postgres_url)
    user, host = parts.username, parts.netloc.rpartition("@")[2]
    url = parts._replace(netloc=f"{user}:{PASSWORD}@{host}").geturl()
    asyncio.run(upgrade_schema(url))
    ran = cli("run", asking, "--input", "who=Ann", "--database-url", url)
    assert ran.code == 0, ran.err
    assert f"postgresql://{user}@{host}/" in ran.out
    assert "  PGPASSWORD=*** workflows-mcp resume " in ran.out
    assert "(with the password in place of ***, " in ran.out
    unknown = cli("recover", "nobody", "--database-url", url)
    assert "; those that there are: PGPASSWORD=*** workflows-mcp runs list " in unknown.error()


def _read_until(end: str, terminal: int) -> str:
    """What is shown on a terminal up to its end."""
    shown = ""
    while not shown.endswith(end):
        shown += os.read(terminal, 1000).decode()
    return shown


def _drain(process: subprocess.Popen[str], terminal: int) -> str:
    """What is printed on stdout, while what goes to the terminal is read and dropped."""
    try:
        while os.read(terminal, 1000):
            pass
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(terminal)
    assert process.stdout is not None
    return process.stdout.read()
