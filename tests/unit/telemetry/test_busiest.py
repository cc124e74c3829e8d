"""The busiest are known in bounded memory, and it is known how well."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.telemetry.busiest import HALF_LIFE_S, Busiest, Busy


def counted(names: str, size: int = 3) -> Busiest:
    made = Busiest(size)
    for name in names:
        made.count(name)
    return made


def test_counter_is_empty_at_first() -> None:
    """There is no share of nothing."""
    assert Busiest().busiest(10) == []


def test_few_names_are_counted_exactly() -> None:
    """While there is room for all, no share is too high; equals are in the order of their names."""
    assert counted("aabcaa", 3).busiest(2) == [Busy("a", 4 / 6, 0.0), Busy("b", 1 / 6, 0.0)]


def test_new_name_replaces_the_lowest_count() -> None:
    """With its count, and the largest possible error of that."""
    assert counted("aaabbc" + "d").busiest(3) == [
        Busy("a", 3 / 7, 0.0),
        Busy("b", 2 / 7, 0.0),
        Busy("d", 2 / 7, 1 / 7),
    ]


def test_old_counts_decay() -> None:
    """After a half-life half as much; the lowest count is still correct then."""
    made = counted("aaaab")
    made.decay(HALF_LIFE_S)
    made.count("c")
    made.count("c")
    made.count("d")
    shown = made.busiest(3)
    assert [each.name for each in shown] == ["a", "c", "d"]
    assert shown[0].share == pytest.approx(2 / 5.5)
    assert shown[2].share == pytest.approx(1.5 / 5.5)
    assert shown[2].error == pytest.approx(0.5 / 5.5)


@given(st.text("abcdefgh", min_size=1, max_size=200), st.integers(1, 6))
def test_counts_have_the_bounds_of_space_saving(names: str, size: int) -> None:
    """Nothing busy is missing, no count is too low, and none too high by more than its error."""
    made = counted(names, size)
    truth, total = Counter(names), len(names)
    shown = {each.name: each for each in made.busiest(size)}
    assert len(shown) <= size
    for name, count in truth.items():
        assert name in shown or count <= total / size
    for name, each in shown.items():
        assert truth[name] / total <= each.share + 1e-9
        assert each.share - each.error <= truth[name] / total + 1e-9
        assert each.error <= 1 / size + 1e-9
