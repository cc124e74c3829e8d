"""Epochs: random, and marked where no response showed acceptance."""

from __future__ import annotations

from ghmirror_tw.caching.epochs import epoch_shows_acceptance, new_epoch


def test_an_epoch_is_random() -> None:
    """No two are equal."""
    for accepted in (True, False):
        assert len({new_epoch(accepted=accepted) for _ in range(1000)}) == 1000


def test_an_epoch_shows_whether_its_credential_was_accepted() -> None:
    """One of an earlier version does."""
    assert epoch_shows_acceptance(new_epoch())
    assert epoch_shows_acceptance(b"e")
    assert not epoch_shows_acceptance(new_epoch(accepted=False))
