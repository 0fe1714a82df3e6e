"""Processes that change a schema, forked from one that has imported what they need."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.config
import alembic.op

from tests.faults import crew
from workflows_mcp import upgrade_schema
from workflows_mcp.persistence.schema import SchemaManager

__all__ = ["Done", "fork_alembic", "migrate_and_fail", "upgrade_and_fail", "upgrade_at_once"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed where."""

    returncode: int
    stdout: str
    stderr: str


async def upgrade_at_once(url: str, processes: int) -> list[int]:
    """The exit codes of some processes that bring one database to head at the same time."""
    children = [crew.start(upgrade_schema, url) for _ in range(processes)]
    return [await crew.join(child) for child in children]


async def upgrade_and_fail(url: str, step: str, *, is_killed: bool) -> int:
    """The exit code of a process that upgrades, and fails or is killed after the first step of a kind.

    Args:
        url: The database.
        step: The name of an operation of Alembic's.
        is_killed: Whether it is killed, rather than that an error is raised.
    """
    return await migrate_and_fail(url, "head", step, is_killed=is_killed)


async def migrate_and_fail(url: str, revision: str, step: str, *, is_killed: bool) -> int:
    """The same on the way to a revision: up to `head`, or down to another one."""
    return await crew.join(crew.start(_migrate_and_fail, url, revision, step, is_killed))


async def _migrate_and_fail(url: str, revision: str, step: str, is_killed: bool) -> None:  # noqa: FBT001 - crew's calls have no names
    real = getattr(alembic.op, step)

    def end(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("on purpose")

    setattr(alembic.op, step, end)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its traceback is what was wanted
    manager = SchemaManager(url)
    await (manager.upgrade() if revision == "head" else manager.downgrade(revision))


async def fork_alembic(folder: Path, url: str, *arguments: str) -> Done:
    """Run the `alembic` command at the project's root, from where it reads its arguments on.

    Args:
        folder: Where to keep what it prints, until it has ended.
        url: The database.
        arguments: What is typed after `alembic`.
    """
    printed = folder / "alembic.out", folder / "alembic.err"
    code = await crew.join(crew.start(_alembic, url, arguments, printed))
    texts = [path.read_text() for path in printed]
    for path in printed:
        path.unlink()
    return Done(code, *texts)


async def _alembic(url: str, arguments: tuple[str, ...], printed: tuple[Path, Path]) -> None:
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(ROOT)
    os.environ["WORKFLOWS_DATABASE_URL"] = url
    sys.argv[0] = "alembic"
    # In a thread, where no event loop runs: the revisions' environment has one of its own.
    await asyncio.to_thread(alembic.config.main, list(arguments))
