"""Spelling of `User-Agent`."""

from __future__ import annotations

from ghmirror_tw.github.json_indenting import without_indenting_names


def test_names_with_indented_json_are_split() -> None:
    """None of the names is left for which content is pretty-printed."""
    spelled = without_indenting_names(b"curl/8 Wget/1 Safari/5 Firefox/9 gh/2")
    assert spelled == b"c_url/8 W_get/1 S_afari/5 F_irefox/9 gh/2"
