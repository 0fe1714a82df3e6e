"""What a client keeps for the server between a question and its answer, sealed so that it cannot be changed."""

import hmac
from typing import TYPE_CHECKING

from workflows_mcp.settings import Settings

if TYPE_CHECKING:
    from mcp.server.request_state import RequestStateSecurity

__all__ = ["request_state_security"]

_SECONDS = 24 * 3600.0
"""How long an answer may take: a human is asked, who may be at lunch, or asleep."""

_INFO = b"workflows-mcp request state"


def request_state_security(settings: Settings) -> "RequestStateSecurity":
    """How questions to a client are sealed.

    With tokens for HTTP, the keys follow from them: servers that share a token, or one that was started again, take
    each other's answers. Without, they are made anew, and an answer counts only for the process that asked.

    Raises:
        StoreConfigurationError: See `load_tokens`.
    """
    from mcp.server.request_state import RequestStateSecurity

    from workflows_mcp.server.http.tokens import load_tokens

    tokens = load_tokens(settings)
    if not tokens:
        return RequestStateSecurity.ephemeral(ttl=_SECONDS)
    return RequestStateSecurity(keys=[_derived(token) for token in tokens.secrets], ttl=_SECONDS)


def _derived(token: str) -> bytes:
    """A key that tells nothing of its token; the SDK makes one for its cipher of it, by HKDF."""
    return hmac.digest(token.encode(), _INFO, "sha256")
