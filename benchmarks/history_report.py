"""What a long run's history costs, as Markdown: for a terminal, and for the document."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.history_results import Goal, HistoryOf, HistoryResults, Way, goals

__all__ = [
    "NAMES",
    "check_marks",
    "made_by",
    "markdown",
    "number",
    "size_of",
    "table",
    "table_of",
    "with_history",
    "with_marks",
]

_MARK = "history"
"""What the marks around the tables say."""

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
"""As people write them."""

_REWRITES = {"sqlite": "VACUUM", "postgresql": "VACUUM FULL"}


def markdown(results: HistoryResults) -> str:
    """All tables, and what they are of."""
    return "\n".join(_lines(results)) + "\n"


def with_history(document: str, results: HistoryResults) -> str:
    """A document that has this, between its marks.

    Raises:
        ValueError: It has no marks.
    """
    return with_marks(document, _MARK, markdown(results))


def with_marks(document: str, mark: str, text: str) -> str:
    """A document that has a text between its marks.

    Raises:
        ValueError: It has no marks.
    """
    before, after = check_marks(document, mark)
    return f"{before}<!-- {mark} -->\n{text}<!-- /{mark} -->{after}"


def check_marks(document: str, mark: str = _MARK) -> tuple[str, str]:
    """What stands before and after the marks of a document.

    Raises:
        ValueError: It has none.
    """
    before, _, rest = document.partition(f"<!-- {mark} -->")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not end:
        raise ValueError(f"the document has no <!-- {mark} --> and <!-- /{mark} -->")
    return before, after


def _lines(results: HistoryResults) -> Iterator[str]:
    last, whole = size_of(results.plain_bytes), size_of(results.all_plain_bytes)
    if results.is_quick:
        yield "A quick run: it shows that everything works; its figures mean little.\n"
    yield f"A run of {results.waves:,} waves, whose last state is {last} of plain JSON, and all of them {whole}:\n"
    yield from table(
        ("", "kept by", "database", "× the last state", "a save, median", "all saves"),
        [
            (
                NAMES[found.database],
                title,
                size_of(size),
                number(size / results.plain_bytes),
                *(("", "") if is_copy else (f"{number(way.save_ms)} ms", f"{number(way.seconds)} s")),
            )
            for found in results.databases
            for way in found.ways
            for title, size, is_copy in _sizes(found, way)
        ],
    )
    yield "\nThe goals:\n"
    yield from table_of(goals(results))
    for found in results.databases:
        yield from _details(found)
    yield made_by(results.command, results.date, results.machine, results.versions)


def _details(found: HistoryOf) -> Iterator[str]:
    name, (live, anew) = NAMES[found.database], found.equal
    yield (
        f"\n{name}: {live:,} checkpoints loaded equal by the store that saved them, {anew:,} by one opened anew. "
        "Medians of calls in turns; the ratio is that of the ratios within each turn:\n"
    )
    yield from table(
        ("", "deltas", "self-contained", "ratio", "of the slowest state"),
        [
            (
                one.what,
                f"{number(one.deltas_ms)} ms",
                f"{number(one.alone_ms)} ms",
                f"{number(one.ratio)} ×",
                "" if one.worst is None else f"{number(one.worst)} ×",
            )
            for one in found.compared
        ],
    )
    yield f"\n{name}, retention:\n"
    yield from table(
        ("", "deleted", "kept, and equal", "took", "before", "after", "after vacuum"),
        [
            (
                one.name,
                f"{one.deleted:,}",
                str(one.kept),
                f"{number(one.seconds)} s",
                *map(size_of, (one.before, one.after, one.vacuumed)),
            )
            for one in found.retained
        ],
    )


def _sizes(found: HistoryOf, way: Way) -> Iterator[tuple[str, int, bool]]:
    """Titles and sizes of what is left by saving, and of a copy of it that was packed, if somebody looked at that."""
    yield way.title, way.stored_bytes, False
    if way.rewritten_bytes is not None:
        yield f"— a copy of that after `{_REWRITES[found.database]}`", way.rewritten_bytes, True


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Its lines."""
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"


def size_of(count: int) -> str:
    """Bytes, for people."""
    return f"{number(count / 1e6)} MB"


def number(value: float) -> str:
    """A number with about three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table_of(goals: Iterable[Goal]) -> Iterator[str]:
    """A table of figures, what they may be, and whether they are that."""
    yield from table(
        ("database", "what", "goal", "measured", "met"),
        [
            (goal.database, goal.text, str(goal.bound), number(goal.measured), "yes" if goal.is_met else "**no**")
            for goal in goals
        ],
    )


def made_by(command: str, date: str, machine: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """The line that says what has measured something, when, and on what."""
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version != "-")
    return f"\n`{command}`, {date}: {', '.join(machine.values())}; {used}"
