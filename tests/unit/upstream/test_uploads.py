"""Requests with content are sent byte for byte, without changes by treq."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from ghmirror_tw.upstream.connection_pool import ConnectionPool
from ghmirror_tw.upstream.uploads import VerbatimAgent
from tests.unit.upstream.connections import MemoryEndpoint, Reader, Upload


def test_agent_for_treq_ignores_its_target_and_fields() -> None:
    """The response has the interface that treq requires, and no coding that treq would decode."""
    endpoint = MemoryEndpoint()
    pool = ConnectionPool(Clock(), endpoint, b"api.test", 3)
    agent = VerbatimAgent(pool, b"/x", Headers({b"Host": [b"elsewhere"], b"X-A": [b"1", b"2"]}))
    verifyObject(IAgent, agent)
    got: list[Any] = []
    agent.request(b"POST", b"http://y/", Headers({b"X-B": [b"1"]}), Upload(0)).addCallback(
        got.append
    )
    sent = endpoint.wire().value().lower()
    assert sent.startswith(b"post /x http/1.1\r\n")
    for line in (b"host: api.test", b"x-a: 1", b"x-a: 2", b"content-length: 0"):
        assert b"\r\n" + line + b"\r\n" in sent
    assert b"elsewhere" not in sent
    assert b"x-b" not in sent
    endpoint.receive(
        b"HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 0\r\na: 2\r\nContent-Encoding: gzip\r\n\r\n"
    )
    [response] = got
    verifyObject(IResponse, response)
    assert response.headers.getRawHeaders(b"a") == [b"1", b"2"]
    assert response.headers.getRawHeaders(b"content-encoding") is None
    assert (b"content-encoding", b"gzip") in response.lines
    assert (response.code, response.length) == (200, 0)
    reader = Reader()
    response.deliverBody(reader)
    assert reader.ends[0].check(ResponseDone)
    response.setPreviousResponse(response)
    assert response.previousResponse is response
    with pytest.raises(ValueError, match="Invalid URI"):
        VerbatimAgent(pool, b"/ /", Headers()).request(b"POST", b"", None, Upload())
