"""The scratch folder of a run."""

import hashlib
import logging
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workflows_mcp.engine.scratch import remove_scratch_folder, scratch_folder
from workflows_mcp.errors import ScratchFolderError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def parent(temporary: Path) -> Path:
    """Where the scratch folders of this user stand; not made yet."""
    return temporary / f"workflows-mcp-{os.getuid()}"


def mode_of(path: Path) -> int:
    """A folder's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_made_for_this_user_alone(parent: Path, umask: int) -> None:
    """Whatever the process gives to others by default, and whatever the run is called."""
    before = os.umask(umask)
    try:
        for run_id in ("r", "../../etc", "a\0b", "ü" * 200):
            folder = scratch_folder(run_id)
            assert folder == parent / hashlib.sha256(run_id.encode()).hexdigest()[:32]
            assert (mode_of(folder), mode_of(parent)) == (0o700, 0o700)
    finally:
        os.umask(before)


def test_every_process_finds_the_same_with_what_is_in_it(temporary: Path) -> None:
    """So do a resume and a recovery."""
    (scratch_folder("r") / "file").write_text("kept")
    code = "from workflows_mcp.engine.scratch import scratch_folder; print((scratch_folder('r') / 'file').read_text())"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "kept\n"
    assert scratch_folder("r") != scratch_folder("s")


def refused(message: str) -> None:
    """The folder is refused with this message, and removing it does nothing."""
    with pytest.raises(ScratchFolderError, match=message):
        scratch_folder("r")
    remove_scratch_folder("r")


@pytest.mark.parametrize("which", ["parent", "own"])
def test_a_folder_that_others_may_have_made_is_refused(
    parent: Path, tmp_path_factory: pytest.TempPathFactory, which: str
) -> None:
    """Be it a link, a file, somebody else's, or open to a group or to all."""
    folder = scratch_folder("r")
    (folder / "file").touch()
    checked = parent if which == "parent" else folder
    for mode in (0o770, 0o702, 0o1777):
        checked.chmod(mode)
        refused("may be written into by others")
    checked.chmod(0o700)
    assert (scratch_folder("r") / "file").exists()
    target = tmp_path_factory.mktemp("target") / "moved"
    checked.rename(target)
    checked.symlink_to(target)
    refused("is a link")
    assert list(target.rglob("file"))
    checked.unlink()
    checked.touch()
    refused("is no folder")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("which", ["parent", "own"])
def test_a_folder_of_somebody_else_is_refused(parent: Path, which: str) -> None:
    """They could exchange what is in it."""
    folder = scratch_folder("r")
    checked = parent if which == "parent" else folder
    os.chown(checked, 12345, -1)
    refused("belongs to somebody else")
    assert folder.exists()


def test_a_folder_that_cannot_be_made_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(ScratchFolderError, match="cannot be made: No such file or directory; set TMPDIR"):
        scratch_folder("r")


def test_removing_leaves_what_links_lead_to(tmp_path_factory: pytest.TempPathFactory, parent: Path) -> None:
    """And the folders of other runs; removing what is not there is fine."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").touch()
    folder = scratch_folder("r")
    other = scratch_folder("other")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "file").touch()
    (folder / "deep" / "link").symlink_to(outside)
    (folder / "link").symlink_to(outside / "precious")
    for _ in range(2):
        remove_scratch_folder("r")
        assert not folder.exists()
    assert (outside / "precious").exists()
    assert list(parent.iterdir()) == [other]


def test_what_cannot_be_removed_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """For debugging only: a run that has ended well must not fail for it."""
    folder = scratch_folder("r")
    (folder / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no")

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, logger="workflows_mcp"):
        patch.setattr(os, "unlink", refuse)  # root may remove whatever there is
        remove_scratch_folder("r")
    assert "could not be removed" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
