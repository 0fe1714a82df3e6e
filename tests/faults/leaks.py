"""What must not be told, in states, passwords and the environment, while every error there is comes up."""

import asyncio
import contextlib
import gc
import logging
import os
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from tests.faults import leaking_databases, leaking_moves, leaking_states
from tests.faults.leaking import CANARY, PROVOCATIONS, Scene
from tests.faults.row import Effort, Place, Row, Verdict
from workflows_mcp import errors, upgrade_schema

__all__ = ["ROW"]

# Named, so that nobody takes the imports for unused: they fill the list of provocations.
FILLED = (leaking_states, leaking_databases, leaking_moves)

_RAISED_ELSEWHERE = {"WorkflowsError"}
"""The root, which is never raised itself."""


async def check(place: Place, effort: Effort) -> Verdict:
    """Raise every error of this package, each in one or more ways, and look for canaries in all that is told."""
    verdict = Verdict({"errors raised": 0})
    told: list[str] = []
    raised: Counter[str] = Counter()
    with _environment(place), _listening(told):
        await upgrade_schema(place.url)
        async with _scene(place) as scene:
            for provoke in PROVOCATIONS[place.database]:
                if provoke.takes_long and effort.is_quick:
                    continue
                name = provoke.__name__
                try:
                    await provoke(scene)
                except Exception as error:  # noqa: BLE001 - it is looked at
                    raised[type(error).__name__] += 1
                    wanted = provoke.error
                    verdict.require(type(error) is wanted, f"{name} raised {type(error).__name__}: {error!s:.150}")
                    for text in _told_by(error):
                        if CANARY in text:
                            verdict.broken.append(f"{name}: {_around(text)}")
                    del error
                else:
                    verdict.broken.append(f"{name} raised nothing")
            await _command_lines(scene, effort, told, verdict)
        gc.collect()  # what nobody has awaited is told of now
        await asyncio.sleep(0)
    hits = [one for one in told if CANARY in one]
    for one in hits[:5]:
        verdict.broken.append(f"it was logged or printed: {_around(one)}")
    missing = {name for name in errors.__all__ if name not in raised} - _RAISED_ELSEWHERE
    verdict.require(not missing, f"never raised: {', '.join(sorted(missing))}")
    verdict.require(told, "nothing was logged, so nobody listened")
    verdict.figures.update(
        {"errors raised": raised.total(), "types": len(raised), "log records": len(told), "hits": len(hits)}
    )
    verdict.figures["hits"] = len(hits) + sum("…" in one for one in verdict.broken if CANARY in one and one not in hits)
    return verdict


def _around(text: str) -> str:
    place = text.index(CANARY)
    return "…" + text[max(0, place - 150) : place + 60].replace("\n", "⏎") + "…"


def _told_by(error: BaseException) -> Iterator[str]:
    """All that somebody may see of an error, and of what is chained to it."""
    yield "".join(traceback.format_exception(error))
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield from (str(one), repr(one), repr(one.args), repr(getattr(one, "__notes__", "")))
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]


class _Ear(logging.Handler):
    """Hears all that is logged, whoever logs it."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name}: {record.getMessage()} {record.args!r}"
        if record.exc_info is not None:
            text += "".join(traceback.format_exception(*record.exc_info))
        self._told.append(text)


@contextlib.contextmanager
def _listening(told: list[str]) -> Iterator[None]:
    """Hear every logger, at its most talkative, and every warning."""
    ear = _Ear(told)
    logging.getLogger().addHandler(ear)
    # SQLAlchemy's is told to be silent below WARNING, and so tells nothing of its own accord.
    loggers = [logging.getLogger(name) for name in (None, "sqlalchemy", "asyncpg", "aiosqlite", "asyncio", "alembic")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_others, **_more: told.append(f"warning: {message}")
            yield
    finally:
        logging.getLogger().removeHandler(ear)
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


@contextlib.contextmanager
def _environment(place: Place) -> Iterator[None]:
    """Secrets and passwords where people keep them."""
    added = {
        "WORKFLOW_SECRET_TOKEN": f"token-{CANARY}-of-a-run",
        "PGPASSWORD": f"password-{CANARY}",
        "HOME": str(place.folder),
        "TMPDIR": str(place.folder),
    }
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.asynccontextmanager
async def _scene(place: Place) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        scene = Scene(place, stack)
        await scene.prepare()
        yield scene


async def _command_lines(scene: Scene, effort: Effort, told: list[str], verdict: Verdict) -> None:
    """What commands print when they fail, also when they are to print tracebacks."""
    url = scene.with_password
    commands = [
        (["resume", "paused", "--response", f"answer {CANARY}"], scene.place.url),
        (["checkpoints", "list"], scene.unreachable),
        (["checkpoints", "list", "--database-url", f"postgresql://u:{CANARY}@h:1:2/x"], url),
        (["checkpoints", "show", "bad JSON"], url),
        (["db", "upgrade", "--database-url", f"postgresql://u:p#{CANARY}@h/x"], url),
    ]
    for words, database in commands[: effort.of(len(commands), 1)]:
        for debug in ("1", "0") if words[0] == "resume" and not effort.is_quick else ("1",):
            chosen = {"WORKFLOWS_DEBUG": debug, "WORKFLOWS_DEADLINE_SECONDS": "1", "WORKFLOWS_DATABASE_URL": database}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workflows_mcp", *words, env={**os.environ, **chosen},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = (stream.decode() for stream in await process.communicate())
            verdict.require(process.returncode, f"{words[:2]} did not fail")
            told += [f"stdout: {out}", f"stderr: {err}"]


ROW = Row(
    fault="leaks of text",
    promise="No error, traceback, log record or line of a command shows a state, an answer, a secret or a password.",
    check=check,
)
