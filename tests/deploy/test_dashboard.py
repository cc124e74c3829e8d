"""Stat panels show text and colour by Grafana's rules: for good, for bad and for missing values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pytest

from tests.harness.running import ROOT

DASHBOARD = json.loads((ROOT / "conf" / "grafana" / "dashboard.json").read_text())
STATS: dict[str, dict[str, Any]] = {
    panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] == "stat"
}
#: A value that Grafana formats by its unit.
FORMATTED = None
NOTHING = None

#: The text and the colour of values: a good one, bad ones, and none at all.
SHOWN: dict[str, dict[float | None, tuple[str | None, str]]] = {
    "Replicas up": {
        3.0: (FORMATTED, "green"),
        0.0: ("none", "red"),
        NOTHING: ("none found", "red"),
    },
    "GitHub": {1.0: ("available", "green"), 0.0: ("away", "red"), NOTHING: ("no data", "orange")},
    "Store": {
        1.0: ("in use", "green"),
        0.0: ("memory stands in", "orange"),
        NOTHING: ("no data", "orange"),
    },
    "Limits in force": {
        0.0: ("none", "green"),
        2.0: (FORMATTED, "orange"),
        NOTHING: ("no data", "orange"),
    },
    "Requests": {12.5: (FORMATTED, "blue"), NOTHING: ("none yet", "text")},
    "Requests that cost no quota": {
        0.95: (FORMATTED, "green"),
        0.4: (FORMATTED, "orange"),
        0.1: (FORMATTED, "red"),
        math.nan: ("no requests", "text"),
        NOTHING: ("no requests", "text"),
    },
    "Age of the newest snapshot": {
        60.0: (FORMATTED, "green"),
        3000.0: (FORMATTED, "orange"),
        7200.0: (FORMATTED, "red"),
        NOTHING: ("no snapshot", "text"),
    },
    "Lag of timers": {
        0.002: (FORMATTED, "green"),
        0.07: (FORMATTED, "orange"),
        0.4: (FORMATTED, "red"),
        NOTHING: ("no data", "orange"),
    },
}


def mapped(mappings: Iterable[dict[str, Any]], value: float | None) -> dict[str, Any] | None:
    """Return the result of the first value mapping that matches (Grafana: value mappings)."""
    found: dict[str, Any]
    for mapping in mappings:
        options = mapping["options"]
        if mapping["type"] == "value":
            if value is None or math.isnan(value):
                continue
            key = str(int(value)) if value == int(value) else str(value)
            if key in options:
                found = options[key]
                return found
        elif mapping["type"] == "special" and options["match"] == "null+nan":
            if value is None or math.isnan(value):
                found = options["result"]
                return found
        else:
            raise AssertionError(mapping)
    return None


def displayed(panel: dict[str, Any], value: float | None) -> tuple[str | None, str]:
    """Return text and colour of a value (Grafana: getDisplayProcessor).

    The mapping decides first, then the thresholds: the last step that is not above the value; for
    a missing value the first one, below all others.
    """
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["color"]["mode"] == "thresholds"
    steps = defaults["thresholds"]["steps"]
    assert defaults["thresholds"]["mode"] == "absolute"
    assert steps[0]["value"] is None
    below = [
        step
        for step in steps
        if step["value"] is None
        or (value is not None and not math.isnan(value) and step["value"] <= value)
    ]
    result = mapped(defaults["mappings"], value) or {}
    return result.get("text", FORMATTED), result.get("color", below[-1]["color"])


def test_each_stat_panel_is_judged() -> None:
    """Each has a good and a missing value, all but one a bad one."""
    assert set(SHOWN) == set(STATS)
    for title, cases in SHOWN.items():
        assert NOTHING in cases
        assert len(cases) >= (2 if title == "Requests" else 3)


@pytest.mark.parametrize("title", STATS)
def test_text_and_colour_of_each_value(title: str) -> None:
    """Only a good value is green; a missing value is text, and never green."""
    for value, expected in SHOWN[title].items():
        assert displayed(STATS[title], value) == expected, value
    text, colour = displayed(STATS[title], NOTHING)
    assert text
    assert colour != "green"


def test_unavailability_is_a_word() -> None:
    """Neither a 1 nor a 0 is shown where a word is clearer."""
    for title in ("GitHub", "Store"):
        assert STATS[title]["options"]["colorMode"] == "background"
        for value in (0.0, 1.0):
            assert displayed(STATS[title], value)[0] is not FORMATTED


def test_colours_are_known_to_grafana() -> None:
    """They are names of its palette, or the colour of text."""
    for panel in STATS.values():
        defaults = panel["fieldConfig"]["defaults"]
        steps = defaults["thresholds"]["steps"]
        colours = {step["color"] for step in steps}
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
        for mapping in defaults["mappings"]:
            options = mapping["options"]
            results = [options["result"]] if mapping["type"] == "special" else options.values()
            colours |= {result["color"] for result in results}
        assert colours <= {"green", "orange", "red", "blue", "text"}
