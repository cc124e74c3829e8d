"""Requests to GraphQL, and mutations among them."""

from __future__ import annotations

import pytest

from ghmirror_tw.github import graphql


@pytest.mark.parametrize(
    ("content", "mutates"),
    [
        (b'{"query":"\\u006dutation {x}"}', True),
        (b'{"query":"mut\\u0061tion {x}"}', True),
        ('{"query":"mutation {x}"}'.encode("utf-16"), True),
        ('{"query":"mutation {x}"}'.encode("utf-16-le"), True),
        ('{"query":"mutation {x}"}'.encode("utf-32-be"), True),
        (b'+AHsAIgBxAHUAZQByAHkAIg-:"x"}', True),
        (b"query=%6dutation+%7Bx%7D", True),
        (b"\x1f\x8b\x08\x00\x00", True),
        (b'\xff{"query":"{x}"}', True),
        (b'{"query":"{x(y: \\"\xfc\\")}"}', True),
        (b"", True),
        (b"{x}\0", True),
        ('{"query":"query { search(query: \\"\u00fc\\") {x}\\n}"}'.encode(), False),
        (b' \r\n\t{"query":"{x}"}', False),
        (b'[{"query":"{x}"}]', False),
    ],
)
def test_only_plain_text_is_a_query(content: bytes, mutates: bool) -> None:
    """Content that could hide the word counts as a write."""
    assert graphql.is_mutation(content) is mutates
