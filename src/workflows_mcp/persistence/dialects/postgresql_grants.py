"""SQL that gives each role no more than it needs; printed, never run."""

from collections.abc import Sequence

from workflows_mcp.errors import StoreConfigurationError
from workflows_mcp.persistence.dialects.postgresql_schema import name_problem, qualified
from workflows_mcp.persistence.dialects.quoting import identifier, literal
from workflows_mcp.persistence.dialects.roles import Roles

__all__ = ["grants", "refusing_vacuum"]


def grants(
    roles: Roles, *, database: str | None, schema: str | None, table: str, version_table: str, columns: Sequence[str]
) -> str:
    """The script.

    Args:
        roles: Who does what; they are there.
        database: Its name; None: it is not known.
        schema: Where the tables are, or will be; None: in `public`.
        table: Of the checkpoints.
        version_table: Of the revision.
        columns: Those that may be read by all of the roles.

    Raises:
        StoreConfigurationError: A name cannot be a role's.
    """
    for name in roles.names:
        if problem := name_problem(name):
            raise StoreConfigurationError(f"the role name {name!r} {problem}; name a role of the server")
    place = identifier(schema or "public")
    everybody = ", ".join(map(identifier, roles.names))
    body = "\n".join(f"    {line}" for line in _table_lines(roles, schema or "public", table, version_table, columns))
    tag = "$grants$"
    while tag in body:  # a name may hold anything
        tag = f"{tag[:-1]}_$"
    return "\n".join([
        *_PREFACE,
        "BEGIN;",
        *([f"GRANT CONNECT ON DATABASE {identifier(database)} TO {everybody};"] if database else []),
        *_schema_lines(roles, schema),
        f"GRANT USAGE, CREATE ON SCHEMA {place} TO {identifier(roles.owner)};",
        f"GRANT USAGE ON SCHEMA {place} TO {', '.join(map(identifier, roles.names[1:]))};",
        f"DO {tag}",
        "BEGIN",
        f"  IF to_regclass({literal(qualified(table, schema or 'public'))}) IS NOT NULL THEN",
        body,
        "  END IF;",
        "END",
        f"{tag};",
        "COMMIT;",
        "",
    ])  # fmt: skip


_PREFACE = (
    "-- What each role needs, and no more. Run this before the first `db upgrade`, and again after each one: as a",
    "-- superuser, or as the database's owner where that is a member of the role that is to own the tables. The roles",
    "-- must exist.",
)


def _schema_lines(roles: Roles, schema: str | None) -> list[str]:
    if schema is None:
        return [
            "-- In schema public, since no other one was named (WORKFLOWS_DATABASE_SCHEMA). What others may do there",
            "-- stays as it is: on a server that began before PostgreSQL 15, anybody may create tables in it.",
        ]
    return [
        f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)} AUTHORIZATION {identifier(roles.owner)};",
        f"REVOKE ALL ON SCHEMA {identifier(schema)} FROM PUBLIC, {', '.join(map(identifier, roles.names[1:]))};",
    ]


def _table_lines(roles: Roles, schema: str, table: str, version_table: str, columns: Sequence[str]) -> list[str]:
    checkpoints, revision = qualified(table, schema), qualified(version_table, schema)
    owner, app = identifier(roles.owner), identifier(roles.app)
    others = ", ".join(map(identifier, roles.names[1:]))
    maintain = f"GRANT MAINTAIN ON {checkpoints} TO {app}"
    lines = [
        f"ALTER TABLE {checkpoints} OWNER TO {owner};",
        f"ALTER TABLE {revision} OWNER TO {owner};",
        f"REVOKE ALL ON {checkpoints}, {revision} FROM PUBLIC, {others};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {checkpoints} TO {app};",
        f"GRANT SELECT ON {revision} TO {others};",
        "-- For vacuum and its statistics; before PostgreSQL 17 these are the owner's, and autovacuum's.",
        "IF current_setting('server_version_num')::int >= 170000 THEN",
        f"  EXECUTE {literal(maintain)};",
        "END IF;",
    ]
    if roles.readonly is not None:
        wanted = ", ".join(map(literal, columns))
        to = literal(f"GRANT SELECT (%s) ON {checkpoints} TO {identifier(roles.readonly)}".replace("%", "%%"))
        lines += [
            "-- All that a listing shows, prompts included; neither payloads nor who holds a lease. An older table has",
            "-- fewer columns.",
            f"EXECUTE (SELECT format({to.replace('(%%s)', '(%s)', 1)}, string_agg(quote_ident(attname), ', '))",
            f"  FROM pg_attribute WHERE attrelid = to_regclass({literal(checkpoints)}) AND attname IN (",
            f"  {wanted}));",
        ]
    return lines


def refusing_vacuum(table: str) -> str:
    """A statement that fails when this user may not vacuum a table: VACUUM itself only warns, and does nothing.

    Args:
        table: As it stands in SQL.
    """
    return _REFUSE_VACUUM.format(name=literal(table))


_REFUSE_VACUUM = """
DO $$
BEGIN
  IF NOT (SELECT CASE
      WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role(d.datdba, 'USAGE') THEN true
      WHEN pg_catalog.current_setting('server_version_num')::int < 170000 THEN false
      ELSE pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') END
    FROM pg_catalog.pg_class c, pg_catalog.pg_database d
    WHERE c.oid = pg_catalog.to_regclass({name}) AND d.datname = pg_catalog.current_database())
  THEN RAISE insufficient_privilege;
  END IF;
END $$
"""
