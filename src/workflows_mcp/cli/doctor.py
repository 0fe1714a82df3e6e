"""`doctor`: what is right and what is wrong with a database, and what to do about it."""

import dataclasses
import sys
from typing import Annotated

from cyclopts import Parameter

from workflows_mcp.cli.failures import EXIT_ERROR, one_line
from workflows_mcp.cli.options import DEFAULT_OPTIONS, Options
from workflows_mcp.cli.page import Page, print_json

__all__ = ["doctor"]

_STYLES = {"ok": "green", "notice": "yellow", "problem": "bold red"}


async def doctor(*, deep: Annotated[bool, Parameter(negative=())] = False, options: Options = DEFAULT_OPTIONS) -> int:
    """Examine the database and what it would be used with, and say what to do about what is wrong.

    Nothing is changed: a file that is missing is not created, an older schema is not upgraded.

    Args:
        deep: Read all that is stored, every page and every payload, however long it takes.
        options: What every command takes.

    Returns:
        0, or 1 when something is a problem.
    """
    from workflows_mcp.persistence.health import Verdict, examine

    settings = options.settings()
    checks = await examine(settings.url, settings, deep=deep, options=options.words())
    counts = {verdict: sum(one.verdict is verdict for one in checks) for verdict in Verdict}
    code = EXIT_ERROR if counts[Verdict.PROBLEM] else 0
    if options.json:
        print_json([dataclasses.asdict(one) for one in checks])
        return code
    page = Page(sys.stdout)
    width = max(len(one.check) for one in checks)
    for one in checks:
        page.line(f"{one.verdict:<7}  {one.check:<{width}}  {one_line(one.found)}", style=_STYLES[one.verdict])
        if one.advice:
            page.line(f"{'':<7}  {'':<{width}}  → {one_line(one.advice)}")
    page.line()
    page.line(", ".join(_counted(count, verdict) for verdict, count in reversed(counts.items())))
    return code


def _counted(count: int, verdict: str) -> str:
    if verdict == "ok":
        return f"{count} in order"
    return f"{count} {verdict}{'' if count == 1 else 's'}"
