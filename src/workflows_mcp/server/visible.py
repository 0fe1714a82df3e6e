"""Texts that are fit to be sent, and that show whoever reads them all that is in them."""

import re
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from pydantic_core import to_json

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["send_what_can_be_sent", "visible"]

# What moves a terminal's cursor, or lets a text be read in another order than it stands there. So do the two halves of
# a character of UTF-16 alone, which cannot be sent at all.
_HIDING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with escapes such as `\x1b` for what would hide, or disguise, other parts of it.

    Line breaks and tabs stay, and so does what is no more than invisible.
    """
    if text.isprintable():  # as nearly all are, and pages have thousands of them
        return text
    return _HIDING.sub(_escape, text.replace("\r\n", "\n"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


async def send_what_can_be_sent(ctx: "ServerRequestContext[Any, Any]", call_next: "CallNext") -> "HandlerResult":
    """Make every answer one that can be written: with any other one, a server on stdio dies.

    What no UTF-8 stands for (halves of characters, as names of files have them) becomes a question mark. See the SDK's
    `ServerMiddleware`.
    """
    try:
        result = await call_next(ctx)
    except MCPError as error:
        failed = error.error
    else:
        try:
            to_json(result)  # as fast as a copy: nearly all of them are fit
        except ValueError:
            result = _sendable(result)
        return result
    # Out here, so that what was raised first is no context of this one.
    raise MCPError(failed.code, _sendable(failed.message), _sendable(failed.data))


def _sendable(value: Any) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(one) for key, one in value.items()}
    return [_sendable(one) for one in value] if isinstance(value, list) else value
