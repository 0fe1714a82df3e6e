"""What a session is worth: for one browser, one server's tokens, one set of forms, and for a while."""

from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.responses import Response

from workflows_mcp.server.http.tokens import Tokens
from workflows_mcp.server.ui.sessions import Session, Sessions

FIRST, SECOND = "the-first-token-Zx81Qk27Lm93Rv55Tn60", "the-second-token-Pb42Wd16Hs78Kc39Xy05"


def request(cookie: str = "", host: str = "runs:8000") -> Request:
    """A request of a browser's."""
    headers = [(b"host", host.encode()), (b"cookie", cookie.encode("latin-1")), (b"origin", f"http://{host}".encode())]
    return Request({"type": "http", "method": "GET", "path": "/ui", "query_string": b"", "headers": headers})


def begun(sessions: Sessions, token: str, host: str = "runs:8000") -> Session:
    """The session of somebody who has shown a token."""
    session = sessions.log_in(token, request(host=host))
    assert session is not None
    return session


def kept(sessions: Sessions, session: Session, host: str = "runs:8000") -> str:
    """What a browser is told to keep of it."""
    response = Response()
    sessions.keep(session, request(host=host), response)
    return response.headers["set-cookie"]


def is_let_in(sessions: Sessions, session: Session) -> bool:
    """Whether somebody who brings a session's cookie may look."""
    return sessions.of(request(f"workflows_mcp_8000={session.text}")).is_allowed


def test_a_session_ends_with_the_token_that_it_was_begun_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of several that is, on any server that takes it; also when it was made to last longer."""
    now = 1_800_000_000.0
    monkeypatch.setattr("workflows_mcp.server.ui.sessions.time", SimpleNamespace(time=lambda: now))
    both, only_first, only_second = (
        Sessions(Tokens((FIRST, SECOND))),
        Sessions(Tokens((FIRST,))),
        Sessions(Tokens((SECOND,))),
    )
    first, second = begun(both, FIRST), begun(both, SECOND)
    now += 7 * 3600
    longer = both.prolonged(second)
    assert longer is not None
    for session in (second, longer):
        assert [is_let_in(one, session) for one in (both, only_first, only_second)] == [True, False, True]
    assert [is_let_in(one, first) for one in (both, only_first, only_second)] == [True, True, False]


def test_a_session_that_is_not_used_is_over_after_half_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the second: by what stands in the cookie, which a browser may keep for longer."""
    now = 1_800_000_000.0
    monkeypatch.setattr("workflows_mcp.server.ui.sessions.time", SimpleNamespace(time=lambda: now))
    sessions = Sessions(Tokens((FIRST,)))
    session = begun(sessions, FIRST)
    now += 12 * 3600 - 1
    assert is_let_in(sessions, session)
    now += 1
    assert not is_let_in(sessions, session)


def test_a_form_is_good_for_its_own_session_alone() -> None:
    """Not for one that was begun in the same second with the same token; a visitor's is good for neither."""
    sessions = Sessions(Tokens((FIRST,)))
    visitor, *users = sessions.of(request()), begun(sessions, FIRST), begun(sessions, FIRST)
    for one in (visitor, *users):
        assert [one.is_form_token(other.form_token) for other in (visitor, *users)] == [
            one is other for other in (visitor, *users)
        ]
    assert users[0].text != users[1].text


def test_without_tokens_no_form_is_known_to_whoever_cannot_read_a_page() -> None:
    """Nor is one of another server's taken, or of the same before it was started anew."""
    one, other = (Sessions(Tokens(())).of(request()) for _ in range(2))
    assert one.is_allowed
    assert other.is_allowed
    assert not one.is_form_token(other.form_token)


def test_servers_on_one_host_have_a_cookie_each() -> None:
    """Browsers send it to all ports of the host; it lasts as long as an unused session."""
    sessions = Sessions(Tokens((FIRST,)))
    session = begun(sessions, FIRST)
    cookies = [kept(sessions, session, host) for host in ("runs:8000", "runs:8001", "runs", "[::1]:8000")]
    names = [one.partition("=")[0] for one in cookies]
    assert names == ["workflows_mcp_8000", "workflows_mcp_8001", "workflows_mcp", "workflows_mcp_8000"]
    assert all("Max-Age=43200" in one.split("; ") for one in cookies)
    assert not sessions.of(request(f"workflows_mcp_8001={session.text}")).is_allowed


def test_a_cookie_that_holds_anything_is_none() -> None:
    """Numbers that Python does not read, letters that no header has."""
    sessions = Sessions(Tokens((FIRST,)))
    expires, name, signature = begun(sessions, FIRST).text.split(".")
    for text in (f"{'9' * 5_000}.{name}.{signature}", f"{expires}.{name}.é", f"{expires}.{name}", f"²{expires}.x.y"):
        assert not sessions.of(request(f"workflows_mcp_8000={text}")).is_allowed, text[:80]


def test_no_session_is_shown_in_a_log() -> None:
    """By itself, it says nothing that anybody could come in with."""
    session = begun(Sessions(Tokens((FIRST,))), FIRST)
    assert not any(secret in repr(session) for secret in (session.form_token, session.text, FIRST))
