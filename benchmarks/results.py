"""What a benchmark has found, as values and as JSON."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.figures import Turn
from benchmarks.workloads import Plan

__all__ = ["ContenderResult", "DatabaseResult", "Entry", "Figure", "Results", "read_results", "write_results"]


@dataclass(frozen=True)
class Entry:
    """What one contender did at one workload.

    Attributes:
        turns: Its turns, in order; those of all contenders with the same place belong together.
        missing: Why it has none.
    """

    turns: list[Turn] = field(default_factory=list)
    missing: str | None = None


@dataclass(frozen=True)
class Figure:
    """One number of the part about scale.

    Attributes:
        key: Names it.
        title: As the table has it.
        value: The number.
        unit: `ms`, `s`, `/s`, `MB`, `rows`, or `x` for a ratio.
    """

    key: str
    title: str
    value: float
    unit: str


@dataclass(frozen=True)
class ContenderResult:
    """Who took part.

    Attributes:
        title: What it is.
        settings: What decides about its durability, as its open database said.
    """

    title: str
    settings: dict[str, str]


@dataclass(frozen=True)
class DatabaseResult:
    """All that was found on one database.

    Attributes:
        server: What the server says of itself.
        contenders: By name.
        workloads: Entries by workload and contender.
        scale: The part about scale; empty when it was left out.
        memory: How peak memory was measured.
    """

    server: dict[str, str]
    contenders: dict[str, ContenderResult]
    workloads: dict[str, dict[str, Entry]]
    scale: list[Figure] = field(default_factory=list)
    memory: str = ""

    def turns(self, workload: str, contender: str) -> list[Turn]:
        """The turns of a contender; empty when it has none."""
        entry = self.workloads.get(workload, {}).get(contender)
        return entry.turns if entry else []

    def figure(self, key: str) -> float | None:
        """The value of a figure about scale; None when it was not measured."""
        return next((figure.value for figure in self.scale if figure.key == key), None)


@dataclass(frozen=True)
class Results:
    """A run of the benchmark.

    Attributes:
        command: What made it.
        date: When it began, ISO 8601.
        is_quick: Whether it was a quick one, whose figures mean little.
        plan: How much was done.
        machine: What it ran on.
        versions: Of everything that matters.
        databases: By name.
    """

    command: str
    date: str
    is_quick: bool
    plan: Plan
    machine: dict[str, str]
    versions: dict[str, str]
    databases: dict[str, DatabaseResult]


def write_results(results: Results, path: Path, *, summary: dict[str, Any]) -> None:
    """Write all of it as JSON.

    Args:
        results: What was found.
        path: The file; its folder must be there.
        summary: What was computed out of it, for readers; `read_results` leaves it aside.
    """
    everything = {"summary": summary, **dataclasses.asdict(results)}
    path.write_text(json.dumps(_rounded(everything), indent=1, ensure_ascii=False) + "\n")


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote."""
    return TypeAdapter(Results).validate_json(path.read_bytes())


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Six digits say all that a clock knows, and keep the file small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
