"""Workflows in folders."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workflows_mcp.engine import library as library_module
from workflows_mcp.engine.library import WorkflowLibrary
from workflows_mcp.errors import StoreConfigurationError, WorkflowNotFoundError
from workflows_mcp.settings import Settings, load_settings


def write(path: Path, name: str, description: str = "") -> Path:
    """Write a workflow's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: {name}\ndescription: '{description}'\nblocks: [{{id: a, type: Shell}}]\n")
    return path


def described(library: WorkflowLibrary, name: str) -> str | None:
    """The description of a workflow."""
    found = library.find(name)
    return None if found is None else found.description


def test_workflows_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    """Whatever their files are called; what is hidden or no YAML is left out."""
    one = write(tmp_path / "x.yaml", "one")
    two = write(tmp_path / "a" / "b" / "y.yml", "two")
    for other in (".hidden.yaml", ".git/z.yaml", "a/.x/z.yaml", "z.txt", "z.yaml.bak", "z.YAML"):
        write(tmp_path / other, "other")
    library = WorkflowLibrary([tmp_path])
    assert library.names() == ["one", "two"]
    assert (library.source_of("one"), library.source_of("two")) == (one, two)
    found = library.find("two")
    assert found is not None
    assert found.name == "two"
    assert library.find("other") is None
    assert library.broken == {}
    with pytest.raises(WorkflowNotFoundError, match="no workflow 'other'; they have one, two"):
        library.source_of("other")


def test_nothing_is_read_before_somebody_asks(tmp_path: Path) -> None:
    """And once only: what is new is found when it is told to look again."""
    library = WorkflowLibrary([tmp_path])
    write(tmp_path / "one.yaml", "one")
    library.read()
    write(tmp_path / "two.yaml", "two")
    library.read()
    assert library.names() == ["one"]
    assert library.find("two") is None
    library.reload()
    assert library.names() == ["one", "two"]


def test_a_later_folder_overrides_an_earlier_one(tmp_path: Path) -> None:
    """By the workflow's name, not the file's."""
    write(tmp_path / "1" / "x.yaml", "both", "first")
    write(tmp_path / "1" / "y.yaml", "only", "first")
    second = write(tmp_path / "2" / "other.yaml", "both", "second")
    library = WorkflowLibrary([tmp_path / "1", tmp_path / "2"])
    assert (described(library, "both"), described(library, "only")) == ("second", "first")
    assert library.source_of("both") == second
    assert library.broken == {}
    assert described(WorkflowLibrary([tmp_path / "2", tmp_path / "1"]), "both") == "first"


def test_what_is_broken_is_told_and_the_rest_is_found(tmp_path: Path) -> None:
    """Files and folders, each with its reason."""
    write(tmp_path / "good.yaml", "good")
    (tmp_path / "bad.yaml").write_text("name: [\n")
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "gone.yaml")
    (tmp_path / "itself.yaml").symlink_to(tmp_path / "itself.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    library = WorkflowLibrary([tmp_path / "missing", tmp_path / "good.yaml", tmp_path])
    assert library.names() == ["good"]
    reasons = {
        "missing": "the folder .* cannot be read: No such file",
        "good.yaml": "the folder .* cannot be read: Not a directory",
        "bad.yaml": "line 2",
        "dangling.yaml": "does not exist",
        "itself.yaml": "cannot be read|does not exist",
        "pipe.yaml": "is not a file",
    }
    assert {path.name for path in library.broken} == set(reasons)
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=reason):
            raise ValueError(library.broken[tmp_path / name])
    with pytest.raises(TypeError):
        library.broken[tmp_path] = "x"  # type: ignore[index] # that is the point


def test_two_files_of_one_folder_with_one_name_are_both_broken(tmp_path: Path) -> None:
    """Which one was meant nobody knows; nor is the one taken that they override."""
    write(tmp_path / "1" / "x.yaml", "same")
    files = {write(tmp_path / "2" / name, "same") for name in ("x.yaml", "deep/y.yaml", "z.yml")}
    write(tmp_path / "2" / "other.yaml", "other")
    library = WorkflowLibrary([tmp_path / "1", tmp_path / "2"])
    assert library.names() == ["other"]
    assert set(library.broken) == files
    assert "z.yml" in library.broken[tmp_path / "2" / "x.yaml"]
    assert "'same'" in library.broken[tmp_path / "2" / "z.yml"]


def test_links_are_followed_and_loops_are_harmless(tmp_path: Path) -> None:
    """Whatever is linked to twice is read once."""
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / "one.yaml", "one")
    write(tmp_path / "folder" / "two.yaml", "two")
    (tmp_path / "folder" / "linked").symlink_to(elsewhere)
    (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
    (elsewhere / "back").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "two again.yaml").symlink_to(tmp_path / "folder" / "two.yaml")
    (tmp_path / "folder" / "itself").symlink_to(tmp_path / "folder" / "itself")
    library = WorkflowLibrary([tmp_path / "folder"])
    assert library.names() == ["one", "two"]
    assert library.broken == {}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Whether it was changed, renamed inside, broken, mended, or taken away."""
    file = write(tmp_path / "2" / "x.yaml", "one", "old")
    write(tmp_path / "1" / "x.yaml", "one", "overridden")
    library = WorkflowLibrary([tmp_path / "1", tmp_path / "2"])
    found = library.find("one")
    assert library.find("one") is found
    write(file, "one", "newer")
    assert described(library, "one") == "newer"
    assert library.find("one") is library.find("one")
    write(tmp_path / "2" / "new.yaml", "new")
    assert library.find("new") is None  # no file that is known has changed since
    (tmp_path / "2" / "new.yaml").unlink()
    write(file, "two", "renamed")
    assert described(library, "one") == "overridden"
    assert described(library, "two") == "renamed"
    write(file, "three", "renamed again")
    assert described(library, "three") == "renamed again"
    assert library.find("two") is None
    write(file, "two")
    file.write_text("name: [\n")
    assert library.find("two") is None
    assert set(library.broken) == {file}
    write(file, "two", "mended")
    assert described(library, "two") == "mended"
    assert library.broken == {}
    file.unlink()
    assert library.find("two") is None
    assert library.names() == ["one"]


def test_a_change_that_keeps_the_size_is_noticed(tmp_path: Path) -> None:
    """By its time; and one that keeps the time by its size."""
    file = write(tmp_path / "x.yaml", "one", "abc")
    library = WorkflowLibrary([tmp_path])
    assert described(library, "one") == "abc"
    times = file.stat()
    write(file, "one", "xyz")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert described(library, "one") == "xyz"
    write(file, "one", "longer")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert described(library, "one") == "longer"


def test_of_too_many_files_the_first_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folder says so."""
    monkeypatch.setattr(library_module, "MAX_FILES", 3)
    for number in range(4):
        write(tmp_path / f"{number}.yaml", f"w{number}")
    library = WorkflowLibrary([tmp_path])
    assert library.names() == ["w0", "w1", "w2"]
    assert "more than 3 files" in library.broken[tmp_path]
    (tmp_path / "3.yaml").unlink()
    library.reload()
    assert library.broken == {}


def test_many_threads_may_ask_at_once(tmp_path: Path) -> None:
    """While the files change."""
    files = [write(tmp_path / f"{number}.yaml", f"w{number}") for number in range(5)]
    library = WorkflowLibrary([tmp_path])
    library.read()  # a folder that is listed while it changes may lack what is just being replaced

    def ask() -> None:
        for _ in range(20):
            assert library.names() == [f"w{number}" for number in range(5)]
            for number in range(5):
                assert library.find(f"w{number}") is not None

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        for round_number in range(20):
            for number, file in enumerate(files):
                write(tmp_path / "draft", f"w{number}", "x" * round_number).rename(file)
        for one in asking:
            one.result()


def test_the_folders_are_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With commas between them."""
    assert Settings().template_paths == ()
    monkeypatch.setenv("HOME", "/nobody")
    monkeypatch.setenv("WORKFLOWS_TEMPLATE_PATHS", "/a, b/c , ,,~/d")
    assert load_settings().template_paths == (Path("/a"), Path("b/c"), Path("/nobody/d"))
    monkeypatch.setenv("WORKFLOWS_TEMPLATE_PATHS", "")
    assert load_settings().template_paths == ()
    assert load_settings(template_paths=[tmp_path]).template_paths == (tmp_path,)
    for unfit in ([5], "~no-such-user/x"):
        with pytest.raises(StoreConfigurationError, match="WORKFLOWS_TEMPLATE_PATHS"):
            load_settings(template_paths=unfit)
