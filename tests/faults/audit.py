"""The comparison of what was acknowledged to savers with what a store holds."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from tests.faults.links import Links, links_of
from tests.faults.load import Acknowledged, state_of
from tests.faults.row import Verdict
from workflows_mcp import CheckpointDecodeError, CheckpointMetadata, CheckpointState, SQLAlchemyCheckpointStore

__all__ = ["Audit", "audit"]


def _superfluous(workflow: str, most: int, *numbers: Mapping[str, int]) -> Iterable[str]:
    """What a trim may have taken of a workflow: all but the newest, which no trim takes, so that they are all known."""
    known = {(number, one) for these in numbers for one, number in these.items() if one.startswith(f"{workflow}:")}
    newest = {one: place for place, one in enumerate(dict.fromkeys(one for _, one in sorted(known, reverse=True)))}
    return (one for one, place in newest.items() if place >= most)


@dataclass
class Audit:
    """What a store holds, beside what was acknowledged.

    Attributes:
        acknowledged: How many saves were.
        found: How many checkpoints the store holds.
        lost: Acknowledged ones that it does not hold, or only as they were before.
        torn: Those that cannot be loaded, or hold anything but what was saved.
        links: What they are deltas of.
    """

    acknowledged: int = 0
    found: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    links: Links = field(default_factory=Links)

    def tell(self, verdict: Verdict, *, has_deltas: bool = True) -> None:
        """Put it into a verdict.

        Args:
            verdict: Takes it.
            has_deltas: Whether there must be some.
        """
        verdict.figures.update(acknowledged=self.acknowledged, lost=len(self.lost), torn=len(self.torn))
        verdict.require(self.acknowledged, "nothing was acknowledged, so nothing was tried")
        if has_deltas:
            self.links.tell(verdict)
        else:
            self.links.must_hold(verdict)
        verdict.broken += [f"lost: {one}" for one in self.lost[:5]] + [f"torn: {one}" for one in self.torn[:5]]


async def audit(
    store: SQLAlchemyCheckpointStore, acknowledged: Acknowledged, *, trimmed: Mapping[str, int] | None = None
) -> Audit:
    """Load all that a store holds, and compare.

    Args:
        store: Any.
        acknowledged: What must be there.
        trimmed: Of how many checkpoints of a workflow the newest were kept by those who trimmed it, by its name.
    """
    found = Audit(acknowledged=sum(1 for _ in acknowledged), links=await links_of(store))
    numbers: dict[str, int] = {}

    def damaged(metadata: CheckpointMetadata, error: CheckpointDecodeError) -> None:
        numbers[metadata.checkpoint_id] = -1
        found.torn.append(f"{metadata.checkpoint_id}: {error}")

    states: AsyncIterator[CheckpointState] = store.iter_checkpoints(on_damaged=damaged)
    async for state in states:
        numbers[state.checkpoint_id] = number = state.context["number"]
        if state != state_of(state.checkpoint_id, number):
            found.torn.append(f"{state.checkpoint_id} is not what was saved as its number {number}")
    found.found = len(numbers)
    newest = acknowledged.newest
    may_be_gone = {one for name, most in (trimmed or {}).items() for one in _superfluous(name, most, newest, numbers)}
    for checkpoint_id, number in newest.items():
        held = numbers.get(checkpoint_id)
        if held is None and checkpoint_id in may_be_gone:
            continue
        if held is None or 0 <= held < number:
            found.lost.append(f"{checkpoint_id} was acknowledged as number {number}, and is {held}")
    return found
