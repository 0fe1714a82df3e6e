"""Start here with nothing but git and Python: `python3 run.py demo`, `python3 run.py test`.

Takes uv from PATH, or puts it into `.uv/` beside this file, and lets it do the rest: an environment in
`.venv/` with what the project needs. Words that are no task of their own go to `uv run` as they are
(`python3 run.py workflows-mcp --help`).
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = {
    "demo": ["workflows-mcp", "demo"],
    "test": ["pytest"],
    "lint": ["ruff", "check"],
    "types": ["mypy"],
    # From the project's folder, where the harnesses and the benchmarks are.
    "faults": ["--directory", str(HERE), "python", "-m", "tests.faults"],
    "browser": ["--group", "browser", "--directory", str(HERE), "pytest", "-n2", "tests/server/ui/browser"],
    "screenshots": ["--group", "browser", "--directory", str(HERE), "python", "-m", "tests.server.ui.screenshots"],
    "bench": ["--group", "bench", "--directory", str(HERE), "python", "-m", "benchmarks"],
}


def find_uv() -> str:
    """The path of uv; it is installed beside this file where PATH has none."""
    found = shutil.which("uv") or shutil.which("uv", path=str(HERE / ".uv" / "bin"))
    if found:
        return found
    if importlib.util.find_spec("pip") is None:
        raise OSError(f"{sys.executable} has no pip; install it first (Debian, Ubuntu: apt install python3-pip)")
    print("uv is not on PATH: installing it into .uv/ (once)", file=sys.stderr, flush=True)
    # --target, since distributions refuse to install into their own Python and may come without venv.
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--root-user-action=ignore"]
    subprocess.run([*install, "--target", str(HERE / ".uv"), "uv>=0.9"], check=True)
    return str(HERE / ".uv" / "bin" / "uv")


def main(words: list[str]) -> int:
    """Run one task, or hand the words to `uv run`; returns the exit code."""
    if not words or words[0] in {"-h", "--help"}:
        print(__doc__, "\nTasks:", ", ".join(TASKS))
        return 0
    try:
        uv = find_uv()
    except (subprocess.CalledProcessError, OSError) as error:
        print(
            f"error: uv could not be installed: {error}. Or install uv itself: https://docs.astral.sh/uv/",
            file=sys.stderr,
        )
        return 1
    # The first time there is much to install, and to be watched; later there is nothing worth a line.
    quiet = ["--quiet"] if (HERE / ".venv").exists() else []
    command = [uv, "run", *quiet, "--project", str(HERE), *TASKS.get(words[0], words[:1]), *words[1:]]
    environment = {**os.environ}
    environment.pop("VIRTUAL_ENV", None)  # the project's own .venv, whatever shell this was started from
    return run_to_the_end(command, environment)


def run_to_the_end(command: list[str], environment: dict[str, str]) -> int:
    """Run a command, and pass SIGTERM and SIGHUP on to it; returns its exit code, as a shell would.

    Ctrl-C is left to the command, which gets it from the terminal, too: what is stopped may have something to put in
    order, so this process waits for its end.
    """
    with subprocess.Popen(command, env=environment) as process:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, lambda number, _: process.send_signal(number))
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
