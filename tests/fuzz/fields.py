"""Parsers of targets and fields: those of clients, and those of GitHub."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_to_bytes

from ghmirror_tw.caching import (
    acceptance_evidence,
    bypass,
    epochs,
    forwarded_fields,
    freshness,
    key,
    negative_responses,
    records_from_responses,
    refused_scope,
    storability,
    token_generations,
    validators,
)
from ghmirror_tw.caching import vary as varying
from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields, forwarded_request_fields
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.github import (
    claimed_enterprise_version,
    cors,
    entity_tag_rule,
    graphql,
    json_indenting,
    limit_interpretation,
    link_conditions,
    media_types,
    operation_paging,
    origin,
    page_parameters,
    path_labels,
    path_redaction,
    rate_limit_resources,
    reported_limit,
)
from ghmirror_tw.github.client_base_urls import BaseUrlSelector
from ghmirror_tw.github.credentials import hashed_token, is_validated, token_in
from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter
from ghmirror_tw.http import content_codings, dns_rebinding, loop_detection, preconditions, targets
from ghmirror_tw.http import entity_tags as tags
from ghmirror_tw.http.cache_status import cache_status
from ghmirror_tw.http.fields import Fields, serialised, tokens
from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.links import has_foreign_page, parse_links
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import BadRequestError, Request
from ghmirror_tw.runtime.whole_numbers import MAX_DIGITS, whole_number
from ghmirror_tw.telemetry.logs import as_json, as_text
from ghmirror_tw.telemetry.secret_scrubbing import scrub
from ghmirror_tw.web.access_log import shown_path
from tests.fuzz.input_values import fields_of

API: Final = b"https://api.github.com"
#: The characters of a request target that is sent (RFC 9112, section 3.2).
_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
_ENTITY_TAG: Final = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"')
_BETWEEN_PARAMETERS: Final = re.compile(rb"[ \t]*;[ \t]*")
_NOW: Final = 1_800_000_000.0
#: The years 1 to 9999, and a leap second.
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_YEAR_100: Final = datetime(100, 1, 1, tzinfo=UTC).timestamp()
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() + 1


def request_targets(raw: bytes) -> None:
    """A forwarded target is a path within GitHub's API, with the bytes of the client."""
    shown = shown_path(raw)
    assert re.fullmatch(r"[\x21-\x7e]{0,2048}", shown)
    targets.check_request_line(b"GET / HTTP/1.1")
    with suppress(BadRequestError):
        targets.check_request_line(raw)
    path = targets.path_of(raw)
    assert path in raw
    try:
        parsed = targets.parse_target(raw)
    except BadRequestError:
        return
    target = parsed.target
    assert _TARGET.fullmatch(target)
    if origin.is_asset_upload(Request(b"POST", target, Fields())):
        assert target.startswith(b"/repos/")
    assert b"#" not in target
    assert raw.endswith(target.removeprefix(b"/graphql").removeprefix(b"/"))
    assert parsed.prefix in {b"", targets.API_PREFIX}
    if parsed.authority is None:
        assert raw.startswith(b"/")
    else:
        assert parse_host([parsed.authority]) == parsed.authority
    sent = target.partition(b"?")[0]
    for decoded in (sent, unquote_to_bytes(sent)):
        assert not {b".", b".."} & set(re.split(rb"[/\\]", decoded))
        assert b"\0" not in decoded
    assert not sent.startswith(b"//")
    if not parsed.prefix and not targets.is_upload(target):
        again = targets.parse_target(target)
        assert again.target == target
    _facts_of(target)


def _facts_of(target: bytes) -> None:
    """Check what follows from a valid target."""
    path = target.partition(b"?")[0]
    pattern = path_labels.path_pattern(path)
    assert re.fullmatch(r"/[a-z_*/-]*", pattern), pattern
    assert len(pattern) < 600
    assert path_labels.operation_of(b"HEAD", path) == f"GET {pattern}"
    hidden = path_redaction.without_credentials(path)
    assert path_redaction.without_credentials(hidden) == hidden
    request = Request(b"GET", target, Fields())
    scopes = rate_limit_resources.scopes_of(path, b"GET", creates=False)
    rate_limit_resources.scopes_of_read(path)
    assert rate_limit_resources.resource_of(
        request, Fields()
    ) in scopes or rate_limit_resources.is_quota_request(request)
    for method in (b"GET", b"POST"):
        assert rate_limit_resources.resource_of_path(
            path, method
        ) == rate_limit_resources.resource_of_path(path + b"/", method)
        rate_limit_resources.creates_content(
            method, graphql=graphql.is_graphql(request), mutates=False
        )
        token_generations.is_write(Request(method, target, Fields()))
        claimed_enterprise_version.holds_version(method, path)
    assert bypass.bypass_reason(request) == (
        "bypass"
        if rate_limit_resources.is_quota_request(request) or targets.has_secret_in_query(target)
        else None
    )
    for page in (1, 2, 999_999_999):
        other = page_parameters.with_page(target, page)
        assert _TARGET.fullmatch(other)
        assert page_parameters.page_of(other) == page == page_parameters.page_number(other)
        # An empty parameter at the end is replaced by that of the page.
        same = page_parameters.list_identity(target).rstrip(b"&?")
        assert page_parameters.list_identity(other).rstrip(b"&?") == same
        assert page_parameters.has_page_parameter(other)
    identity = page_parameters.list_identity(target)
    assert page_parameters.list_identity(identity) == identity
    operation = operation_paging.page_limits_of(target)
    assert 1 <= page_parameters.page_size(target) <= max(operation.most, operation.size)
    page_parameters.has_cursor(target)
    number = page_parameters.page_number(target)
    assert number is None or number >= 1


def hosts(raw: bytes) -> None:
    """The URLs of a response lead to one valid host, for any `Host` and `X-Forwarded-*`."""
    fields = fields_of(raw)
    values = fields.get_all(b"host")
    dns_rebinding.is_expected_host(values, frozenset({"mirror"}))
    for addressing in (
        BaseUrlSelector(API, b"https://uploads.github.com"),
        BaseUrlSelector(API, None, b"https://mirror:8443/base"),
    ):
        for secure in (False, True):
            for trusted in (False, True):
                addressing.ignores(fields, trusted=trusted)
                try:
                    host = parse_host(values)
                    base = addressing.base(
                        host, fields, targets.API_PREFIX, secure=secure, trusted=trusted
                    )
                except BadRequestError:
                    continue
                if base.api == API:
                    continue
                for url in (base.api, base.uploads):
                    assert re.fullmatch(
                        rb"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/base)?"
                        rb"/api/(?:v3|uploads)",
                        url,
                    )
                if not trusted:
                    root = base.api.removesuffix(targets.API_PREFIX)
                    assert root in {
                        b"http://" + host,
                        b"https://" + host,
                        b"https://mirror:8443/base",
                    }


def request_fields(raw: bytes) -> None:
    """Decisions by the fields of a request do not depend on their distribution over lines."""
    fields = fields_of(raw)
    request = Request(b"GET", b"/user/repos?page=2", fields)
    for sent in (forwarded_request_fields(fields), canonical_request_fields(fields)):
        block = serialised(sent)
        assert block.count(b"\r\n") == block.count(b"\r") == block.count(b"\n") == len(sent.lines)
        names = {name for name, _ in sent}
        assert not names & {b"connection", b"transfer-encoding", b"cookie", b"forwarded"}
        assert not any(name.startswith(b"x-forwarded-") for name in names)
    kept = {name for name, _ in canonical_request_fields(fields)}
    assert kept - {b"authorization", b"user-agent", b"accept-encoding"} <= {
        name for name, _ in fields if key.is_key_field(name)
    }
    assert not json_indenting.gets_indented_json(canonical_request_fields(fields))
    storable = bypass.bypass_reason(request) is None
    if storable:
        assert len(fields.get_all(b"authorization")) <= 1
        # Nothing that is not forwarded can make a difference to what is stored.
        credentials = CredentialNames(b"s")
        other = Fields(canonical_request_fields(fields).lines)
        assert CacheKey.of(request.target, fields) == CacheKey.of(request.target, other)
        assert credentials(fields) == credentials(other)
    refused = refused_scope.refused_scope(request, 401)
    assert refused is not None
    assert (refused is refused_scope.RefusedScope.KEY) is (request.authorization is None)
    spread = _spread(fields)
    for decide in (
        freshness.requires_validation,
        content_codings.accepts_gzip,
        bypass.has_bypass_fields,
    ):
        if decide is not bypass.has_bypass_fields or storable:
            assert decide(fields) == decide(spread), decide
    cors.is_preflight(b"OPTIONS", fields)
    for tag in validators.client_validators(request):
        assert tags.is_entity_tag(tag.tag)
    validators.may_be_empty_list(request)
    assert tags.is_entity_tag(validators.empty_list_tag(request))
    preconditions.is_not_modified(fields, b'"a"', b"Mon, 30 Nov 2026 08:00:00 GMT")
    hashed = hashed_token(fields)
    assert hashed is None or len(hashed) == 44
    value = fields.get(b"authorization")
    if value is not None:
        assert token_in(value) in value or value.lower().startswith(b"basic ")
        assert acceptance_evidence.response_shows_acceptance(200, value) is is_validated(value)
        assert epochs.epoch_shows_acceptance(value) is (len(value) <= 8)
        assert records_from_responses.grant_expires_at(fields, fields, _NOW, 60.0) >= _NOW
    assert all(isinstance(each, bytes) for each in varying.fields_beyond_key(fields))
    varying.variant_id(fields, Fields(((b"vary", b"User-Agent"),)))
    loop_detection.has_passed(fields.get_all(b"via"), b"ghmirror")
    _check_loop(fields)


def _check_loop(fields: Fields) -> None:
    """The mirror's member of `Via` is recognised behind any other members."""
    values = [*fields.get_all(b"via"), b"1.1 ghmirror-0"]
    assert loop_detection.has_passed(values, b"GHMIRROR-0")


def _spread(fields: Fields) -> Fields:
    """Return *fields* with each member of the lists that are read here on a line of its own."""
    lines: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name in {b"cache-control", b"accept-encoding", b"connection"}:
            members = _BETWEEN_PARAMETERS.sub(b";", value).split(b",")
            lines += [(name, member) for member in members]
        else:
            lines.append((name, value))
    return Fields(lines)


def response_fields(raw: bytes) -> None:
    """The fields for the store and for clients, made of those of a response, are valid."""
    fields = fields_of(raw)
    request = Request(b"GET", b"/user/repos", Fields(((b"accept", b"application/json"),)))
    passed = forwarded_fields.forwarded_response_fields(fields)
    assert not {name for name, _ in passed} & {b"set-cookie", b"connection", b"content-length"}
    serialised(passed)
    valid = tags.without_invalid_etag(fields)
    etag = valid.get(b"etag")
    assert etag is None or tags.is_entity_tag(etag)
    for status in (200, 304, 404):
        why = storability.reason_in_head(request, status, valid, b"https://api.github.com")
        assert (why == "status") is (status != 200)
        if why is None:
            assert b"no-store" not in fields.listed(b"cache-control")
    if negative_responses.is_repeatable(404, valid, b"", b""):
        assert not {b"*", b"user-agent"}.intersection(fields.listed(b"vary"))
        assert etag is None
    repeated = {name for name, _ in negative_responses.repeated_fields(valid)}
    assert not {name for name in repeated if name.startswith(b"x-ratelimit-")}
    received = claimed_enterprise_version.versioned_fields(valid, b"3.17.0")
    if etag is not None:
        changed = received.get(b"etag")
        assert changed is not None
        assert tags.is_entity_tag(changed)
        assert not tags.weakly_equal(changed, etag)
    content_type = fields.get(b"content-type")
    media_types.is_as_accepted(b"application/json", content_type)
    vary = content_codings.vary_with_accept_encoding(fields.combined(b"vary"))
    assert {b"*", b"accept-encoding"} & set(tokens(vary))
    sent = Fields(((b"user-agent", b"a"),))
    varied = varying.variant_id(sent, fields)
    assert (varied is None) is (b"user-agent" not in fields.listed(b"vary"))
    authorized = Fields(((b"authorization", b"token a"),))
    assert records_from_responses.grant_expires_at(authorized, fields, _NOW, 60.0) >= _NOW + 60.0
    _check_quota(fields)


def _check_quota(fields: Fields) -> None:
    for name in (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"retry-after"):
        value = fields.get(name)
        number = whole_number(value)
        assert number is None or (value is not None and int(value) == number < 10**MAX_DIGITS)


def limited(raw: bytes) -> None:
    """A limit lasts from a second to an hour for any response, and is repeated as a response.

    The fields are first, then an empty line and the content.
    """
    head, _, content = raw.partition(b"\n\n")
    fields = fields_of(head)
    pause_s = limit_interpretation.retry_after(fields, _NOW)
    assert pause_s is None or 1.0 <= pause_s <= reported_limit.LONGEST_S
    for method, target in ((b"GET", b"/repos/o/r"), (b"POST", b"/graphql")):
        request = Request(method, target, Fields())
        resource = rate_limit_resources.resource_of(request, fields)
        assert re.fullmatch(r"[a-z0-9_]{1,64}", resource)
        for status in (200, 403, 429):
            meaning = limit_interpretation.interpretation_of(
                request, status, fields, content, _NOW, 3
            )
            limit = meaning.limit
            assert meaning.refuses or limit is not None or status == 200
            if limit is None:
                continue
            assert 1.0 <= round(limit.until - _NOW, 3) <= reported_limit.LONGEST_S
            assert limit.scope in {
                reported_limit.EVERYTHING,
                reported_limit.CONTENT_CREATION,
                resource,
            }
            for now in (_NOW, limit.until, limit.until + 100):
                sent_status, sent, body = limit.response(now)
                assert sent_status == status
                serialised(sent)
                after = sent.get(b"retry-after")
                assert (after is None) is (
                    fields.get(b"retry-after") is None
                    or len(fields.get(b"retry-after") or b"") > 512
                )
                assert after is None or 1 <= int(after) <= reported_limit.LONGEST_S + 1
                assert body == content or json.loads(body)["message"]


def links(raw: bytes) -> None:
    """Links are the same before and after rewriting, and what is proved is a target of GitHub's."""
    base = BaseUrls(b"http://mirror/api/v3", b"http://mirror/api/uploads")
    rewriter = Rewriter(API, b"https://uploads.github.com")
    value = fields_of(b"link: " + raw.replace(b"\n", b" ")).get(b"link")
    assert value is not None
    sent = parse_links(value)
    rewritten = rewriter.fields(Fields(((b"link", value),)), base).get(b"link")
    read = parse_links(rewritten)
    assert [rels for _, rels in read.members] == [rels for _, rels in sent.members]
    for (before, _), (after, _) in zip(sent.members, read.members, strict=True):
        assert after == before or before.startswith((API, b"https://uploads.github.com"))
        if before.startswith(API + b"/"):
            assert after == base.api + before.removeprefix(API)
    location = rewriter.fields(Fields(((b"location", raw),)), base).get(b"location")
    assert location == raw or raw.startswith(b"https://")
    following = link_conditions.next_page(value, API)
    assert following is None or targets.parse_target(following).target == following
    if has_foreign_page(value, API):
        assert any(not page.startswith(API + b"/") for page in sent.page_targets())
    pages = {page for page in sent.page_targets() if page.startswith(API + b"/")}
    for target in (b"/repos/o/r/issues?page=2", b"/users?since=1", *sorted(pages)[:3]):
        try:
            requested = targets.parse_target(target.removeprefix(API)).target
        except BadRequestError:
            continue
        assert 0 <= operation_paging.most_items_of_page(requested) <= 1000
        _check_demands(requested, value)


def _check_demands(target: bytes, link: bytes) -> None:
    for items in (None, 0, 29, 30, 100):
        for shared in (False, True):
            demand = link_conditions.conditions_of_link(
                target,
                items,
                link,
                shared=shared,
                verify_last=True,
                authorised=True,
                api_url=API,
            )
            for page in (demand.next_page, demand.last_page, demand.linked_page):
                if page is not None:
                    assert targets.parse_target(page).target == page


def entity_tags(raw: bytes) -> None:
    """Members of `If-None-Match` are entity-tags; empty members and white space have no effect."""
    value = raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"").strip(b" \t")
    found = tags.parse_entity_tags(value)
    assert all(_ENTITY_TAG.fullmatch(tag) for tag in found)
    assert tags.is_entity_tag(value) is (_ENTITY_TAG.fullmatch(value) is not None)
    assert all(tag in value for tag in found)
    assert tags.parse_entity_tags(b", ".join(found)) == found
    assert tags.parse_entity_tags(b" ,\t," + value + b",, ") == found
    assert tags.parse_entity_tags(value + b', "last"')[-1:] == (b'"last"',) or value.count(b'"') % 2
    for tag in found:
        assert tags.if_none_match_matches(value, tag)
        assert tags.if_none_match_matches(value, tags.as_weak(tag))
        assert tags.weakly_equal(tag, tags.opaque_tag(tag))
    assert tags.if_none_match_matches(value, None) is (value == b"*")
    assert tags.if_none_match_matches(value, b'"never sent"') is (
        value == b"*" or any(tags.opaque_tag(tag) == b'"never sent"' for tag in found)
    )
    assert tags.is_entity_tag(
        entity_tag_rule.compute_entity_tag(b"", value, accept=value, authorization=None)
    )


def dates(raw: bytes) -> None:
    """A date is the one that Python's own parser reads; what is none is none."""
    at = preconditions.parse_http_date(raw)
    if at is None:
        return
    text = raw.decode("ascii")
    assert _FIRST <= at <= _LAST
    if b":60" in raw:
        assert preconditions.parse_http_date(raw.replace(b":60", b":59")) == at - 1
    # Python reads a year before 100 as one of two digits.
    elif raw.endswith(b"GMT") and b"-" not in raw and at >= _YEAR_100:
        assert parsedate_to_datetime(text).timestamp() == at


def user_agents(raw: bytes) -> None:
    """A `User-Agent` is spelled so that GitHub does not indent, and only then changed."""
    value = fields_of(b"user-agent: " + raw.replace(b"\n", b"")).get(b"user-agent") or b""
    spelled = json_indenting.without_indenting_names(value)
    assert not json_indenting.gets_indented_json(Fields(((b"user-agent", spelled),)))
    assert json_indenting.without_indenting_names(spelled) == spelled
    assert spelled.replace(b"_", b"") == value.replace(b"_", b"")


def log_lines(raw: bytes) -> None:
    """A log line is one line, and JSON is JSON, with any content."""
    text = raw.decode("utf-8", "surrogateescape")
    event = {
        "log_time": 0.0,
        "log_format": "{log_text}",
        "log_text": raw.decode("latin-1"),
        "content": raw,
        "text": text,
    }
    for shown in (event, {**event, "log_text": text}):
        for line in (as_text(shown), as_json(shown)):
            assert line.count("\n") == 1
            assert line.endswith("\n")
            assert line[:-1].isprintable()
            assert line.isascii()
        json.loads(as_json(shown))
    token = "ghp_0123456789abcdefghij"
    assert token not in scrub(f"{raw.decode('latin-1')} {token}")
    parsed = cache_status(Outcome.ERROR, status=500, detail=raw.decode("latin-1"))
    assert re.fullmatch(rb"[\x20-\x7e]+", parsed)


def cache_keys(raw: bytes) -> None:
    """No two requests share a key, unless GitHub gets the same of both."""
    first, _, second = raw.partition(b"\n\n")
    keys = []
    for each in (first, second):
        target, _, head = each.partition(b"\n")
        fields = fields_of(head)
        selecting = sorted(line for line in fields.lines if key.is_key_field(line[0]))
        if len(dict(selecting)) < len(selecting):
            return  # a request that repeats one of these is not stored
        keys.append((CacheKey.of(target, fields), target, selecting))
    (one, *facts), (other, *others) = keys
    assert (one.name == other.name) is (facts == others) is (one == other)
