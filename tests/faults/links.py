"""How the deltas of a database hang together, by its table alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from tests.faults.row import Verdict
from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.persistence.statements import TABLE, Query

__all__ = ["Links", "links_of"]

_MOST_ROWS = 31
"""How many rows loading a state takes at the most, its own included."""

_C = TABLE.c


@dataclass
class Links:
    """What the rows of a database are deltas of.

    Attributes:
        bases: The id of each delta's base, by its own.
        longest: How many rows loading a state takes at the most.
        wrong: Deltas that have no base of that content, or are among their own bases.
    """

    bases: Mapping[str, str] = field(default_factory=dict)
    longest: int = 0
    wrong: list[str] = field(default_factory=list)

    def tell(self, verdict: Verdict) -> None:
        """Put it into a verdict; without any delta, none was put to the test."""
        verdict.figures["deltas"] = len(self.bases)
        verdict.require(self.bases, "nothing is stored as a delta, so that none was put to the test")
        self.must_hold(verdict)

    def must_hold(self, verdict: Verdict) -> None:
        """Require what must be so wherever there are deltas."""
        verdict.broken += self.wrong[:5]
        verdict.require(self.longest <= _MOST_ROWS, f"loading a state takes {self.longest} rows, not {_MOST_ROWS}")

    def needed_by(self, checkpoint_id: str) -> list[str]:
        """All that a state takes to be loaded, itself first."""
        needed = [checkpoint_id]
        while (base := self.bases.get(needed[-1])) is not None and base not in needed:
            needed.append(base)
        return needed


async def links_of(store: SQLAlchemyCheckpointStore) -> Links:
    """Read them all, in one snapshot."""
    read = select(_C.checkpoint_id, _C.state_digest, _C.base_checkpoint_id, _C.base_digest)
    rows: Sequence[Sequence[Any]] = await store._database.fetch_long(Query(read))
    digests = {row[0]: row[1] for row in rows}
    deltas = {row[0]: (row[2], row[3]) for row in rows if row[2] is not None}
    links = Links({checkpoint_id: base for checkpoint_id, (base, _) in deltas.items()})
    for checkpoint_id, (base, digest) in deltas.items():
        if digest is None or digests.get(base) != digest:
            links.wrong.append(f"{checkpoint_id} is a delta of {base}, which is not there, or as another state")
    for checkpoint_id in links.bases:
        needed = links.needed_by(checkpoint_id)
        links.longest = max(links.longest, len(needed))
        if needed[-1] in links.bases:
            links.wrong.append(f"{checkpoint_id} leads back to itself")
    return links
