"""Health checks and pages of the admin listener."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StubTreq
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource
from zope.interface.verify import verifyObject

from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.web.admin_site import Admin
from ghmirror_tw.web.health import Health, Readiness, health_page

READY = Readiness(listening=True, restored=True)
PARTS = ("/", "/page.css", "/page.js", "/page.svg", "/status.json")


class ReadinessTests(TestCase):
    """Readiness."""

    def test_reason_of_each_state(self) -> None:
        """From the start until the shutdown."""
        readiness = Readiness()
        seen = [(readiness.ready, readiness.reason)]
        for step in ("listening", "restored", "stopping"):
            setattr(readiness, step, True)
            seen.append((readiness.ready, readiness.reason))
        assert seen == [
            (False, "not listening yet"),
            (False, "restoring a snapshot"),
            (True, "ready"),
            (False, "stopping"),
        ]

    def test_main_listener_has_two_pages(self) -> None:
        """All other paths are forwarded."""
        healthy = health_page(b"/healthz", Readiness())
        ready = health_page(b"/readyz", READY)
        unready = health_page(b"/readyz", Readiness())
        assert healthy is not None
        assert ready is not None
        assert unready is not None
        assert (healthy.status, healthy.content) == (200, b"ok\n")
        assert (ready.status, ready.content) == (200, b"ready\n")
        assert (unready.status, unready.content) == (503, b"not listening yet\n")
        for path in (b"/", b"/metrics", b"/healthz/", b"/user"):
            assert health_page(path, READY) is None


class PageTests(TestCase):
    """Responses of the resources."""

    def setUp(self) -> None:
        self.metrics = Metrics(lambda: 0.0)
        self.readiness = Readiness(listening=True)
        self.admin = Admin(self.readiness, self.metrics, lambda: {"version": "1"})

    def send(
        self, path: str, method: str = "GET", resource: Any = None, **more: Any
    ) -> tuple[Any, bytes]:
        """Return response and content."""
        client: Any = StubTreq(resource or self.admin)
        response = self.successResultOf(client.request(method, f"http://x{path}", **more))
        return response, self.successResultOf(client.content(response))

    def test_pages_are_resources(self) -> None:
        """Twisted can serve them."""
        verifyObject(IResource, self.admin)
        verifyObject(IResource, Health(self.readiness))

    def test_healthz_is_ok(self) -> None:
        """While the process serves."""
        response, content = self.send("/healthz?verbose=1")
        assert (response.code, content) == (200, b"ok\n")
        assert response.headers.getRawHeaders("Cache-Control") == ["no-store"]

    def test_readyz_follows_the_state(self) -> None:
        """Without a restart."""
        assert self.send("/readyz")[0].code == 503
        self.readiness.restored = True
        assert self.send("/readyz")[0].code == 200
        self.readiness.stopping = True
        response, content = self.send("/readyz")
        assert (response.code, content) == (503, b"stopping\n")

    def test_metrics(self) -> None:
        """A scrape gets all metrics, which must not be stored."""
        self.metrics.collapsed()
        response, content = self.send("/metrics")
        assert response.code == 200
        assert b"ghmirror_collapsed_total 1.0\n" in content
        assert response.headers.getRawHeaders("Cache-Control") == ["no-store"]
        assert response.headers.getRawHeaders("Content-Type") == [
            "text/plain; version=0.0.4; charset=utf-8"
        ]

    def test_metrics_in_the_open_metrics_format(self) -> None:
        """`Accept` selects the format."""
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        response, content = self.send("/metrics", headers=accept)
        assert "application/openmetrics-text" in response.headers.getRawHeaders("Content-Type")[0]
        assert content.endswith(b"# EOF\n")

    def test_head_gets_the_fields(self) -> None:
        """Of each page."""
        for path in ("/metrics", "/healthz", "/readyz", "/nothing", *PARTS):
            expected, _ = self.send(path)
            response, content = self.send(path, "HEAD")
            assert (response.code, content) == (expected.code, b"")

    def test_other_methods_are_not_allowed(self) -> None:
        """`Allow` lists the methods."""
        for path in ("/metrics", "/healthz", "/readyz", *PARTS):
            for method in ("POST", "DELETE", "OPTIONS"):
                response, _ = self.send(path, method)
                assert response.code == 405
                assert response.headers.getRawHeaders("Allow") == ["GET, HEAD"]

    def test_page_links_to_all_pages(self) -> None:
        """With or without scripts."""
        response, content = self.send("/")
        assert response.code == 200
        assert response.headers.getRawHeaders("Content-Type") == ["text/html; charset=utf-8"]
        for path in (b"/metrics", b"/healthz", b"/readyz", b"/status.json"):
            assert b'href="%s"' % path in content

    def test_figures_are_json(self) -> None:
        """For the page, and for scripts."""
        response, content = self.send("/status.json?now")
        assert response.code == 200
        assert response.headers.getRawHeaders("Content-Type") == ["application/json; charset=utf-8"]
        assert json.loads(content) == {"version": "1"}

    def test_content_security_policy(self) -> None:
        """No foreign scripts, no frames, no embedding."""
        for path in PARTS:
            response, content = self.send(path)
            assert response.code == 200
            assert content
            fields = {
                name: response.headers.getRawHeaders(name)
                for name in ("X-Frame-Options", "Referrer-Policy", "X-Content-Type-Options")
            }
            assert [*fields.values()] == [["DENY"], ["no-referrer"], ["nosniff"]]
            (policy,) = response.headers.getRawHeaders("Content-Security-Policy")
            rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
            assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
            assert {rules[f"{each}-src"] for each in ("script", "style", "connect")} == {"'self'"}
            assert "unsafe" not in policy

    def test_other_paths_are_not_found(self) -> None:
        """In JSON like GitHub's, for any method."""
        for method in ("GET", "POST"):
            response, content = self.send("/metrics/x", method)
            assert response.code == 404
            assert json.loads(content)["message"] == "Not Found"

    def test_health_resource_has_no_metrics(self) -> None:
        """Only the admin listener shows them."""
        health = Health(READY)
        for path in ("/metrics", *PARTS):
            assert self.send(path, resource=health)[0].code == 404
        assert self.send("/readyz", resource=health)[0].code == 200
