"""Statements as the driver takes them."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ClauseElement, Executable
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from workflows_mcp.persistence import statements
from workflows_mcp.persistence.dialects import Compiled, Dialect
from workflows_mcp.persistence.statements import Query

__all__ = ["Compiler"]

_MOST_KINDS = 32
"""For how many drivers and schemas what saves is kept compiled."""


@functools.lru_cache(_MOST_KINDS)
def _saving_for(driver: str, schema: str | None) -> dict[str, Compiled]:  # noqa: ARG001 - by which it is found
    """What saves, once it is compiled."""
    return {}


class Compiler:
    """Compiles each statement once.

    Args:
        dialect: For which database and driver.
        schema: In which the tables are; None: no table is named with its schema.
    """

    def __init__(self, dialect: SQLAlchemyDialect, schema: str | None = None) -> None:
        self._dialect = dialect
        self._schema = schema
        self._options: dict[str, Any] = (
            {} if schema is None else {"schema_translate_map": {None: schema}, "render_schema_translate": True}
        )
        self._known: dict[Executable, tuple[Compiled, Mapping[str, Any]]] = {}

    def query(self, query: Query) -> tuple[str, Sequence[Any]]:
        """A query's SQL, and the values of its parameters in their order."""
        (sql, names), fixed = self._compile_once(query.statement)
        values = {**fixed, **query.values}
        return sql, [values[name] for name in names]

    def sql(self, query: Query) -> str:
        """A query's SQL, without the values of its parameters."""
        return self._compile_once(query.statement)[0].sql

    def known_statement(self, statement: Executable) -> Compiled:
        """A statement whose parameters are all given, compiled when it is first asked for."""
        return self._compile_once(statement)[0]

    def statement(self, statement: Executable) -> Compiled:
        """A statement whose parameters are all given whenever it is run."""
        return self._compile(statement)[0]

    def saving(self, dialect: Dialect, *, is_ours: bool) -> Mapping[str, Compiled]:
        """What `statements.saving` has for a database.

        Args:
            dialect: For which one.
            is_ours: Whether the engine was made here, like all others of its driver. Then the next store takes what
                this one has compiled, which is most of what it costs to make one.
        """
        kept = _saving_for(self._dialect.driver, self._schema) if is_ours else {}
        if not kept:
            kept.update({name: self.statement(one) for name, one in statements.saving(dialect).items()})
        return kept

    def _compile_once(self, statement: Executable) -> tuple[Compiled, Mapping[str, Any]]:
        known = self._known.get(statement)
        if known is None:
            known = self._known[statement] = self._compile(statement)
        return known

    def _compile(self, statement: Executable) -> tuple[Compiled, Mapping[str, Any]]:
        """A statement's SQL and the names of its parameters; and the values that are its own."""
        compiled: Any = cast("ClauseElement", statement).compile(dialect=self._dialect, **self._options)
        return Compiled(str(compiled), compiled.positiontup), compiled.params
