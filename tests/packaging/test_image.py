"""What runs the server elsewhere (Dockerfile, Compose, systemd, Kubernetes) fits the server, and itself."""

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents.words import problems_in
from tests.packaging.conftest import ROOT
from tests.packaging.image import Instruction, copied, read_stages
from workflows_mcp.settings import Settings

BUILD, FINAL = read_stages(ROOT / "Dockerfile")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DEPLOYMENT = ROOT / "docs" / "deployment"
KUBERNETES = list(yaml.safe_load_all((DEPLOYMENT / "kubernetes.yaml").read_text()))

PORT = Settings.model_fields["http_port"].default
GRACE = Settings.model_fields["http_grace_seconds"].default


def one(stage: list[Instruction], name: str) -> Instruction:
    """The only instruction of a kind."""
    [found] = [instruction for instruction in stage if instruction.name == name]
    return found


def variables(stage: list[Instruction]) -> dict[str, str]:
    """The environment that an image sets."""
    words = [word for instruction in stage if instruction.name == "ENV" for word in instruction.words]
    return dict(word.split("=", 1) for word in words)


def settings() -> set[str]:
    """The names of all variables that are settings."""
    return {f"WORKFLOWS_{name.upper()}" for name in Settings.model_fields}


def test_the_image_starts_a_command_that_there_is() -> None:
    """The server, and what a one-shot container is told in its place."""
    [program] = one(FINAL, "ENTRYPOINT").words
    assert problems_in(" ".join([program, *one(FINAL, "CMD").words])) == []
    assert problems_in(" ".join([program, *COMPOSE["upgrade"]["command"]])) == []
    [job] = KUBERNETES[0]["spec"]["template"]["spec"]["containers"]
    assert problems_in(" ".join([program, *job["args"]])) == []


def test_what_the_image_copies_is_there_and_is_all_that_is_sent_to_the_builder() -> None:
    """No history, no .env file, no database: .dockerignore begins with everything."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied(BUILD))
    assert [source for source in copied(BUILD) if not (ROOT / source).exists()] == []
    assert copied(FINAL) == []


def test_the_extras_of_the_image_are_extras() -> None:
    """Those that a server needs: keys, and metrics."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = set(re.findall(r"--extra (\w+)", " ".join(instruction.text for instruction in BUILD)))
    assert asked == {"encryption", "metrics"} <= set(project["optional-dependencies"])


def test_both_stages_have_one_python_which_is_one_of_ours() -> None:
    """An environment is of no use to another Python; the folder of the standard library names it again."""
    assert [stage[0].text.removesuffix(" AS build") for stage in (BUILD, FINAL)] == ["${PYTHON}", "${PYTHON}"]
    [version] = re.findall(r"ARG PYTHON=python:(\d+\.\d+)-slim-\w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {version}" in classifiers
    assert f"/usr/local/lib/python{version} " in one(FINAL, "RUN").text


def test_the_image_is_not_root_and_has_a_place_to_write() -> None:
    """By number, so that Kubernetes can tell; the one folder that is written to is a volume."""
    user = one(FINAL, "USER").text
    assert re.fullmatch(r"([1-9]\d+):\1", user)
    assert f"--uid {user.split(':')[0]} " in one(FINAL, "RUN").text
    environment = variables(FINAL)
    assert {name for name in environment if name.startswith("WORKFLOWS_")} <= settings()
    assert Path(environment["WORKFLOWS_DATABASE_URL"]).parent == Path(one(FINAL, "VOLUME").text)
    assert environment["HOME"] == one(FINAL, "VOLUME").text
    assert f"mkdir {environment['WORKFLOWS_TEMPLATE_PATHS']}" in one(FINAL, "RUN").text


def test_the_port_is_the_servers_everywhere() -> None:
    """In the image, its health check, Compose, the proxies, Kubernetes."""
    assert one(FINAL, "EXPOSE").text == str(PORT)
    assert f" {PORT})" in one(FINAL, "HEALTHCHECK").text
    published = [COMPOSE[name]["ports"] for name in ("server-1", "server-2")]
    assert published == [[f"127.0.0.1:{port}:{PORT}"] for port in (8001, 8002)]
    for name in ("nginx.conf", "Caddyfile"):
        assert re.findall(r"127\.0\.0\.1:(\d+)", (DEPLOYMENT / name).read_text()) == ["8001", "8002"]
    [server] = KUBERNETES[1]["spec"]["template"]["spec"]["containers"]
    assert server["ports"] == [{"name": "http", "containerPort": PORT}]


def seconds(text: str) -> float:
    """What `30s` means."""
    return float(text.removesuffix("s"))


def test_whoever_stops_a_server_waits_longer_than_it_takes_to_stop() -> None:
    """Else it is killed in the middle of a wave that it might have finished."""
    unit = unit_of(DEPLOYMENT / "workflows-mcp.service")
    assert seconds(COMPOSE["server-1"]["stop_grace_period"]) > GRACE
    assert seconds(unit["Service"]["TimeoutStopSec"]) > GRACE
    assert KUBERNETES[1]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > GRACE


def test_compose_has_servers_that_wait_for_the_schema_which_waits_for_the_database() -> None:
    """In a profile of their own: without it, PostgreSQL is started alone, and nobody is asked for a token."""
    assert [name for name, service in COMPOSE.items() if "profiles" not in service] == ["postgres"]
    assert COMPOSE["upgrade"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("server-1", "server-2"):
        service = COMPOSE[name]
        assert service["profiles"] == COMPOSE["upgrade"]["profiles"] == ["servers"]
        assert service["depends_on"] == {"upgrade": {"condition": "service_completed_successfully"}}
        assert "/readyz" in service["healthcheck"]["test"][-1]
        assert service["read_only"] is True
        assert {key for key in service["environment"] if key.startswith("WORKFLOWS_")} <= settings()
    assert ":?" not in (ROOT / "docker-compose.yml").read_text().replace("`:?`", "")


def compose_command() -> list[str] | None:
    """Docker Compose, where there is one; it needs no daemon to check a file."""
    docker = [["docker", "compose"], ["docker-compose"]]
    for words in docker:
        if (
            shutil.which(words[0])
            and subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0
        ):
            return words
    return None


def configured(profile: str | None = None) -> dict[str, Any]:
    """The services that Compose would start, as it reads the file; as we read it, where there is no Compose."""
    command = compose_command()
    if command is None:
        return {name: one for name, one in COMPOSE.items() if one.get("profiles", [profile]) == [profile]}
    words = [*command, *(["--profile", profile] if profile else []), "config"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    chosen = [*command, *(["--profile", profile] if profile else []), "config", "--services"]
    names = subprocess.run(chosen, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return {name: service for name, service in services.items() if name in names}


def test_compose_takes_the_file() -> None:
    """With the profile, and without."""
    assert set(configured("servers")) == {"postgres", "upgrade", "server-1", "server-2"}
    assert "postgres" in configured()


def unit_of(path: Path) -> dict[str, dict[str, str]]:
    """A unit of systemd; where a key stands several times, the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys have capitals
    parser.read_string(path.read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


def test_the_unit_stops_the_server_before_its_commands() -> None:
    """A command that gets SIGTERM together with the server fails, and so would its run."""
    unit = unit_of(DEPLOYMENT / "workflows-mcp.service")["Service"]
    assert unit["KillMode"] == "mixed"
    assert problems_in(unit["ExecStart"].rpartition("/")[2]) == []
    named = re.findall(r"WORKFLOWS_\w+", (DEPLOYMENT / "workflows-mcp.service").read_text())
    assert set(named) <= settings()


@pytest.mark.parametrize("path", sorted(DEPLOYMENT.iterdir()), ids=lambda path: path.name)
def test_every_setting_that_is_named_there_is_one(path: Path) -> None:
    """In comments, too."""
    assert set(re.findall(r"\bWORKFLOWS_[A-Z_]+\b", path.read_text())) <= settings()
