"""What takes too long for every run of the tests: `python3 run.py test -n0 tests/packaging/complete.py`.

`.ci/run` does, and whoever makes a release.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.documents.pieces import blocks_of
from tests.packaging.conftest import ROOT, Built, call, run, write_versions
from tests.packaging.image import read_stages
from tests.packaging.proxied import NAME, nginx, serving
from tests.packaging.test_image import serve_as_the_image_does

EMBEDDING = """\
from workflows_mcp import (
    CheckpointState,
    CheckpointStore,
    InMemoryCheckpointStore,
    SQLAlchemyCheckpointStore,
    WorkflowExecutor,
    WorkflowResult,
    __version__,
    block_type,
    create_checkpoint_store,
    upgrade_schema,
)
from workflows_mcp.engine.checkpoint import CheckpointConfig, CheckpointMetadata
from workflows_mcp.settings import Settings


@block_type
async def double(number: int) -> int:
    return 2 * number


async def newest(store: CheckpointStore, name: str) -> CheckpointState | None:
    found: list[CheckpointMetadata] = await store.list_checkpoints(name, limit=1)
    return await store.load_checkpoint(found[0].checkpoint_id) if found else None


async def main(url: str) -> str:
    await upgrade_schema(url)
    store: CheckpointStore = InMemoryCheckpointStore() if url == "memory://" else create_checkpoint_store(url)
    async with store, SQLAlchemyCheckpointStore(url, settings=Settings(pool_size=2)) as other:
        executor = WorkflowExecutor(store, CheckpointConfig(max_per_workflow=None))
        result: WorkflowResult = await executor.execute_workflow("name", {"a": 1})
        state = await newest(other, "name")
        return f"{__version__} {result.status} {None if state is None else state.context}"
"""
"""What somebody embeds, in types."""


def test_pip_alone_installs_it(uv: str, built: Built, tmp_path: Path) -> None:
    """Into an empty environment, with all that it needs, from an index."""
    run(uv, "venv", "--quiet", "--seed", tmp_path / "venv", cwd=tmp_path)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--constraint", write_versions(tmp_path), built.wheel, cwd=tmp_path)
    assert "No broken requirements" in run(*pip, "check", cwd=tmp_path)
    printed = run(tmp_path / "venv" / "bin" / "workflows-mcp", "run", "--help", cwd=tmp_path)
    assert printed.startswith("Usage: workflows-mcp run ")


def test_an_agents_user_installs_it_as_the_document_says(uv: str, built: Built, tmp_path: Path) -> None:
    """From what a checkout holds, into places of its own; what is printed at the end is a program."""
    [install] = [one.code for one in blocks_of(ROOT / "docs" / "mcp.md") if "uv tool install" in one.code]
    clone, *commands = install.splitlines()
    assert clone.startswith("git clone ")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / built.sdist.name.removesuffix(".tar.gz")
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    path = os.pathsep.join((str(Path(uv).parent), os.environ["PATH"]))
    printed = run("bash", "-ec", "\n".join(commands), cwd=folder, PATH=path, **places).splitlines()
    assert printed[-1] == str(tmp_path / "bin" / "workflows-mcp")
    assert "ask-human" in run(printed[-1], "workflows", "list", cwd=tmp_path)


def check_types(installed: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What mypy says of the program in a folder, with the environment of the wheel for all that it imports."""
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python"]
    return call(*mypy, "--cache-dir", installed.parent / "mypy", folder / "embedding.py", cwd=folder)


def test_a_program_that_embeds_it_is_checked_by_its_types(installed: Path, tmp_path: Path) -> None:
    """By `mypy --strict`, against the wheel: it says that it is typed, and names what it has."""
    (tmp_path / "embedding.py").write_text(EMBEDDING)
    done = check_types(installed, tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "embedding.py").write_text(EMBEDDING.replace("limit=1", 'limit="one"'))
    assert 'argument "limit"' in check_types(installed, tmp_path).stdout.lower()


def test_the_examples_are_checked_by_its_types(installed: Path, tmp_path: Path) -> None:
    """As a reader copies them."""
    for example in sorted((ROOT / "examples").glob("*.py")):
        (tmp_path / "embedding.py").write_text(example.read_text())
        done = check_types(installed, tmp_path)
        assert done.returncode == 0, done.stdout


def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """With the workflow that comes along, over a folder that is no checkout."""
    (tmp_path / "README.md").write_text("A folder.")
    printed = run(installed / "workflows-mcp", "demo", "--path", tmp_path, "--response", "no", cwd=tmp_path)
    assert "ran again" in printed


def build_steps(uv: str, folder: Path) -> Iterator[list[str]]:
    """The commands of the image's first stage, with places of ours; before each, what was copied by then is there."""
    places = {"/app": folder / "app", "/src": folder / "src"}
    (folder / "src").mkdir()
    for instruction in read_stages(ROOT / "Dockerfile")[0]:
        if instruction.name == "COPY":
            for source in instruction.words[:-1]:
                place = folder / "src" / source
                place.parent.mkdir(exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, place)
        elif instruction.name == "RUN" and instruction.words[0] == "uv":
            yield [uv, *(str(places.get(word, word)) for word in instruction.words[1:])]


@pytest.mark.timeout(600)
def test_the_image_is_built_by_its_own_steps(uv: str, tmp_path: Path) -> None:
    """Of nothing but what it copies: what comes of it has all that it asks for, is compiled, and serves."""
    for step in build_steps(uv, tmp_path):
        run(*step, cwd=tmp_path / "src")
    python, program = (tmp_path / "app" / "bin" / name for name in ("python", "workflows-mcp"))
    run(python, "-c", "import cryptography, prometheus_client, workflows_mcp._migrations", cwd=tmp_path)
    listed = run(program, "workflows", "list", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert "ask-human" in listed
    [package] = (tmp_path / "app").glob("lib/*/site-packages")
    sources = [
        path for path in package.rglob("*.py") if "workflows_mcp" in path.parts and "templates" not in path.parts
    ]
    assert [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))] == []
    serve_as_the_image_does(python.parent, tmp_path)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_calls_pass_the_proxy_of_the_documents_to_whichever_server_is_there(mode: str, tmp_path: Path) -> None:
    """Over TLS, with the protocol of today and the one before; a server that is gone is noticed by nobody."""
    with (
        serving(tmp_path) as first,
        serving(tmp_path, first.token) as second,
        nginx(tmp_path, first, second) as (port, trust),
    ):
        headers = {"Authorization": f"Bearer {first.token}", "Host": NAME}

        async def ask() -> Any:
            async with httpx2.AsyncClient(headers=headers, verify=trust, timeout=30) as http:
                transport = streamable_http_client(f"https://localhost:{port}/mcp", http_client=http)
                async with Client(transport, mode=mode) as client:
                    return await client.call_tool(
                        "execute_workflow", {"workflow": "ask-human", "inputs": {"question": "Sure?"}}
                    )

        for server in (None, first, second):
            if server is not None:
                server.process.kill()
                server.process.wait()
            if server is not second:
                assert (await ask()).structured_content["prompt"] == "Sure?"
        async with httpx2.AsyncClient(headers=headers, verify=trust) as http:
            assert (await http.get(f"https://localhost:{port}/healthz")).status_code == 404  # for those inside
            assert (await http.post(f"https://localhost:{port}/mcp", json={})).status_code == 502


async def test_people_log_in_to_the_pages_through_the_proxy_of_the_documents(tmp_path: Path) -> None:
    """Over TLS, at whichever server is there: a session that one has begun is one for the other."""
    with (
        serving(tmp_path) as first,
        serving(tmp_path, first.token) as second,
        nginx(tmp_path, first, second) as (port, trust),
    ):
        host, at = f"{NAME}:{port}", f"https://localhost:{port}"
        async with httpx2.AsyncClient(headers={"Host": host}, verify=trust) as http:
            asked = await http.get(f"{at}/ui")
            assert (asked.status_code, asked.headers["location"]) == (303, "/ui/login?to=%2Fui")
            form = (await http.get(f"{at}/ui/login")).text
            [form_token] = re.findall(r'name="form_token" value="(\w+)"', form)
            sent = {"form_token": form_token, "token": first.token}
            for origin, status in (("https://evil.example", 403), (f"https://{host}", 303)):
                answer = await http.post(f"{at}/ui/login", data=sent, headers={"Origin": origin})
                assert answer.status_code == status
            cookie = answer.headers["set-cookie"]
            assert all(part in cookie for part in ("Secure", "HttpOnly", "SameSite=strict"))
            session = {"Cookie": cookie.partition(";")[0]}
            for server in (first, second):
                assert "There are no runs yet" in (await http.get(f"{at}/ui", headers=session)).text
                server.process.kill()
                server.process.wait()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: a PostgreSQL that root starts runs as somebody else."""
    folder = Path(tempfile.mkdtemp(prefix="sdist-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(600)
def test_the_tests_of_the_sdist_can_be_started(uv: str, built: Built, open_folder: Path) -> None:
    """With the command of its own CONTRIBUTING.md, in an environment of its own: some are run, all are found."""
    with tarfile.open(built.sdist) as archive:
        archive.extractall(open_folder, filter="data")
    folder = open_folder / built.sdist.name.removesuffix(".tar.gz")
    some = ["tests/test_guide.py", "tests/test_public_api.py", "tests/test_documents.py", "tests/architecture"]
    # Where uv is not on PATH, it is installed by a Python that has pip, which an environment's own need not have.
    path = os.pathsep.join((str(Path(uv).parent), os.environ["PATH"]))
    assert " passed" in run(sys.executable, "run.py", "test", "-q", "-n0", *some, cwd=folder, PATH=path)
    assert " tests collected" in run(
        sys.executable, "run.py", "test", "-q", "-n0", "--collect-only", cwd=folder, PATH=path
    )
