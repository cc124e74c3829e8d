"""Generations of a credential's requests: what begins one, and that none recurs."""

from __future__ import annotations

from ghmirror_tw.caching.generations import Generations


def test_a_write_begins_one() -> None:
    """For its credential alone."""
    generations = Generations()
    before = generations.of("a"), generations.of("b")
    generations.begin("a")
    assert generations.of("a") > before[0]
    assert generations.of("b") == before[1]


def test_another_epoch_begins_one() -> None:
    """Where one was seen before, even none; not one that this replica began itself."""
    generations = Generations()
    first = generations.of("a")
    generations.note_epoch("a", None)
    assert generations.of("a") == first
    generations.note_own_epoch("a", b"1")
    generations.note_epoch("a", b"1")
    assert generations.of("a") == first
    generations.note_epoch("a", b"2")
    second = generations.of("a")
    assert second > first
    generations.note_epoch("a", None)
    assert generations.of("a") > second


def test_a_generation_never_recurs() -> None:
    """Not even that of a credential which was forgotten."""
    generations = Generations(2)
    seen = [generations.of("a")]
    for credential in "abcabcc":
        generations.begin(credential)
        seen.append(generations.of("a"))
    for credential in "xyz":
        generations.note_epoch(credential, None)
        seen.append(generations.of("a"))
    assert seen == sorted(seen)
    assert len(generations._known) == 2
    last = generations.of("a")
    generations.begin("a")
    assert generations.of("a") > last


def test_unknown_credentials_share_theirs() -> None:
    """And take no place; a known one has its own."""
    generations = Generations(1)
    generations.begin("real")
    before = generations.of("real")
    for credential in "abc":
        first = generations.of(credential, known=False)
        generations.note_epoch(credential, None, known=False)
        generations.note_own_epoch(credential, b"1", known=False)
        generations.begin(credential, known=False)
        assert generations.of(credential, known=False) > first
    assert generations.of("real") == before
