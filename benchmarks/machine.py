"""What the benchmark ran on and with."""

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe_machine", "describe_versions"]

_PACKAGES = (
    "workflows-mcp",
    "sqlalchemy",
    "aiosqlite",
    "asyncpg",
    "orjson",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "dbos",
    "psycopg",
    "psycopg-pool",
    "starlette",
    "jinja2",
    "uvicorn",
)


def describe_machine(folder: Path) -> dict[str, str]:
    """The machine.

    Args:
        folder: Where the databases are put; its filesystem is told.
    """
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "filesystem": _filesystem(folder),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_versions() -> dict[str, str]:
    """Python, SQLite, and the packages that take part; PostgreSQL's stands in its server's settings."""
    found = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "-"
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def _filesystem(folder: Path) -> str:
    """The type of the filesystem that a folder lies on."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    kinds = {fields[1]: fields[2] for line in mounts if len(fields := line.split()) > 2}
    here = folder.resolve()
    return next((kinds[str(path)] for path in (here, *here.parents) if str(path) in kinds), "unknown")
