"""Immutable values: hashable and equal by their attributes, and made without a call for each."""

from __future__ import annotations

from attrs import define, evolve

from ghmirror_tw.runtime.frozen_values import frozen_value


@frozen_value
class Point:
    """A value."""

    x: int
    y: int = 0


@define
class Mutable:
    """A class that can be changed."""

    x: int
    y: int = 0


def test_values_are_compared_and_hashed_by_their_attributes() -> None:
    """They can be keys, and a changed copy is another value."""
    points = {Point(1), Point(1, 0), evolve(Point(1), y=2)}
    assert points == {Point(1), Point(1, 2)}
    assert Point(1) != Point(2)


def test_values_are_made_as_mutable_ones_are() -> None:
    """At run time nothing checks the setting of an attribute."""
    assert Point.__setattr__ is Mutable.__setattr__ is object.__setattr__
