"""What a long run's history costs, in a few sentences and a small table, for whoever reads no others."""

from benchmarks.history_report import NAMES, check_marks, number, size_of, table, with_marks
from benchmarks.history_results import HistoryOf, HistoryResults

__all__ = ["check_figures", "with_figures"]

_MARK = "history figures"
"""What the marks around them say."""


def with_figures(document: str, results: HistoryResults) -> str:
    """A document that has them, between its marks.

    Raises:
        ValueError: It has no marks.
    """
    return with_marks(document, _MARK, _figures(results))


def check_figures(document: str) -> None:
    """See to it that a document has a place for them.

    Raises:
        ValueError: It has none.
    """
    check_marks(document, _MARK)


def _figures(results: HistoryResults) -> str:
    found = results.databases
    stored = " and ".join(_stored(one, results) for one in found)
    alone = " and ".join(size_of(one.ways[1].stored_bytes) for one in found)
    ratios = [
        [same[0].what, *(f"{number(one.ratio)} ×" for one in same)]
        for same in zip(*(one.compared for one in found), strict=True)
    ]
    lines = [
        f"All {results.waves:,} checkpoints of a run, whose last state is {size_of(results.plain_bytes)} of JSON:",
        f"{stored}. Compressed each by itself",
        f"they take up {alone}; as plain JSON, {size_of(results.all_plain_bytes)}.",
        "How long calls take, beside a store that compresses each state by itself:",
        "",
        *table(("", *(NAMES[one.database] for one in found)), ratios),
        "",
        "([All figures](docs/performance.md#the-whole-history-of-a-run), and the command that makes them)",
    ]
    return "".join(f"{line}\n" for line in lines)


def _stored(found: HistoryOf, results: HistoryResults) -> str:
    """What a run takes up; the multiple of its last state stands beside it, whatever it is."""
    ours = found.ways[0]
    times = f"{number(ours.stored_bytes / results.plain_bytes)} times that state"
    if ours.rewritten_bytes is not None and found.database == "postgresql":
        times += f", and {number(ours.rewritten_bytes / results.plain_bytes)} times after `VACUUM FULL`"
    return f"{size_of(ours.stored_bytes)} on {NAMES[found.database]} ({times})"
