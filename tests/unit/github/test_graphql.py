"""Requests to GraphQL, and mutations among them."""

from __future__ import annotations

import pytest

from ghmirror_tw.github import graphql
from ghmirror_tw.http.fields import Fields


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
    assert graphql.is_mutation(content, Fields()) is mutates


@pytest.mark.parametrize(
    ("content_types", "mutates"),
    [
        ([b"application/json"], False),
        ([b"Application/JSON; charset=UTF-8"], False),
        ([b'application/json ;charset="utf-8"'], False),
        ([b"application/x-www-form-urlencoded"], False),
        ([], False),
        ([b"application/json; charset=utf-7"], True),
        ([b"application/json; charset=utf-8; charset=utf-16"], True),
        ([b"application/graphql"], True),
        ([b"multipart/form-data; boundary=b"], True),
        ([b""], True),
        ([b"application/json", b"application/json"], True),
    ],
)
def test_content_of_another_type_counts_as_a_mutation(
    content_types: list[bytes], mutates: bool
) -> None:
    """A server may parse it in another way."""
    fields = Fields((b"content-type", value) for value in content_types)
    assert graphql.is_mutation(b'{"query":"{x}"}', fields) is mutates


@pytest.mark.parametrize("form", [True, False])
def test_a_form_can_hide_the_word(form: bool) -> None:
    """Content that is JSON can be a form as well."""
    content = b'{"query":"{x}&query=%6dutation{x}&x="}'
    form_type = b"application/x-www-form-urlencoded; charset=utf-8"
    for value in (form_type, None) if form else (b"application/json",):
        fields = Fields(() if value is None else ((b"content-type", value),))
        assert graphql.is_mutation(content, fields) is form


def test_a_content_coding_can_hide_the_word() -> None:
    """Also one whose result begins as JSON does."""
    fields = Fields(((b"content-type", b"application/json"), (b"content-encoding", b"deflate")))
    assert graphql.is_mutation(b'{"query":"{x}"}', fields)
