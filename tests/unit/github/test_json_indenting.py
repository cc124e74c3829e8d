"""Indented JSON has the form of GitHub's, in any pieces, and the same values."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.json_indenting import IndentingStream, gets_indented_json, indented
from ghmirror_tw.http.fields import Fields

texts = st.text(max_size=8) | st.sampled_from(['"', "\\", '\\"', "{", "[],:", " ", "\n"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)


def in_pieces(content: bytes, cuts: list[int]) -> bytes:
    stream = IndentingStream()
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    fed = [stream.feed(content[a:b]) for a, b in pairwise(edges)]
    return b"".join(fed) + stream.close()


@pytest.mark.parametrize(
    ("compact", "expected"),
    [
        ("[]", "[\n\n]\n"),
        ("{}", "{\n\n}\n"),
        (
            '{"tag_name":"v1","n":[1,2]}',
            '{\n  "tag_name": "v1",\n  "n": [\n    1,\n    2\n  ]\n}\n',
        ),
        ('[{"a":{},"b":[]}]', '[\n  {\n    "a": {\n\n    },\n    "b": [\n\n    ]\n  }\n]\n'),
        (' [ 1 ,\n{ "a" : null } ] ', '[\n  1,\n  {\n    "a": null\n  }\n]\n'),
        (r'["a\"b\\",1.50e+3,"\u00e9"]', '[\n  "a\\"b\\\\",\n  1.50e+3,\n  "\\u00e9"\n]\n'),
        ("true", "true\n"),
        ("", ""),
        (" ", ""),
        ("]]", "\n]\n]\n"),
        ('["a', '[\n  "a\n'),
        ('["a\\', '[\n  "a\\\n'),
    ],
)
def test_the_form_of_indented_json(compact: str, expected: str) -> None:
    """It is that of recorded responses; what is no JSON is passed on somehow."""
    assert indented(compact.encode()).decode() == expected
    assert in_pieces(compact.encode(), list(range(len(compact)))).decode() == expected


@given(documents, st.booleans(), st.lists(st.integers(0, 500), max_size=8))
def test_indented_json_is_the_same_document(
    document: Any, ascii_only: bool, cuts: list[int]
) -> None:
    """It is what Python's encoder makes, but for empty arrays and objects, in any pieces."""
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    made = indented(compact)
    expected = json.dumps(document, indent=2, ensure_ascii=ascii_only).encode() + b"\n"
    if b"[]" not in compact and b"{}" not in compact:
        assert made == expected
    assert json.loads(made) == document
    assert in_pieces(compact, cuts) == made
    assert indented(made) == made


@pytest.mark.parametrize(
    ("agent", "indents"),
    [
        ("curl/8.5.0", True),
        ("Wget/1.21", True),
        ("Mozilla/5.0 (X11; rv:130.0) Gecko Firefox/130.0", True),
        ("Mozilla/5.0 AppleWebKit/605 Version/17 Safari/605", True),
        ("gh/2", False),
        ("CURL", False),
        (None, False),
    ],
)
def test_user_agents_for_which_json_is_indented(agent: str | None, indents: bool) -> None:
    """By the names that GitHub looks for."""
    lines = () if agent is None else ((b"User-Agent", agent.encode()),)
    assert gets_indented_json(Fields(lines)) is indents


def test_the_depth_is_bounded() -> None:
    """Nested brackets have no more than a bounded number of spaces each."""
    assert len(indented(b"[" * 10_000)) < 10_000 * 210
