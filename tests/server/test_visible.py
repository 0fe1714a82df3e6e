"""What hides in a text is shown, and what cannot be sent is replaced, whatever an answer is made of."""

from typing import Any, cast

import pytest
from mcp import MCPError

from workflows_mcp.server.visible import send_what_can_be_sent, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc ü 日本 🙂", "a\tb\nc ü 日本 🙂"),
        ("a\r\nb", "a\nb"),
        ("ls #\r\x1b[2K\x9b", r"ls #\x0d\x1b[2K\x9b"),
        ("\u202eabc\u2066\u200f\u2028", r"\u202eabc\u2066\u200f\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_would_hide_or_disguise_a_text_is_shown(text: str, shown: str) -> None:
    """All else stays as it is."""
    assert visible(text) == shown


async def test_answers_and_errors_are_made_fit_to_be_sent() -> None:
    """Also in keys and lists; what is fit is passed on as it is."""

    async def send(result: Any) -> Any:
        async def answer(_: object) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

        return await send_what_can_be_sent(cast("Any", None), answer)

    fit = {"a": ["ü", 1, None, float("inf")]}
    assert await send(fit) is fit
    assert await send({"\ud800": ["\udce9", 1, {"b": "\ud83d x"}]}) == {"?": ["?", 1, {"b": "? x"}]}
    with pytest.raises(MCPError) as raised:
        await send(MCPError(5, "no \ud800", {"uri": "\ud800"}))
    assert (raised.value.code, raised.value.message, raised.value.data) == (5, "no ?", {"uri": "?"})
