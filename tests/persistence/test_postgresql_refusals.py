"""What is asked for and sent, and how often, where a login is refused."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.persistence.refusing_server import refusing_server
from workflows_mcp import SQLAlchemyCheckpointStore, StoreConfigurationError, StoreUnavailableError, upgrade_schema
from workflows_mcp.persistence.dialects import postgresql_login
from workflows_mcp.settings import Settings


@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_what_a_pooler_refuses_is_tried_seldom(monkeypatch: pytest.MonkeyPatch, *, pgbouncer: bool) -> None:
    """It does not say whether the password is wrong or the server down; the error names both."""
    monkeypatch.setattr(postgresql_login, "_PAUSE", 0.2)
    calls, asked = 5, 0

    async def password() -> str:
        nonlocal asked
        asked += 1
        return "wrong"

    settings = Settings(deadline_seconds=0.5, pgbouncer=pgbouncer)
    async with (
        refusing_server("08P01") as server,
        SQLAlchemyCheckpointStore(server.url(), settings=settings, password=password) as store,
    ):
        found = await asyncio.gather(*(store.get_stats() for _ in range(calls)), return_exceptions=True)
        assert {type(error) for error in found} == {StoreUnavailableError}
        assert "behind it is down, or user, password or database are wrong" in str(found[0])
        # At once, and after 0.2 s and 0.4 s; a password that is refused at first is asked for once more.
        assert asked <= 2 * calls + 2
        # Who does not know of the pooler tries without settings, too.
        assert len(server.passwords) <= (calls + 2) * (1 if pgbouncer else 2)


async def test_a_pooler_that_refuses_is_told_from_the_url_alone_too() -> None:
    """Nobody can be asked for another password there."""
    settings = Settings(deadline_seconds=0.3)
    async with refusing_server("08P01") as server:
        with pytest.raises(StoreUnavailableError, match="a pooler such as PgBouncer refuses the connection"):
            await SQLAlchemyCheckpointStore(server.url("u:wrong"), settings=settings).list_checkpoints()
        assert len(server.passwords) == 2
        with pytest.raises(StoreUnavailableError, match="a pooler such as PgBouncer refuses the connection"):
            await upgrade_schema(server.url("u:wrong"))


async def test_a_token_that_a_server_has_others_check_is_asked_for_again() -> None:
    """PAM's code, and that of a cloud's tokens, is not the one of passwords. The same token twice is sent once."""
    given = iter(("stale", "new", "same", "same"))

    async def password() -> str:
        return next(given)

    async with refusing_server("28000") as server:
        for _ in range(2):
            with pytest.raises(StoreConfigurationError, match="check user, password or token"):
                await SQLAlchemyCheckpointStore(server.url(), password=password).list_checkpoints()
        assert server.passwords == ["stale", "new", "same"]


@pytest.mark.parametrize(
    ("login", "query", "sent"),
    [
        ("u:own", "", "own"),
        ("u", "&password=own", "own"),
        ("u", "&passfile={passfile}", "own"),
        ("u", "", "production"),
        ("u:", "", "production"),
    ],
)
async def test_the_settings_password_is_for_urls_without_one(tmp_path: Path, login: str, query: str, sent: str) -> None:
    """Another server than theirs would else be sent it."""
    passfile = tmp_path / "passfile"
    passfile.write_text("*:*:*:*:own\n")
    passfile.chmod(0o600)
    settings = Settings(database_password_command=SecretStr("echo production"))
    async with refusing_server("28P01") as server:
        url = server.url(login, query.format(passfile=passfile))
        with pytest.raises(StoreConfigurationError, match="check user and password"):
            await SQLAlchemyCheckpointStore(url, settings=settings).list_checkpoints()
        assert server.passwords == [sent]
