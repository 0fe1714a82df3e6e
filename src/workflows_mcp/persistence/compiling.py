"""Statements as the driver takes them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ClauseElement, Executable
from sqlalchemy.engine.interfaces import Dialect as SQLAlchemyDialect

from workflows_mcp.persistence.dialects import Compiled
from workflows_mcp.persistence.statements import Query

__all__ = ["Compiler"]


class Compiler:
    """Compiles each statement once.

    Args:
        dialect: For which database and driver.
        schema: In which the tables are; None: no table is named with its schema.
    """

    def __init__(self, dialect: SQLAlchemyDialect, schema: str | None = None) -> None:
        self._dialect = dialect
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

    def _compile_once(self, statement: Executable) -> tuple[Compiled, Mapping[str, Any]]:
        known = self._known.get(statement)
        if known is None:
            known = self._known[statement] = self._compile(statement)
        return known

    def _compile(self, statement: Executable) -> tuple[Compiled, Mapping[str, Any]]:
        """A statement's SQL and the names of its parameters; and the values that are its own."""
        compiled: Any = cast("ClauseElement", statement).compile(dialect=self._dialect, **self._options)
        return Compiled(str(compiled), compiled.positiontup), compiled.params
