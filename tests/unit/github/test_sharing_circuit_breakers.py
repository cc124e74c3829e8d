"""Counterevidence switches computed entity-tags off, and lists of them."""

from __future__ import annotations

from ghmirror_tw.github.sharing_circuit_breakers import RETRY_S, WINDOW_S, Sharing


def test_sharing_is_off_after_enough_counterevidence_for_an_hour() -> None:
    """Three keys and two credentials within ten minutes; an hour later it is on again."""
    sharing = Sharing()
    assert sharing.note_ignored(1, "k1", "a", 0.0) is None
    assert sharing.note_ignored(1, "k2", "a", 1.0) is None
    assert sharing.note_ignored(1, "k3", "a", 2.0) is None
    assert sharing.enabled(2.0)
    assert sharing.note_ignored(1, "k3", "b", 3.0) == "sharing"
    assert not sharing.enabled(3.0)
    assert sharing.note_ignored(1, "k4", "b", 4.0) is None
    assert sharing.enabled(3.0 + RETRY_S)


def test_old_counterevidence_does_not_count() -> None:
    """Only what was seen within ten minutes does."""
    sharing = Sharing()
    for number, key in enumerate(("k1", "k2", "k3")):
        at = number * WINDOW_S
        assert sharing.note_ignored(1, key, key, at) is None
    assert sharing.enabled(2 * WINDOW_S)


def test_lists_are_switched_off_alone() -> None:
    """An ignored list is no evidence against a single tag."""
    sharing = Sharing()
    believed = []
    for sent in (1, 2):
        sharing.note_confirmed(sent)
        believed.append(sharing.proven)
    assert believed == [False, True]
    for key in ("k1", "k2"):
        assert sharing.note_ignored(2, key, "a", 0.0) is None
    assert not sharing.proven
    assert sharing.note_ignored(2, "k3", "b", 0.0) == "lists"
    assert (sharing.enabled(0.0), sharing.lists_enabled(0.0)) == (True, False)
    assert not Sharing(configured=False).lists_enabled(0.0)
