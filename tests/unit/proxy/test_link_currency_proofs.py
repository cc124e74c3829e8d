"""Names of pages in the tables of proofs, which are bounded by the number of entries."""

from __future__ import annotations

import pickle
from typing import Final

from attrs import evolve

from ghmirror_tw.proxy.link_currency_proofs import LinkProofs, Walk

LONG: Final = 15_000 * b"x"
WALK: Final = Walk("alice", (b"text/a", None, b"b"), 1, b"/list?page=1")


def names(walk: Walk) -> set[object]:
    """Return the names of the page of a walk."""
    return {walk.proof_name(walk.target), walk.page_name(walk.target)}


def test_names_are_short() -> None:
    """However long a target or a field is."""
    for walk in (evolve(WALK, target=b"/list?" + LONG), evolve(WALK, fields=(LONG, LONG, None))):
        proofs = LinkProofs(lambda: 1.0)
        proofs.note_sent(walk)
        proofs.any_empty = True
        proofs.note_items(walk, 0)
        assert proofs.empty_pages.get(walk.page_name(walk.target)) is True
        assert proofs.last_sent.get(walk.proof_name(walk.target)) == 1.0
        assert all(len(pickle.dumps(name)) < 300 for name in names(walk))


def test_names_of_different_pages_differ() -> None:
    """Also where they are long, and where the same bytes are divided into other fields."""
    seen: set[object] = set()
    walks = [
        evolve(WALK, target=target, fields=fields)
        for target in (b"/list", b"/list?" + LONG, b"/list?" + LONG + b"&page=2")
        for fields in (
            *((b"ab", None), (b"a", b"b"), (None, b"ab"), (b"", b"ab")),
            *((LONG + b"a", None), (LONG, b"a"), (None, LONG + b"a"), (b"", LONG + b"a")),
        )
    ]
    for walk in walks:
        assert not seen & names(walk)
        seen |= names(walk)
    assert len(seen) == 2 * len(walks)
