"""nginx with the configuration of the documents, before servers of ours."""

import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.packaging.conftest import ROOT
from tests.packaging.test_image import free_port

__all__ = ["Server", "nginx", "serving"]

NAME = "mcp.example.org"

_WHOLE = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Server:
    """A server over HTTP that runs.

    Attributes:
        port: Where it listens.
        token: What it wants to see.
        process: It.
    """

    port: int
    token: str
    process: subprocess.Popen[str]


@contextmanager
def serving(folder: Path, token: str = "") -> Iterator[Server]:
    """A server of this environment, with a database in a folder, that answers to the proxy's name."""
    port, token = free_port(), token or secrets.token_urlsafe(32)
    environment = {
        "PATH": os.environ["PATH"],
        "WORKFLOWS_DATABASE_URL": str(folder / "runs.db"),
        "WORKFLOWS_HTTP_TOKEN": token,
        "WORKFLOWS_HTTP_ALLOWED_HOSTS": NAME,
    }
    command = [sys.executable, "-m", "workflows_mcp", "serve", "--http", "--port", str(port)]
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert str(port) in process.stderr.readline()
            yield Server(port, token, process)
        finally:
            process.kill()


@contextmanager
def nginx(folder: Path, *servers: Server) -> Iterator[tuple[int, ssl.SSLContext]]:
    """Run nginx before two servers; gives its port, and what makes a client trust it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is missing; Debian, Ubuntu: apt install nginx-light"
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert(NAME, "localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "site.pem")
    certificate.private_key_pem.write_to_path(folder / "site.key")
    site = (ROOT / "docs" / "deployment" / "nginx.conf").read_text()
    for shown, real in {
        "/etc/ssl/mcp.example.org.pem": str(folder / "site.pem"),
        "/etc/ssl/private/mcp.example.org.key": str(folder / "site.key"),
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        **{f"127.0.0.1:{8001 + number}": f"127.0.0.1:{one.port}" for number, one in enumerate(servers)},
    }.items():
        assert shown in site
        site = site.replace(shown, real)
    assert not re.search(r":800\d", site)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(_WHOLE.format(folder=folder))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            while not _is_open(port):
                assert process.poll() is None
                time.sleep(0.02)
            yield port, context
        finally:
            process.terminate()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
