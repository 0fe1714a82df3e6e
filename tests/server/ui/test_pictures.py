"""The pictures of the pages in the documents: all there, small, and the right ones."""

import re
import struct
from pathlib import Path

import pytest

from tests.documents.pieces import DOCUMENTS
from tests.server.ui.screenshots import FOLDER, MOST_BYTES, MOST_BYTES_IN_ALL, pictures, size_of


def test_every_page_has_its_pictures_and_nothing_else_lies_there() -> None:
    """`python3 run.py screenshots` takes them."""
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(pictures())


def test_the_pictures_are_small_and_as_large_as_they_look() -> None:
    """In bytes, so that whoever clones does not wait for them; and in pixels those of their kind."""
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert 0 < sum(sizes.values()) < MOST_BYTES_IN_ALL
    for path in FOLDER.iterdir():
        assert pixels_of(path) == size_of(path.name), path.name


def pixels_of(picture: Path) -> tuple[int, int]:
    """The width and the height of a PNG."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", picture.name
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_pictures_that_a_document_shows_are_there(path: Path) -> None:
    """Those in HTML: links in Markdown are looked at elsewhere."""
    shown = re.findall(r'<(?:img|source)\b[^>]*?\b(?:src|srcset)="([^"]+)"', path.read_text())
    assert [name for name in shown if not (path.parent / name).is_file()] == []
