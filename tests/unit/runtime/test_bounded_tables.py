"""Tables by credential: what is stored of made-up credentials evicts nothing of others."""

from __future__ import annotations

from ghmirror_tw.runtime.bounded_tables import CredentialTable


def filled() -> CredentialTable[str, int]:
    """Return a table that is full in both parts."""
    table: CredentialTable[str, int] = CredentialTable(2, 2)
    for number, name in enumerate("ab"):
        assert table.put(name, number, accepted=True) is None
        assert table.put(name.upper(), number, accepted=False) is None
    return table


def test_each_part_evicts_its_own_oldest_entry() -> None:
    """And returns it."""
    table = filled()
    assert table.put("C", 2, accepted=False) == ("A", 0)
    assert table.put("c", 2, accepted=True) == ("a", 0)
    assert dict(table.items()) == {"b": 1, "c": 2, "B": 1, "C": 2}
    assert (list(table), len(table)) == (["b", "c", "B", "C"], 4)


def test_touched_entry_is_evicted_later() -> None:
    """In both parts."""
    table = filled()
    for name in ("a", "A", "nothing"):
        table.touch(name)
    assert table.put("c", 2, accepted=True) == ("b", 1)
    assert table.put("C", 2, accepted=False) == ("B", 1)


def test_a_credential_that_becomes_known_moves_once() -> None:
    """And stays, though it may be refused later."""
    table = filled()
    assert table.put("A", 7, accepted=True) == ("a", 0)
    assert table.get("A") == 7
    assert len(table) == 3
    assert table.put("A", 8, accepted=False) is None
    assert [table.put(name, 9, accepted=False) for name in "CDE"] == [None, ("B", 1), ("C", 9)]
    assert table.get("A") == 8


def test_key_is_found_in_either_part() -> None:
    """And removed."""
    table = filled()
    assert ("a" in table, "A" in table, "c" in table) == (True, True, False)
    assert [table.get(name) for name in ("b", "B", "c")] == [1, 1, None]
    assert [table.pop(name) for name in ("b", "B", "c")] == [1, 1, None]
    assert not table.get("b")
    assert bool(table)
    table.pop("a")
    table.pop("A")
    assert not table
