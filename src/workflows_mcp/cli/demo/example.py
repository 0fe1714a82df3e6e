"""Where the demo's workflow is, and the folder that it looks at."""

from pathlib import Path

from workflows_mcp.cli.failures import CommandError

__all__ = ["default_folder", "find_workflow"]

_PACKAGE = Path(__file__).resolve().parents[2]
_FILE = "release-check.yaml"


def find_workflow() -> Path:
    """The example's file: inside the package in a wheel, in `examples` in a checkout.

    Raises:
        CommandError: The installation lacks it.
    """
    for folder in (_PACKAGE / "_examples", _checkout() / "examples"):
        if (folder / _FILE).is_file():
            return folder / _FILE
    raise CommandError(f"{_FILE} is missing from this installation; install workflows-mcp again")


def default_folder() -> Path:
    """The checkout that this package lies in, or else the current folder."""
    checkout = _checkout()
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def _checkout() -> Path:
    return _PACKAGE.parents[1]
