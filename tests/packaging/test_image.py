"""What runs the server elsewhere (Dockerfile, Compose, systemd, Kubernetes) fits the server, and itself."""

import configparser
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from tests.packaging.conftest import ROOT
from tests.packaging.image import Instruction, copied, read_stages
from workflows_mcp.cli.app import build_app
from workflows_mcp.settings import Settings

BUILD, FINAL = read_stages(ROOT / "Dockerfile")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DEPLOYMENT = ROOT / "docs" / "deployment"
KUBERNETES = list(yaml.safe_load_all((DEPLOYMENT / "kubernetes.yaml").read_text()))

PORT = Settings.model_fields["http_port"].default
LONGEST_END = (
    Settings.model_fields["http_grace_seconds"].default + Settings.model_fields["deadline_seconds"].default + 2
)
"""Seconds: blocks go on for the grace; then runs are saved, each call within the deadline; then answers are sent."""


def one(stage: list[Instruction], name: str) -> Instruction:
    """The only instruction of a kind."""
    [found] = [instruction for instruction in stage if instruction.name == name]
    return found


def variables(stage: list[Instruction]) -> dict[str, str]:
    """The environment that an image sets."""
    words = [word for instruction in stage if instruction.name == "ENV" for word in instruction.words]
    return dict(word.split("=", 1) for word in words)


def is_command(words: list[str]) -> bool:
    """Whether the program takes these words."""
    program, *rest = words
    try:
        build_app().parse_args(rest, print_error=False, exit_on_error=False)
    except CycloptsError:
        return False
    return program == "workflows-mcp"


def settings() -> set[str]:
    """The names of all variables that are settings."""
    return {f"WORKFLOWS_{name.upper()}" for name in Settings.model_fields}


def test_the_image_starts_a_command_that_there_is() -> None:
    """The server, and what a one-shot container is told in its place."""
    program = one(FINAL, "ENTRYPOINT").words
    [job] = KUBERNETES[0]["spec"]["template"]["spec"]["containers"]
    for words in (one(FINAL, "CMD").words, COMPOSE["upgrade"]["command"], job["args"]):
        assert is_command([*program, *words]), words
    assert not is_command([*program, "serve", "--htp"])


def test_what_the_image_copies_is_there_and_is_all_that_is_sent_to_the_builder() -> None:
    """No history, no .env file, no database: .dockerignore begins with everything."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied(BUILD))
    assert [source for source in copied(BUILD) if not (ROOT / source).exists()] == []
    assert copied(FINAL) == []


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
    """Else it is killed in the middle of a wave that it might have finished, or of its last save."""
    unit = unit_of(DEPLOYMENT / "workflows-mcp.service")
    assert seconds(COMPOSE["server-1"]["stop_grace_period"]) > LONGEST_END
    assert seconds(unit["Service"]["TimeoutStopSec"]) > LONGEST_END
    pod = KUBERNETES[1]["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + LONGEST_END
    for path in (ROOT / "Dockerfile", ROOT / "docs" / "deployment.md"):
        [told] = re.findall(r"--stop-timeout (\d+)", path.read_text())
        assert int(told) > LONGEST_END, path


def test_all_pods_are_as_shut_off_as_they_can_be() -> None:
    """The one that changes the schema, too; and somebody ends what commands leave behind."""
    pods = [one["spec"]["template"]["spec"] for one in KUBERNETES[:2]]
    for pod in pods:
        [container] = pod["containers"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert pods[1]["shareProcessNamespace"] is True
    assert COMPOSE["server-1"]["init"] is True


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


def services_of_the_profile() -> set[str]:
    """What Compose would start, by its own reading of the file, which needs no daemon; by ours, where it is missing."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]):
            config = [*words, "--file", "docker-compose.yml", "--profile", "servers", "config"]
            done = subprocess.run(config, cwd=ROOT, capture_output=True, text=True, check=False)
            if "unknown" not in done.stderr:  # that is docker without its plugin
                assert done.returncode == 0, done.stderr
                return set(yaml.safe_load(done.stdout)["services"])
    return set(COMPOSE)


def test_compose_takes_the_file() -> None:
    """With the profile."""
    assert services_of_the_profile() == {"postgres", "upgrade", "server-1", "server-2"}


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
    assert is_command(unit["ExecStart"].rpartition("/")[2].split())
    named = re.findall(r"WORKFLOWS_\w+", (DEPLOYMENT / "workflows-mcp.service").read_text())
    assert set(named) <= settings()


def is_healthy(python: Path, environment: dict[str, str]) -> bool:
    """What the image's health check says, with this Python in the place of its own."""
    _, _, command = one(FINAL, "HEALTHCHECK").text.partition(" CMD ")
    program, *words = Instruction("CMD", command).words
    assert program == "python"
    return subprocess.run([python, *words], env=environment, capture_output=True, check=False).returncode == 0


def serve_as_the_image_does(programs: Path, folder: Path) -> None:
    """Begin, be healthy, and end, as in a container: the programs and the folders of the image are elsewhere."""
    [program] = one(FINAL, "ENTRYPOINT").words
    command = [str(programs / program), *one(FINAL, "CMD").words]
    environment = {"PATH": "/usr/bin:/bin"}
    for name, value in variables(FINAL).items():
        for shown, place in {"/data": folder, "/workflows": folder, "/app/bin": programs}.items():
            value = value.replace(shown, str(place))  # noqa: PLW2901 - one after the other
        environment[name] = value.replace("$PATH", environment["PATH"])
    anywhere = {**environment, "WORKFLOWS_HTTP_PORT": "0"}
    refused = subprocess.run(command, env=anywhere, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "WORKFLOWS_HTTP_TOKEN" in refused.stderr

    environment |= {"WORKFLOWS_HTTP_TOKEN": secrets.token_urlsafe(32), "WORKFLOWS_HTTP_PORT": str(free_port())}
    assert not is_healthy(programs / "python", environment)
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert environment["WORKFLOWS_HTTP_PORT"] in server.stderr.readline()
            assert is_healthy(programs / "python", environment)
            server.terminate()
            assert server.wait(timeout=20) == 0
        finally:
            server.kill()
    assert not is_healthy(programs / "python", environment)


def test_the_images_command_serves_with_the_images_environment(tmp_path: Path) -> None:
    """As its health check sees it, up to the signal that ends a container; without a token it does not begin."""
    serve_as_the_image_does(Path(sys.executable).parent, tmp_path)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "path", [ROOT / "docker-compose.yml", *sorted(DEPLOYMENT.iterdir())], ids=lambda path: path.name
)
def test_every_setting_that_is_named_there_is_one(path: Path) -> None:
    """In comments, too."""
    assert set(re.findall(r"\bWORKFLOWS_[A-Z_]+\b", path.read_text())) <= settings()
