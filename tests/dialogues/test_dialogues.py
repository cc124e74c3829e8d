"""Each file here that ends in .txt is a test, with each store: a conversation; see README.rst."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dialogues.comparing import report
from tests.dialogues.parsing import STORES, DialogueSyntaxError, parse
from tests.dialogues.replicas import SharedRedis
from tests.dialogues.running import run

HERE = Path(__file__).parent


def collected() -> Iterator[object]:
    """Return the files, by name, with each of their stores; a file that is none has one test."""
    for path in sorted(HERE.rglob("*.txt")):
        name = path.relative_to(HERE).as_posix()
        try:
            stores = parse(name, path.read_text()).stores
        except DialogueSyntaxError:
            stores = STORES[:1]
        for store in stores:
            yield pytest.param(path, store, id=f"{name}-{store}")


@pytest.mark.parametrize(("path", "store"), list(collected()))
def test_dialogue(path: Path, store: str, dialogue_redis: SharedRedis) -> None:
    """Each message of the dialogue is as the file states."""
    name, text = path.relative_to(HERE).as_posix(), path.read_text()
    try:
        dialogue = parse(name, text)
    except DialogueSyntaxError as error:
        lines = tuple(text.splitlines())
        pytest.fail(report(name, lines, error.line, error.why), pytrace=False)
    wrong = run(dialogue, store, dialogue_redis)
    if wrong is not None:
        shown = report(name, dialogue.lines, wrong.line, wrong.why, wrong.message)
        pytest.fail(shown, pytrace=False)
