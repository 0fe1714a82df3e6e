"""What stores have compiled."""

import pytest
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import create_async_engine

from workflows_mcp import SQLAlchemyCheckpointStore
from workflows_mcp.persistence.census import _PULSE
from workflows_mcp.persistence.compiling import Compiler
from workflows_mcp.persistence.dialects import Compiled
from workflows_mcp.persistence.dialects.types import time_now, time_of_statement
from workflows_mcp.settings import Settings

URLS = {"sqlite": "checkpoints.db", "postgresql": "postgresql://nobody@localhost/nothing"}


def compiled_by(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The statements that are compiled from now on."""
    compiled: list[object] = []
    compile_one = Compiler.statement

    def noted(self: Compiler, statement: Executable) -> Compiled:
        compiled.append(statement)
        return compile_one(self, statement)

    monkeypatch.setattr(Compiler, "statement", noted)
    return compiled


def test_the_next_store_of_a_kind_compiles_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file or server it is for: that is most of what it costs to make a store."""
    SQLAlchemyCheckpointStore(URLS[database])
    compiled = compiled_by(monkeypatch)
    SQLAlchemyCheckpointStore(f"{URLS[database]}2", settings=Settings(deadline_seconds=2))
    assert not compiled


def test_a_schema_has_statements_of_its_own() -> None:
    """They name it."""
    stores = [
        SQLAlchemyCheckpointStore(URLS["postgresql"], settings=Settings(database_schema=schema))
        for schema in (None, "one", "two", "one")
    ]
    plain, one, two, again = (store._database._saving_sql["many_fenced"].sql for store in stores)
    assert "one.checkpoints" in one
    assert one.replace("one.", "two.") == two
    assert one.replace("one.", "") == plain
    assert again is one


async def test_an_engine_that_is_passed_in_has_statements_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how it was made: here with another style of parameters."""
    SQLAlchemyCheckpointStore(URLS["sqlite"])
    compiled = compiled_by(monkeypatch)
    engine = create_async_engine("sqlite+aiosqlite:///checkpoints.db", paramstyle="named")
    passed_in = SQLAlchemyCheckpointStore(engine)
    assert compiled
    assert "?" not in passed_in._database._saving_sql["one"].sql
    assert "?" in SQLAlchemyCheckpointStore(URLS["sqlite"])._database._saving_sql["one"].sql
    await engine.dispose()


def test_what_asks_the_database_for_the_time_is_compiled_once() -> None:
    """Pages ask for the pulse every few seconds, and compiling it takes longer than answering it does."""
    kept = _PULSE._generate_cache_key()
    assert kept is not None
    assert kept == _PULSE._generate_cache_key()
    assert time_now()._generate_cache_key() != time_of_statement()._generate_cache_key()
