"""What the row of deletions takes for lost."""

from pathlib import Path

import pytest

from tests.faults import deletions
from tests.faults.audit import Audit
from tests.faults.crew import append
from tests.faults.row import Verdict

ACKNOWLEDGED = ("deleted:run0-0/1", "deleted:run0-0/8", "old:run0-0/3", "old:run0-0/7")


@pytest.mark.parametrize(
    ("gone", "broken"),
    [
        (["deleted:run0-0/1", "old:run0-0/3"], []),
        (["deleted:run0-0/8"], ["lost: deleted:run0-0/8 was acknowledged as number 0, and is None"]),
        (["old:run0-0/3", "old:run0-0/7"], ["1 of 2 that may expire are gone, and have not"]),
    ],
)
def test_only_what_somebody_has_deleted_may_be_gone(tmp_path: Path, gone: list[str], broken: list[str]) -> None:
    """Not all that is of a kind of which some are deleted; of what expires, the numbers must agree."""
    told = deletions._Told(tmp_path)
    for checkpoint_id in ACKNOWLEDGED:
        told.acknowledged.note(checkpoint_id, 0)
    append(told.doomed, "deleted:run0-0/1")
    verdict = Verdict()
    lost = [f"{one} was acknowledged as number 0, and is None" for one in gone]
    left = [one for one in ACKNOWLEDGED if one not in gone]
    deletions._judge(Audit(acknowledged=4, lost=lost), told, left, 1, verdict)
    assert [one for one in verdict.broken if one.startswith("lost") or "expire" in one] == broken
