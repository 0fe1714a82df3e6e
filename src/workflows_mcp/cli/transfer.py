"""`checkpoints export`, `import` and `copy`: checkpoints on their way to a file or to another database."""

import asyncio
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from cyclopts import Parameter

from workflows_mcp.cli.database import open_store
from workflows_mcp.cli.durations import parse_moment
from workflows_mcp.cli.failures import EXIT_ERROR, InterruptedRunError, UsageError, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options, check_id
from workflows_mcp.cli.page import Page, print_json, say
from workflows_mcp.cli.progress import progress, span
from workflows_mcp.cli.signals import cancelled_by_signals

if TYPE_CHECKING:
    from workflows_mcp.engine.filters import CheckpointFilter
    from workflows_mcp.errors import CheckpointStoreError

__all__ = ["copy_command", "export_command", "import_command"]

_Status = Literal["running", "paused", "completed", "failed", "cancelled"]
_OnConflict = Literal["fail", "skip", "replace"]

_STANDARD = "-"

_File = Annotated[str, Parameter(name="FILE", allow_leading_hyphen=True)]
"""A file's path, or `-`, which would pass for an option."""

_MOST_LISTED = 1000
"""So many checkpoints that were left out stand in a result at the most."""


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Filters:
    """Which checkpoints are meant; all, without any of these."""

    workflow: str | None = None
    """Only this workflow's."""

    run: str | None = None
    """Only this run's."""

    status: _Status | None = None
    """Only those saved with this status."""

    paused: bool | None = None
    """Only those that wait for an answer, or only the others."""

    created_after: str | None = None
    """Only those created then or later: 2026-11-27, 2026-11-27T10:30, Unix seconds, or an age such as 2h."""

    created_before: str | None = None
    """Only those created earlier."""

    def wanted(self) -> "CheckpointFilter":
        """The filter.

        Raises:
            UsageError: A value makes no sense.
        """
        from workflows_mcp.engine.filters import CheckpointFilter

        if self.run is not None:
            check_id("--run", self.run)
        try:
            return CheckpointFilter(
                self.workflow,
                self.run,
                self.status,
                self.paused,
                created_after=parse_moment("--created-after", self.created_after),
                created_before=parse_moment("--created-before", self.created_before),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


_ALL = Filters()


class _LeftOut:
    """Tells of checkpoints that cannot be read, and remembers them."""

    def __init__(self) -> None:
        self.listed: list[dict[str, str]] = []
        self._needing: Counter[tuple[str, str]] = Counter()

    def __call__(self, checkpoint_id: str, error: "CheckpointStoreError") -> None:
        link = getattr(error, "link", None)
        if link is None:
            say(one_line(f"left out: {error}"))
        else:  # one that is damaged may be needed by hundreds
            self._needing[link, getattr(error, "reason", "")] += 1
        if len(self.listed) < _MOST_LISTED:
            self.listed.append({"checkpoint_id": checkpoint_id, "error": one_line(str(error))})

    def tell(self) -> None:
        """Tell of those that only lack another one, at the end."""
        from workflows_mcp.engine.state_json import IMPORTING

        for (link, reason), count in self._needing.items():
            them = "1 checkpoint that needs" if count == 1 else f"{count:,} checkpoints that need"
            say(one_line(f"left out: {them} {link!r}, which {reason}; put that one back: {IMPORTING}"))


async def export_command(
    file: _File,
    /,
    *,
    filters: Filters = _ALL,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Export checkpoints to a file, in plain text; nobody else can read it.

    What is exported is the state of each and its place: pin, history, and when its lease ended.

    Args:
        file: The file, compressed if its name ends in .zst; `-` is stdout.
        filters: Which checkpoints.
        overwrite: Replace a file that is there.
        options: What every command takes.

    Returns:
        0, or 1 when a checkpoint could not be read, and was left out.
    """
    from workflows_mcp.persistence.exporting import export

    if file == _STANDARD and options.json:
        raise UsageError("--json prints on stdout, where - puts the checkpoints; name a file")
    wanted = filters.wanted()
    left_out = _LeftOut()
    target: Path | BinaryIO = sys.stdout.buffer if file == _STANDARD else _path(file)
    async with open_store(options) as store:
        with _interrupted("no part of the file is left"), progress("checkpoints") as told:
            done = await export(store, target, wanted, overwrite=overwrite, on_unreadable=left_out, on_progress=told)
    left_out.tell()
    code = EXIT_ERROR if done.damaged else 0
    if options.json:
        print_json({**dataclasses.asdict(done), "file": file, "left_out": left_out.listed})
        return code
    page = Page(sys.stderr if file == _STANDARD else sys.stdout)
    name = "stdout" if file == _STANDARD else one_line(repr(file))
    page.line(f"exported {done.count:,} checkpoints to {name} {_pace(done.count, done.seconds)}")
    page.line(done.digest)
    _tell_of_damage(page, done.damaged)
    return code


async def import_command(
    file: _File,
    /,
    *,
    on_conflict: _OnConflict = "fail",
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Import checkpoints from a file that was exported. It is checked as a whole first.

    An import that was interrupted is repeated: what is there already is no conflict.

    Args:
        file: The file, compressed or not; `-` is stdin. The guide's JSON array of states is read, too.
        on_conflict: What to do about a checkpoint that is there with another state.
        options: What every command takes.

    Returns:
        0.
    """
    from workflows_mcp.persistence.importing import checked_file, import_checked

    source: Path | BinaryIO = sys.stdin.buffer if file == _STANDARD else _path(file)
    with _interrupted("what was imported is kept; the same command goes on"), progress("checkpoints") as told:
        async with checked_file(source, told) as checked, open_store(options, create=True) as store:
            done = await import_checked(store, checked, on_conflict=on_conflict, on_progress=told)
    count = done.kept + done.skipped
    if options.json:
        print_json({"count": count, **dataclasses.asdict(done)})
        return 0
    page = Page(sys.stdout)
    page.line(f"imported {count:,} checkpoints {_pace(count, done.seconds)}: {_fates(done)}")
    _tell_of_heads(page, done.heads)
    if done.digest is not None:
        page.line(done.digest)
    if done.left_out:
        page.line(f"The export had left out {done.left_out:,} that could not be read.")
    return 0


async def copy_command(
    source_url: Annotated[str, Parameter(name="SOURCE_URL")],
    target_url: Annotated[str, Parameter(name="TARGET_URL")],
    /,
    *,
    filters: Filters = _ALL,
    on_conflict: _OnConflict = "fail",
    options: Options = DEFAULT_OPTIONS,
) -> int:
    """Copy checkpoints from one database to another, and read them back to compare.

    A copy that was interrupted is repeated: what is there already is no conflict.

    Args:
        source_url: Where they are: a SQLite file's path or a URL.
        target_url: Where they go. A SQLite file that is missing is created.
        filters: Which checkpoints.
        on_conflict: What to do about a checkpoint that is there with another state.
        options: What every command takes, but for `--database-url`.

    Returns:
        0, or 1 when a checkpoint could not be read, or is not in the target as it was copied.
    """
    from workflows_mcp.persistence.copying import copy
    from workflows_mcp.persistence.dialects import has_schemas

    if options.database_url is not None:
        raise UsageError("copy takes the two databases as SOURCE_URL and TARGET_URL, and no --database-url")
    if any(url.lower().startswith("memory:") for url in (source_url, target_url)):
        raise UsageError("memory:// ends with each command, so that nothing can be copied from it or to it")
    wanted = filters.wanted()
    left_out = _LeftOut()
    source_options, target_options = (
        dataclasses.replace(options, database_url=url) for url in (source_url, target_url)
    )
    # A schema is meant for the one of the two that has schemas, unless neither has.
    kinds = has_schemas(source_url), has_schemas(target_url)
    of_source, of_target = (kind or not any(kinds) for kind in kinds)
    async with (
        open_store(source_options, schema=of_source) as source,
        open_store(target_options, create=True, schema=of_target) as target,
    ):
        with _interrupted("what was copied is kept; the same command goes on"), progress("checkpoints") as told:
            done = await copy(source, target, wanted, on_conflict=on_conflict, on_unreadable=left_out, on_progress=told)
    left_out.tell()
    count = done.kept + done.skipped + done.differing_count
    code = EXIT_ERROR if done.damaged or done.differing_count else 0
    if options.json:
        names = {"source": source.description, "target": target.description}
        print_json({"count": count, **dataclasses.asdict(done), **names, "left_out": left_out.listed})
        return code
    page = Page(sys.stdout)
    page.line(f"copied {count:,} checkpoints {_pace(count, done.seconds)}: {_fates(done)}")
    page.line(f"from {one_line(source.description)}")
    page.line(f"to   {one_line(target.description)}")
    _tell_of_heads(page, done.heads)
    if done.differing_count:
        page.line(
            f"{done.differing_count:,} are not there as they were copied; somebody has changed or deleted them, or "
            "works on them:"
        )
        for name in done.differing:
            page.line(f"  {one_line(name)}")
    else:
        page.line(f"Read back and compared: all are there. {done.digest}")
    _tell_of_damage(page, done.damaged)
    return code


def _path(file: str) -> Path:
    if file.startswith("-"):
        raise UsageError(f"there is no option {file.partition('=')[0]!r} here; a file of such a name is ./{file}")
    if not file or "\0" in file:
        raise UsageError("FILE is a path, or -")
    return Path(file)


def _fates(done: object) -> str:
    """What became of the checkpoints, in short."""
    words = {"written": "new", "present": "there already", "replaced": "replaced", "skipped": "skipped"}
    counts = {word: int(getattr(done, name)) for name, word in words.items()}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count) or "there were none"


def _pace(count: int, seconds: float) -> str:
    return f"in {span(seconds)} ({count / max(seconds, 0.001):,.0f} a second)"


def _tell_of_heads(page: Page, heads: int) -> None:
    if heads:
        them, they = ("it", "it differs") if heads == 1 else ("them", "they differ")
        page.line(
            f"{heads:,} {'stays a head' if heads == 1 else 'stay heads'} here, though others follow {them} there: "
            f"somebody has a lease on {them}, or {they}. Their runs could go on from both."
        )


def _tell_of_damage(page: Page, damaged: int) -> None:
    if damaged:
        page.line(f"{damaged:,} could not be read, and {'was' if damaged == 1 else 'were'} left out.")


@contextmanager
def _interrupted(how_it_goes_on: str) -> Iterator[None]:
    """End what is within at a signal, tidily."""
    try:
        with cancelled_by_signals():
            yield
    except asyncio.CancelledError:
        raise InterruptedRunError(how_it_goes_on) from None
