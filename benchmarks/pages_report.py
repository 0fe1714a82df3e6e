"""How long the inspector's pages take, as Markdown: for a terminal, a file, and the document."""

from collections.abc import Iterator

from benchmarks.history_report import NAMES, check_marks, made_by, number, size_of, table, table_of, with_marks
from benchmarks.pages_results import PagesOf, PagesResults, Took, goals

__all__ = ["check_place", "markdown", "with_pages"]

_MARK = "pages"
"""What the marks around the tables say."""


def markdown(results: PagesResults) -> str:
    """All tables, and what they are of."""
    return "\n".join(_lines(results)) + "\n"


def with_pages(document: str, results: PagesResults) -> str:
    """A document that has this, between its marks.

    Raises:
        ValueError: It has no marks.
    """
    return with_marks(document, _MARK, markdown(results))


def check_place(document: str) -> None:
    """See to it that a document has a place for this.

    Raises:
        ValueError: It has none.
    """
    check_marks(document, _MARK)


def _lines(results: PagesResults) -> Iterator[str]:
    if results.is_quick:
        yield "A quick run: it shows that everything works; its figures mean little.\n"
    yield from table_of(goals(results))
    for found in results.databases:
        yield from _database(found)
    yield made_by(results.command, results.date, results.machine, results.versions)


def _database(found: PagesOf) -> Iterator[str]:
    runs = ", ".join(f"{count:,} {fate}" for fate, count in found.runs.items())
    yield (
        f"\n{NAMES[found.database]}: {found.checkpoints:,} checkpoints, {size_of(found.size)}, filled in "
        f"{number(found.fill_seconds)} s; runs: {runs}. The very first request to servers that had just started "
        f"({found.starts} of them): {_of(found.first_server)} of its time, {_of(found.first_client)} at the client.\n"
    )
    yield from table(
        ("page", "HTML", "server", "client", "the store alone", "the page adds", "turns"),
        [
            (
                page.title,
                f"{number(page.size / 1000)} KB",
                _of(page.server),
                _of(page.client),
                _of(page.alone),
                f"{number(max(page.server.median - page.alone.median, 0.0))} ms",
                str(page.turns),
            )
            for page in found.pages
        ],
    )


def _of(took: Took) -> str:
    return f"{number(took.median)} (≤ {number(took.p95)}) ms"
