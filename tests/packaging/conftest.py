"""The project's wheel and sdist, built once, and the wheel in an environment that pip has put it into."""

import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_KEPT_OUT = ("WORKFLOWS_", "CHECKPOINT_", "STORAGE_", "SQLITE_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Built:
    """What is uploaded for a release.

    Attributes:
        sdist: The source distribution.
        wheel: The wheel that was built from it.
        log: What the build had to say.
    """

    sdist: Path
    wheel: Path
    log: str


def call(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command: no setting, and no checkout on its path."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    done = call(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def uv() -> str:
    """The uv that runs these tests."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    assert found, "uv is needed to build the wheel; start the tests with: python3 run.py test"
    return found


@pytest.fixture(scope="session")
def built(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("dist")
    done = call(uv, "build", "--out-dir", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stderr
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(sdist, wheel, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def installed(uv: str, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel and what it depends on.

    pip installs the wheel, and would fail if something that it needs were not there: uv has put that there, in a
    tenth of the time.
    """
    folder = tmp_path_factory.mktemp("installed")
    run(uv, "venv", "--quiet", "--seed", folder / "venv", cwd=folder)
    # What is installed has the versions that the project is tested with, and is compiled when it is imported.
    install = [uv, "pip", "install", "--quiet", "--no-compile-bytecode", "--python", folder / "venv"]
    run(*install, "--constraint", write_versions(folder), "--requirements", ROOT / "pyproject.toml", cwd=folder)
    pip = [folder / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-index", "--no-compile", built.wheel, cwd=folder)
    return folder / "venv" / "bin"


def write_versions(folder: Path) -> Path:
    """A file with the versions of all that is installed beside these tests, as constraints."""
    path = folder / "versions.txt"
    there = [one for one in importlib.metadata.distributions() if one.name != "workflows-mcp"]
    path.write_text("\n".join(f"{one.name}=={one.version}" for one in there))
    return path
