"""The Dockerfile, taken apart, so that what it says can be tried without Docker."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instruction", "copied", "read_stages"]


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile.

    Attributes:
        name: `RUN`, `COPY` and so on.
        text: What stands behind it, in one line.
    """

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of a list in JSON, or of a command as a shell takes it apart."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return shlex.split(self.text)


def read_stages(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first; what stands before the first FROM is left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    stages: list[list[Instruction]] = []
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(Instruction(name, rest.strip()))
    return stages


def copied(stage: list[Instruction]) -> list[str]:
    """The files and folders of the project that a stage copies."""
    return [
        source for one in stage if one.name == "COPY" and not one.text.startswith("--from") for source in one.words[:-1]
    ]
