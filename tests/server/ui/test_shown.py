"""How values are shown, whatever other programs have saved."""

import json
import math
from typing import Any, get_args

import pytest

from tests.server.ui.test_block_values import state_with
from workflows_mcp.engine.block_details import BlockDetails, ShownBlockStatus
from workflows_mcp.engine.checkpoint import CheckpointStatus
from workflows_mcp.engine.result import ResultStatus
from workflows_mcp.engine.signs import sign_of
from workflows_mcp.server.ui.block_values import given_to
from workflows_mcp.server.ui.formatting import FILTERS
from workflows_mcp.server.ui.values import Value, in_short

SHOWN: dict[str, Any] = FILTERS


def without_pass(value: Any) -> Any:
    """Masks one word in whatever JSON data."""
    return json.loads(json.dumps(value).replace("pass", "***"))


@pytest.mark.parametrize("odd", [None, "soon", math.nan, math.inf, -math.inf, 10**400, [1]])
def test_a_time_that_is_none_is_shown_as_unknown(odd: Any) -> None:
    """It hides nothing else of a page."""
    assert (SHOWN["iso"](odd), SHOWN["date"](odd), SHOWN["clock"](odd)) == ("", "", "")
    if odd != 10**400:
        assert SHOWN["ago"](odd) == "at an unknown time"


def test_what_is_large_is_shown_below_the_mask_of_its_name() -> None:
    """And told by its size, as under any other name."""
    values = {"my pass": ["x" * 100] * 9, "b": "the pass"}
    assert in_short(values, without_pass, 5) == (
        Value("my ***", "[9 items]", is_whole=False),
        Value("b", '"the ***"', is_whole=True),
    )


def test_what_failed_blocks_wrote_is_read_without_secrets_and_not_without_end() -> None:
    """Of the first ones as it stands there; of the others in a line."""
    records = {f"b{number}": {"outputs": {"stderr": "my pass\nis wrong\n"}} for number in range(21)}
    blocks = [BlockDetails(path, "failed", 0, block_id=path) for path in records]
    texts = [one.outputs[0].text for one in given_to(state_with(records), blocks, without_pass).values()]
    assert texts == ["my ***\nis wrong"] * 20 + ['"my ***\\nis wrong\\n"']


def test_every_status_has_a_sign_and_none_that_is_not_known_looks_like_one() -> None:
    """What ended well, what did not and what was ended are told apart without colours."""
    block_statuses = [one for kind in get_args(ShownBlockStatus) for one in get_args(kind)]
    assert "·" not in {sign_of(str(one)) for one in (*block_statuses, *get_args(ResultStatus), *CheckpointStatus)}
    assert [sign_of(one) for one in ("success", "failure", "cancelled", "abandoned", "paused")] == list("✓✗-!?")
    assert sign_of("<b>") == "·"
