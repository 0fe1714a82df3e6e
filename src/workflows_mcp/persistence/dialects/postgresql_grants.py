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
        columns: Those that the role which only reads may read.

    Raises:
        StoreConfigurationError: A name cannot be a role's.
    """
    for name in roles.names:
        if problem := name_problem(name):
            raise StoreConfigurationError(f"the role name {name!r} {problem}; name a role of the server")
    place, everybody = identifier(schema or "public"), ", ".join(map(identifier, roles.names))
    lines = _table_lines(roles, schema or "public", table, version_table, columns)
    tables = "\n".join(["BEGIN", *_indented(lines), "END"])
    return "\n".join([
        *_PREFACE,
        "BEGIN;",
        *([f"GRANT CONNECT ON DATABASE {identifier(database)} TO {everybody};"] if database else []),
        *_schema_lines(roles, schema),
        f"GRANT USAGE, CREATE ON SCHEMA {place} TO {identifier(roles.owner)};",
        f"GRANT USAGE ON SCHEMA {place} TO {', '.join(map(identifier, roles.names[1:]))};",
        f"{_do(tables)};",
        *_warning_lines(roles, schema or "public"),
        "COMMIT;",
        "",
    ])  # fmt: skip


_PREFACE = (
    "-- What each role needs, and no more. Run this before the first `db upgrade`, and again after each one: as a",
    "-- superuser, or as the database's owner where that is a member of the role that is to own the tables, and of the",
    "-- role that owns them now. The roles must exist.",
)


def _do(body: str) -> str:
    """A DO statement, between quotes that nothing in it can end: a name may hold anything."""
    tag = "$do$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\n{body}\n{tag}"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _schema_lines(roles: Roles, schema: str | None) -> list[str]:
    if schema is None:
        return [
            "-- In schema public, since no other one was named (WORKFLOWS_DATABASE_SCHEMA). What others may do there",
            "-- stays as it is: on a server that began before PostgreSQL 15, anybody may create tables in it.",
        ]
    names = {"schema": identifier(schema), "named": literal(schema), "owner": identifier(roles.owner)}
    return [
        f"CREATE SCHEMA IF NOT EXISTS {names['schema']} AUTHORIZATION {names['owner']};",
        "-- Who owns a schema may drop all that is in it, and no REVOKE takes that away. One of these roles owns it if",
        "-- its own `db upgrade` has created it.",
        f"{_do(_TAKE_SCHEMA.format(**names, others=', '.join(map(literal, roles.names[1:]))))};",
        f"REVOKE ALL ON SCHEMA {names['schema']} FROM PUBLIC, {', '.join(map(identifier, roles.names[1:]))};",
    ]


_TAKE_SCHEMA = """\
BEGIN
  IF (SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = {named}) IN ({others})
  THEN ALTER SCHEMA {schema} OWNER TO {owner};
  END IF;
END"""


def _table_lines(roles: Roles, schema: str, table: str, version_table: str, columns: Sequence[str]) -> list[str]:
    """Each table for itself, if it is there."""
    checkpoints, revision = qualified(table, schema), qualified(version_table, schema)
    others = ", ".join(map(identifier, roles.names[1:]))
    names = {"name": literal(checkpoints), "revision": literal(revision)}
    is_there = "IF to_regclass({}) IS NOT NULL THEN"
    return [
        is_there.format(literal(revision)),
        *_indented(_owned_lines(roles, revision)),
        f"  GRANT SELECT ON {revision} TO {others};",
        "END IF;",
        is_there.format(literal(checkpoints)),
        *_indented([line.format(**names) for line in _REFUSE_FOREIGN.splitlines()]),  # a name may hold line breaks
        *_indented(_owned_lines(roles, checkpoints)),
        *_indented(_checkpoint_lines(roles, checkpoints, columns)),
        "END IF;",
    ]


# Where the guide was followed there is a table without a revision, which the owner's first upgrade is to adopt. With
# any other columns it is somebody else's. Names are compared as text: an array of them has no literal of its own.
_REFUSE_FOREIGN = """\
IF to_regclass({revision}) IS NULL AND (
    SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass({name}) AND attnum > 0 AND NOT attisdropped
  ) IS DISTINCT FROM 'checkpoint_id workflow_name created_at is_paused checkpoint_data'
THEN
  RAISE EXCEPTION 'the table % is not ours, and was left as it is; name another schema', {name};
END IF;"""


def _owned_lines(roles: Roles, name: str) -> list[str]:
    return [
        f"ALTER TABLE {name} OWNER TO {identifier(roles.owner)};",
        f"REVOKE ALL ON {name} FROM PUBLIC, {', '.join(map(identifier, roles.names[1:]))};",
    ]


def _checkpoint_lines(roles: Roles, checkpoints: str, columns: Sequence[str]) -> list[str]:
    app = identifier(roles.app)
    maintain = f"GRANT MAINTAIN ON {checkpoints} TO {app}"
    lines = [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {checkpoints} TO {app};",
        "-- For vacuum and its statistics; before PostgreSQL 17 these are the owner's, and autovacuum's.",
        "IF current_setting('server_version_num')::int >= 170000 THEN",
        f"  EXECUTE {literal(maintain)};",
        "END IF;",
    ]
    if roles.readonly is not None:
        wanted = ", ".join(map(literal, columns))
        to = literal(f"GRANT SELECT (%s) ON {checkpoints} TO {identifier(roles.readonly)}".replace("%", "%%"))
        lines += [
            "-- Neither payloads nor who holds a lease; prompts if they were asked for (--prompts). An older table has",
            "-- fewer columns.",
            f"EXECUTE (SELECT format({to.replace('(%%s)', '(%s)', 1)}, string_agg(quote_ident(attname), ', '))",
            f"  FROM pg_attribute WHERE attrelid = to_regclass({literal(checkpoints)}) AND attname IN (",
            f"  {wanted}));",
        ]
    return lines


def _warning_lines(roles: Roles, schema: str) -> list[str]:
    """Tell of the rights of owners that no REVOKE can take back."""
    others = ", ".join(map(literal, roles.names[1:]))
    return [
        "-- What is not for this script to change: a superuser may drop the tables, and so may who is, or is a member",
        "-- of, the owner of the tables, of their schema or of the database.",
        f"{_do(_WARN.format(owner=literal(roles.owner), others=others, schema=literal(schema)))};",
    ]


_WARN = """\
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT one.rolname AS role, owner.rolname AS owner
    FROM pg_catalog.pg_roles AS one JOIN pg_catalog.pg_roles AS owner
    ON pg_catalog.pg_has_role(one.oid, owner.oid, 'MEMBER')
    WHERE one.rolname IN ({others}) AND (owner.rolname = {owner}
      OR owner.oid = (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = {schema})
      OR owner.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
  LOOP
    RAISE WARNING 'the role "%" can still drop the tables: it may act as "%", the owner of them, their schema or '
      'the database', found.role, found.owner;
  END LOOP;
END"""


def refusing_vacuum(table: str) -> str:
    """A statement that fails when this user may not vacuum a table: VACUUM itself only warns, and does nothing.

    Args:
        table: As it stands in SQL.
    """
    return _do(_REFUSE_VACUUM.format(name=literal(table)))


_REFUSE_VACUUM = """\
BEGIN
  IF NOT (SELECT CASE
      WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role(d.datdba, 'USAGE') THEN true
      WHEN pg_catalog.current_setting('server_version_num')::int < 170000 THEN false
      ELSE pg_catalog.has_table_privilege(c.oid, 'MAINTAIN') END
    FROM pg_catalog.pg_class c, pg_catalog.pg_database d
    WHERE c.oid = pg_catalog.to_regclass({name}) AND d.datname = pg_catalog.current_database())
  THEN RAISE insufficient_privilege;
  END IF;
END"""
