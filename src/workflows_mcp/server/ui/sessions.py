"""Who looks at the pages: a cookie that cannot be forged, and a token in every form that no other page knows.

Nothing is kept here: a session is a signed text, so that any of several servers with the same tokens takes it, and it
ends with the token that it was begun with. Without tokens everybody on this machine may look, and there is no cookie: a
form's token is then one for all, which whoever cannot read a page does not know.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.ui.paths import UI_PATH

__all__ = ["Session", "Sessions"]

_SECONDS = 12 * 3600
"""How long one lasts that is not used: a working day."""

_MOST_SECONDS = 7 * 24 * 3600
"""How long one lasts however much it is used."""

_TLS, _PLAIN = "tls", "plain"


@dataclass(frozen=True)
class Session:
    """A browser that looks.

    Attributes:
        is_allowed: Whether it may see what is stored.
        form_token: What each of its forms must send.
        text: What its cookie holds; empty: it has none, and needs none.
    """

    is_allowed: bool
    form_token: str = field(repr=False)
    text: str = field(default="", repr=False)

    def is_form_token(self, shown: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.form_token.encode(), shown.encode(errors="replace"))


class Sessions:
    """Makes sessions, and knows its own again.

    Args:
        tokens: What people must show to log in; none: nobody has to.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._keys = [_key_of(token) for token in tokens.secrets] or [secrets.token_bytes(32)]

    @property
    def need_login(self) -> bool:
        """Whether people must show a token."""
        return bool(self._tokens)

    def of(self, request: Request) -> Session:
        """The session that a request belongs to. One without a cookie that holds is a visitor's, who gets none.

        A link from another site comes without the cookie, and must not take the place of the one that there is.
        """
        text = request.cookies.get(_cookie_of(request), "")
        signed, _, signature = text.rpartition(".")
        expires = text.partition(".")[0]
        if self.need_login and expires.isdecimal() and len(expires) < 20 and int(expires) > time.time():
            for key in self._keys:
                if hmac.compare_digest(_signature(key, signed).encode(), signature.encode(errors="replace")):
                    return _user(key, text)
        return Session(not self.need_login, _signature(self._keys[0], "form of a visitor"))

    def log_in(self, token: str, request: Request) -> Session | None:
        """A session for somebody who shows a token; None: it is not one of those that are taken."""
        if not self._tokens.accept(token.encode(errors="replace")):
            return None
        # A browser names the origin of a form truly, and so whether it speaks TLS, with whoever it is.
        way = _TLS if request.headers.get("origin", "").startswith("https://") else _PLAIN
        now = int(time.time())
        return _begin(_key_of(token), now + _SECONDS, f"{now}-{way}-{secrets.token_urlsafe(16)}")

    def prolonged(self, session: Session) -> Session | None:
        """The same session, with the same token for its forms, that ends later.

        Returns:
            None: Less than half of its time is over, or it has lasted as long as one may; or it is a visitor's.
        """
        if not session.text:
            return None
        signed, _, signature = session.text.rpartition(".")
        expires, _, name = signed.partition(".")
        now = int(time.time())
        later = min(now + _SECONDS, int(name.partition("-")[0]) + _MOST_SECONDS)
        if int(expires) - now >= _SECONDS / 2 or later <= int(expires):
            return None
        key = next(one for one in self._keys if hmac.compare_digest(_signature(one, signed), signature))
        return _begin(key, later, name)

    def keep(self, session: Session, request: Request, response: Response) -> None:
        """Have the browser keep a session."""
        response.set_cookie(
            _cookie_of(request),
            session.text,
            max_age=_SECONDS,
            path=UI_PATH,
            httponly=True,
            samesite="strict",
            # By how it was begun: of a page that is looked at no browser says it.
            secure=session.text.partition(".")[2].split("-")[1] == _TLS,
        )

    def forget(self, request: Request, response: Response) -> None:
        """Have the browser forget its session."""
        response.delete_cookie(_cookie_of(request), path=UI_PATH, httponly=True, samesite="strict")


def _begin(key: bytes, expires: int, name: str) -> Session:
    signed = f"{expires}.{name}"
    return _user(key, f"{signed}.{_signature(key, signed)}")


def _user(key: bytes, text: str) -> Session:
    # By its name alone, which stays: a page that is open can still be sent when its session was made to last longer.
    return Session(is_allowed=True, form_token=_signature(key, f"form {text.split('.')[1]}"), text=text)


def _cookie_of(request: Request) -> str:
    """The cookie's name: browsers keep those of all ports of a host together, and there may be several servers."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"workflows_mcp_{port}" if port.isdecimal() else "workflows_mcp"


def _key_of(token: str) -> bytes:
    """A key that tells nothing of its token."""
    return hmac.digest(token.encode(), b"workflows-mcp pages", "sha256")


def _signature(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()
