"""The Redis client is a package of its own: its names for others, and what it does not know."""

from __future__ import annotations

import re

from tests.harness.running import ROOT

PACKAGE = ROOT / "ghmirror_tw"
CLIENT = PACKAGE / "redis"


def test_other_packages_import_only_its_names() -> None:
    """They import from the package, not from its modules."""
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in PACKAGE.rglob("*.py")
        if path.parent != CLIENT
        for line in path.read_text().splitlines()
        if re.search(r"ghmirror_tw\.redis\.\w", line)
    ]
    assert not found


def test_it_knows_nothing_of_its_users() -> None:
    """No word of grants, refusals, records or mirrors, but for the namespace of the log."""
    words = re.compile(r"\b(grants?|refusals?|records?|mirrors?|github|epochs?)\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in CLIENT.glob("*.py")
        for line in path.read_text().splitlines()
        if words.search(line)
    ]
    assert not found
