"""What is uploaded for a release holds all that it must, and nothing else."""

import email
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from tests.packaging.conftest import ROOT, Built, run

NOT_IN_THE_SDIST = {".ci/run", ".pre-commit-config.yaml"}
"""For who works on a checkout."""


def files_of_the_project() -> set[str]:
    """All that git keeps, or would keep."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def contents(wheel: Path) -> dict[str, int]:
    """The checksum of each file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist()}


def test_they_are_built_without_a_warning(built: Built) -> None:
    """By a build that tells of every one."""
    assert "Successfully built" in built.log
    assert "warn" not in built.log.lower()
    assert "deprecat" not in built.log.lower()


def test_the_sdist_holds_the_project_and_nothing_else(built: Built) -> None:
    """No environment, no cache, no lock file, no history; modes that everybody can read."""
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    top = built.sdist.name.removesuffix(".tar.gz")
    assert {one.name.removeprefix(f"{top}/") for one in members} - {"PKG-INFO"} == (
        files_of_the_project() - NOT_IN_THE_SDIST
    )
    assert all(one.isfile() and one.mode & 0o444 == 0o444 for one in members)


def test_the_wheel_holds_the_package_its_migrations_and_its_example(built: Built) -> None:
    """No test, no document, and besides only what describes it."""
    about = f"{'-'.join(built.wheel.name.split('-')[:2])}.dist-info"
    described = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    files = {name for name in files_of_the_project() if name.startswith(("src/", "migrations/"))}
    package = {name.replace("src/", "").replace("migrations/", "workflows_mcp/_migrations/") for name in files}
    assert set(contents(built.wheel)) == described | package | {"workflows_mcp/_examples/release-check.yaml"}
    assert "workflows_mcp/py.typed" in package
    assert "workflows_mcp/_migrations/versions/0001_the_guides_table.py" in package


def test_the_wheel_is_the_same_from_the_checkout_and_from_the_sdist(uv: str, built: Built, tmp_path: Path) -> None:
    """File by file."""
    run(uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT, cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(built.wheel)


def metadata(built: Built) -> Metadata:
    """What an index would read; it is checked by the rules of the standard."""
    with zipfile.ZipFile(built.wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name), validate=True)


def test_the_metadata_is_valid_and_says_what_a_user_looks_for(built: Built) -> None:
    """The rules are those of the packaging library, which pip and indexes use."""
    found = metadata(built)
    assert found.description == (ROOT / "README.md").read_text()
    assert found.description_content_type == "text/markdown"
    assert (found.license_expression, found.license_files) == ("MIT", ["LICENSE"])
    assert {"Changelog", "Documentation", "Issues", "Source"} <= set(found.project_urls or {})
    needed = {one.name for one in found.requires_dist or [] if "extra" not in str(one.marker)}
    assert {"sqlalchemy", "aiosqlite", "asyncpg", "alembic"} <= needed


def test_wrong_metadata_is_noticed() -> None:
    """The test above can fail."""
    message = email.message_from_string("Metadata-Version: 2.4\nName: a\nVersion: one\nLicense-Expression: Mine\n")
    with pytest.raises(ExceptionGroup):
        Metadata.from_email(message.as_bytes(), validate=True)
