"""What a client keeps for the server between a question and its answer, sealed so that it cannot be changed."""

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.server.request_state import RequestStateSecurity

    from workflows_mcp.server.http.tokens import Tokens

__all__ = ["request_state_security"]

_SECONDS = 24 * 3600.0
"""How long an answer may take: a human is asked, who may be at lunch, or asleep."""

_INFO = b"workflows-mcp request state"


def request_state_security(tokens: "Tokens | None") -> "RequestStateSecurity":
    """How questions to a client are sealed.

    With tokens for HTTP, the keys follow from them: servers that share a token, or one that was started again, take
    each other's answers. Without, they are made anew, and an answer counts only for the process that asked.

    Args:
        tokens: What callers must show; None: they are not asked, as over stdio.
    """
    from mcp.server.request_state import RequestStateSecurity

    if not tokens:
        return RequestStateSecurity.ephemeral(ttl=_SECONDS)
    return RequestStateSecurity(keys=[_derived(token) for token in tokens.secrets], ttl=_SECONDS)


def _derived(token: str) -> bytes:
    """A key that tells nothing of its token; the SDK makes one for its cipher of it, by HKDF."""
    return hmac.digest(token.encode(), _INFO, "sha256")
