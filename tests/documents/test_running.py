"""What runs the documents' code is like the shell and the command that a reader has."""

import dataclasses
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.documents.pieces import Block
from tests.documents.running import Reader, names_of_databases


@pytest.fixture
def reader(tmp_path: Path, quick_commands: Path) -> Reader:
    """Somebody who does what a document says, in an empty folder."""
    return Reader(tmp_path, quick_commands)


def test_a_command_has_the_streams_the_exit_code_and_the_environment_of_its_shell(reader: Reader) -> None:
    """Pipes on both sides, several at once, a setting that was exported, a folder that was entered."""
    code = """
    mkdir deep && cd deep
    export WORKFLOWS_DATABASE_URL=here.db
    workflows-mcp db upgrade
    test -f here.db
    workflows-mcp nothing 2> error.txt || test $? = 2
    grep "^error: " error.txt
    workflows-mcp db check --json | grep -c revision
    workflows-mcp db current & workflows-mcp db current & wait
    """
    printed = reader.run(Block("bash", code, "run"))
    assert printed.count("0003") >= 2


def test_a_command_in_the_background_can_be_stopped(reader: Reader) -> None:
    """At any moment: by the process id that the shell has for it."""
    code = """
    workflows-mcp db upgrade --database-url a.db
    workflows-mcp recover --watch --database-url a.db & watching=$!
    kill $watching && wait $watching || test $? = 143
    workflows-mcp recover --watch --database-url a.db 2> watched.txt & watching=$!
    until grep -q . watched.txt; do sleep 0.05; done
    kill $watching && wait $watching
    """
    reader.run(Block("bash", code, "run"))


def test_code_that_fails_fails(reader: Reader) -> None:
    """In both languages, with what it said."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        reader.run(Block("python", "1 / 0"))
    with pytest.raises(AssertionError, match="no SQLite database"):
        reader.run(Block("bash", "workflows-mcp db check --database-url absent.db\ntrue", "run"))


def test_sql_is_run_and_taken_back(reader: Reader, postgres_url: str) -> None:
    """In the database of that name, with a role that is not there; an error in it is one."""
    name = urlsplit(postgres_url).path.strip("/")
    prefix, shown = name[:5], name[5:]
    whole = dataclasses.replace(reader, server=postgres_url, prefix=prefix, databases=frozenset({shown}))
    code = f"ALTER ROLE nobody_yet IN DATABASE {shown} SET search_path = x;\nCREATE TABLE passing (x int);\n"
    for _ in range(2):
        whole.run(Block("sql", code, "run: postgresql"))
    with pytest.raises(AssertionError, match="passing"):
        whole.run(Block("sql", "DROP TABLE passing;\nSELECT 1;", "run: postgresql"))


def test_databases_are_given_names_of_their_own(tmp_path: Path) -> None:
    """In URLs, and where one is created; what is there anyway is left as it is."""
    code = 'createdb -h host new\npsql "postgresql://user@host/old?sslmode=require" postgres://me:pw@host:5432/new\n'
    block = Block("bash", code, "run: postgresql")
    assert names_of_databases([block, Block("bash", "echo postgresql://user@host/other", "run")]) == {"old"}
    reader = Reader(tmp_path, tmp_path, "postgresql://postgres:@/postgres?host=/run", "mine_")
    assert reader._with_real_databases(code) == (
        "createdb -h host mine_new\n"
        'psql "postgresql://postgres:@/mine_old?host=/run&sslmode=require" postgresql://postgres:@/mine_new?host=/run\n'
    )
    assert reader.url_of("postgres") == reader.server
