"""A Dockerfile, read as far as ours goes: stages of steps, and what may be copied from the tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from attrs import field, frozen

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@frozen
class Step:
    """One instruction; *text* is what stands behind it, in one line."""

    instruction: str
    text: str

    @property
    def exec_form(self) -> list[str] | None:
        """The arguments, if they are given as a JSON array: then there is no shell."""
        if not self.text.startswith("["):
            return None
        words: list[str] = json.loads(self.text)
        return words


@frozen
class Copy:
    """What one COPY copies: from the tree, or from another stage."""

    stage: str
    sources: list[str]
    target: str

    @classmethod
    def of(cls, step: Step) -> Copy:
        words = step.text.split()
        stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        return cls(stage, words[:-1], words[-1])


@frozen
class Stage:
    """A file system that is made from a base by steps."""

    name: str
    base: str
    steps: list[Step] = field(factory=list)

    def all_of(self, instruction: str) -> list[Step]:
        """Return the steps of a kind."""
        return [step for step in self.steps if step.instruction == instruction]

    def last(self, instruction: str) -> Step:
        """Return the step of a kind that counts."""
        return self.all_of(instruction)[-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV says."""
        pairs = [pair for step in self.all_of("ENV") for pair in step.text.split()]
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def health(self) -> list[str]:
        """The command of HEALTHCHECK, which is to be in exec form."""
        words: list[str] = json.loads(self.last("HEALTHCHECK").text.partition("CMD ")[2])
        return words


@frozen
class Dockerfile:
    """The arguments before the first stage, and the stages; the last one is the image."""

    arguments: Mapping[str, str]
    stages: list[Stage]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        arguments: dict[str, str] = {}
        stages: list[Stage] = []
        for step in _steps(path.read_text()):
            if step.instruction == "ARG" and not stages:
                name, _, value = step.text.partition("=")
                arguments[name] = value
            elif step.instruction == "FROM":
                base, _, name = step.text.partition(" AS ")
                base = _VARIABLE.sub(lambda found: arguments[found[1]], base)
                stages.append(Stage(name or "image", base))
            else:
                stages[-1].steps.append(step)
        return cls(arguments, stages)

    @property
    def image(self) -> Stage:
        return self.stages[-1]


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for whole in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, _, rest = whole.partition(" ")
        yield Step(instruction, rest.strip())


@frozen
class Context:
    """The files of a tree that Docker is sent, but for those that .dockerignore keeps here."""

    root: Path

    def files(self, source: str) -> list[Path]:
        """Return the files that a source of a COPY names, without those that are ignored."""
        start = self.root / source
        found = [start] if start.is_file() else sorted(start.rglob("*"))
        return [path for path in found if path.is_file() and not self.ignores(path)]

    def ignores(self, path: Path) -> bool:
        """Whether a file stays here: the last pattern that fits counts."""
        ignored = False
        parts = PurePosixPath(path.relative_to(self.root).as_posix())
        candidates = [str(each) for each in (parts, *parts.parents) if str(each) != "."]
        for line in (self.root / ".dockerignore").read_text().splitlines():
            pattern = line.strip().removeprefix("!")
            if not pattern or pattern.startswith("#"):
                continue
            if any(_fits(each, pattern) for each in candidates):
                ignored = not line.startswith("!")
        return ignored


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.rpartition("/")[2], pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
