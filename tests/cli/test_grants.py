"""`db grants`; that the SQL does what it is for is tested on a real server, in `tests/persistence`."""

from tests.cli.conftest import CLI


def test_the_command_prints_it_and_asks_no_server(cli: CLI) -> None:
    """For psql, or as JSON; names that cannot be roles, and databases without any, are errors."""
    url = "postgresql://nobody@nowhere.invalid/flows?schema=ours"
    words = ("db", "grants", "--owner", "o", "--app", "a", "--readonly", "r", "--database-url")
    shown = cli(*words, url)
    assert shown.code == 0, shown.err
    assert 'GRANT CONNECT ON DATABASE "flows" TO "o", "a", "r";' in shown.out
    assert 'CREATE SCHEMA IF NOT EXISTS "ours" AUTHORIZATION "o";' in shown.out
    assert cli(*words, url, "--json").json()["sql"] == shown.out
    assert "pause_prompt" not in shown.out
    assert "'pause_prompt'" in cli(*words, url, "--prompts").out
    assert "name one" in cli("db", "grants", "--owner", "o", "--app", "a", "--prompts", "--database-url", url).error()
    assert "named twice" in cli("db", "grants", "--owner", "a", "--app", "a", "--database-url", url).error()
    assert "PostgreSQL's own" in cli("db", "grants", "--owner", "pg_o", "--app", "a", "--database-url", url).error()
    assert "has no roles" in cli(*words, "flows.db").error()
