"""The status document of a mirror has its events, and nothing confidential."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw import __version__
from ghmirror_tw.github.reported_limit import Limit, LimitKind
from ghmirror_tw.runtime.independent_evidence import Observation
from ghmirror_tw.upstream.limits_in_force import LimitCheck
from tests.harness.home import Home, open_github, open_home, until
from tests.harness.redis_servers import free_port, start_redis


async def figures(home: Home) -> Any:
    """Return what is shown, as anybody gets it."""
    return (await home.admin("/status.json")).json


class FiguresTests(TestCase):
    """`/status.json` of a mirror with real traffic behind it."""

    async def test_document_without_requests(self) -> None:
        """Nothing is nothing, never a number that isn't one."""
        home = await open_home(self)
        shown = await figures(home)
        assert shown["version"] == __version__
        assert shown["state"] == "ready"
        assert shown["started_at"] <= shown["at"]
        assert shown["requests"] == {"total": 0, "outcomes": {}}
        assert shown["hour"]["outcomes"] == {}
        assert (shown["hour"]["requests"], shown["in_flight"], shown["collapsed"]) == (0, 0, 0)
        assert shown["quota"] == {"spent": 0, "saved": 0, "users": [], "remaining": []}
        assert shown["paths"]["busiest"] == shown["paths"]["paid"] == shown["stops"] == []
        assert shown["snapshots"] is None
        nothing = {"count": 0, "p50": None, "p90": None, "p95": None, "p99": None}
        for what in ("requests", "github", "store"):
            assert shown["latencies"][what] == {"5m": nothing, "1h": nothing}
        assert shown["github"]["available"] is True
        assert shown["github"]["page"] is None
        assert shown["sharing"] == {"wanted": True, "enabled": True, "lists": True}

    async def test_sums_agree(self) -> None:
        """Payments, free responses, outcomes, durations and targets."""
        home = await open_home(self)
        home.github.put("/repos/o/r", {"a": 1})
        for login in ("alice", "bob"):
            await home.get("/user", token=f"{login}-1")
            await home.get("/repos/o/r?page=1", token=f"{login}-1")
        await home.get("/repos/o/r?page=1", token="bob-1")
        await home.get("/repos/o/r?page=1", token="bob-1")
        shown = await figures(home)
        outcomes = {"miss": 2, "changed": 1, "shared": 1, "revalidated": 2}
        assert shown["requests"] == {"total": 6, "outcomes": outcomes}
        hour = shown["hour"]
        assert (hour["requests"], hour["outcomes"]) == (6, outcomes)
        assert (hour["spent"], hour["saved"]) == (3, 3)
        assert sum(sum(each["outcomes"].values()) for each in hour["minutes"]) == 6
        quota = shown["quota"]
        assert (quota["spent"], quota["saved"]) == (3, 3)
        by_user = {each["user"]: (each["spent"], each["saved"]) for each in quota["users"]}
        assert sum(spent for spent, _ in by_user.values()) == 3
        assert by_user["bob"][1] == 3
        left = {each["user"]: each for each in quota["remaining"]}
        assert left["bob"]["resource"] == "core"
        assert left["bob"]["remaining"] == home.github.quota("bob").remaining
        assert left["bob"]["limit"] == home.github.quota("bob").limit == 5000
        assert left["bob"]["resets_at"] == home.github.quota("bob").reset
        # GitHub has checked two credentials as well.
        for what, count in (("requests", 6), ("github", 8)):
            fields = shown["latencies"][what]["5m"]
            assert fields["count"] == count
            assert 0 < fields["p50"] <= fields["p90"] <= fields["p95"] <= fields["p99"]
        assert shown["latencies"]["store"]["1h"]["count"] > 0
        assert [each["path"] for each in shown["paths"]["busiest"]] == ["/repos/o/r", "/user"]
        assert shown["paths"]["busiest"][0]["share"] == 0.6667
        (store,) = shown["store"]["stores"]
        assert (store["store"], store["representations"], store["grants"]) == ("memory", 3, 4)
        assert shown["store"]["backend"] == "memory"
        assert store["bytes"] < shown["store"]["limit"]

    async def test_paths_are_bounded_and_without_secrets(self) -> None:
        """Neither queries nor what looks like a token is shown; of long paths the beginning is."""
        home = await open_home(self)
        await home.get("/search/issues?q=secret-plan", token="alice-1")
        await home.get("/x/ghp_0123456789abcdefghijABCDEFGHIJ012345", token="alice-1")
        await home.get("/" + "long/" * 100, token="alice-1")
        shown = [each["path"] for each in (await figures(home))["paths"]["busiest"]]
        assert max(map(len, shown)) == 200
        assert {"/search/issues", "/x/***"} < set(shown)

    async def test_paid_requests_are_shown_by_operation(self) -> None:
        """The operations that were charged, without names, free requests and secrets."""
        home = await open_home(self)
        for repository in ("o/one", "o/two", "p/one"):
            home.github.put(f"/repos/{repository}", {"a": 1})
        for repository in ("o/one", "o/two", "p/one", "o/one"):
            await home.get(f"/repos/{repository}", token="alice-1")
        await home.get("/app-manifests/secretcode/conversions", token="alice-1")
        shown = (await figures(home))["paths"]["paid"]
        assert shown == [
            {"operation": "GET /repos/*/*", "share": 0.75, "error": 0.0},
            {"operation": "GET /app-manifests/*/conversions", "share": 0.25, "error": 0.0},
        ]

    async def test_limits_are_shown_by_login_only(self) -> None:
        """Until when which limit holds; a credential without a login is `unknown`."""
        home = await open_home(self)
        await home.get("/user", token="alice-1")
        home.github.set_quota("alice", remaining=0, resource="search")
        home.github.put_search("/search/issues", [])
        assert (await home.get("/search/issues?q=1", token="alice-1")).status == 403
        now = home.parts.reactor.seconds()
        limits = home.parts.mirror.sender.limits
        name = home.parts.mirror.credentials.names.name
        until_ = round(now) + 600.0
        for token in (b"token bob-1", b"token bob-2", b"token carol-1"):
            limits.merge(name(token), [Limit(LimitKind.SECONDARY, "", until_)], now)
        shown = await figures(home)
        secondary, primary = shown["stops"]
        if primary["kind"] != "primary":
            secondary, primary = primary, secondary
        assert (primary["user"], primary["resource"]) == ("alice", "search")
        assert primary["until"] > now
        assert secondary == {
            "user": "unknown",
            "kind": "secondary",
            "resource": None,
            "until": until_,
            "credentials": 3,
        }
        fields = json.dumps(shown)
        for login in ("alice-1", "bob-1"):
            assert login not in fields
            assert name(b"token " + login.encode()) not in fields

    async def test_expired_limit_is_not_shown(self) -> None:
        """Even before a request has tested that."""
        home = await open_home(self)
        now = home.parts.reactor.seconds()
        limits = home.parts.mirror.sender.limits
        limits.merge("octocat", [Limit(LimitKind.PRIMARY, "core", now + 60.0)], now)
        assert limits.in_force(now + 61.0) == []
        assert limits.has_any("octocat", ("core",))
        assert isinstance(limits.check("octocat", ("core",), now + 61.0), LimitCheck)

    async def test_unavailable_github(self) -> None:
        """From GitHub's responses; and the page's own words, with the time of the last look."""
        home = await open_home(self, github={"status_url": "http://127.0.0.1:1/components.json"})
        assert (await figures(home))["github"]["page"] == {"status": None, "at": None}
        home.parts.github_breaker.note_page_status("major_outage", 5.0)
        home.parts.github_breaker.note_failure(Observation("/a", "alice"), 6.0, 6.0, 503)
        assert (await figures(home))["github"] == {
            "api_url": home.github.api_url,
            "available": False,
            "reason": "status-page:major_outage",
            "failures": 1,
            "page": {"status": "major_outage", "at": 5.0},
        }

    async def test_disabled_sharing(self) -> None:
        """As the configuration has it."""
        home = await open_home(self, cache={"share": False})
        assert (await figures(home))["sharing"]["wanted"] is False
        assert (await figures(home))["sharing"]["enabled"] is False

    async def test_redis_and_its_circuit_breaker(self) -> None:
        """Whether it can be read and written, and its replacement where it cannot."""
        redis = start_redis(self)
        home = await open_home(
            self,
            cache={"backend": "redis"},
            redis={"url": f"redis://127.0.0.1:{redis.port}"},
        )
        failover = home.parts.redis
        assert failover is not None
        fields = failover.figures
        await until(lambda: fields.used_bytes is not None)
        store = (await figures(home))["store"]
        assert (store["backend"], store["available"]) == ("redis", True)
        nothing = dict.fromkeys(("address", "reason", "since"))
        working = {"reading": True, "writing": True, "fallback": True}
        assert store["breaker"] == {**working, **nothing}
        assert [each["store"] for each in store["stores"]] == ["memory", "redis"]
        redis.kill()
        await home.get("/user", token="alice-1")
        await until(lambda: not failover.available)
        shown = await figures(home)
        store, breaker = shown["store"], shown["store"]["breaker"]
        assert store["available"] is False
        assert not (breaker["reading"] and breaker["writing"])
        assert breaker["address"] == f"127.0.0.1:{redis.port}"
        assert "onnection" in breaker["reason"]
        assert shown["started_at"] <= breaker["since"] <= shown["at"]
        assert shown["state"] == "degraded"
        assert (await home.admin("/readyz")).content == b"ready\n"

    async def test_redis_that_was_never_reached(self) -> None:
        """It is unavailable since the start; the URL's password is not shown."""
        port = free_port()
        url = f"redis://user:hunter2@127.0.0.1:{port}"
        home = await open_home(self, cache={"backend": "redis"}, redis={"url": url})
        shown = await figures(home)
        breaker = shown["store"]["breaker"]
        assert (breaker["address"], shown["state"]) == (f"127.0.0.1:{port}", "degraded")
        assert "refused" in breaker["reason"]
        assert breaker["since"] <= shown["at"]
        assert "hunter2" not in json.dumps(shown)

    async def test_mirror_that_is_not_ready(self) -> None:
        """The reason comes before unavailable servers."""
        home = await open_home(self)
        home.parts.github_breaker.note_page_status("major_outage", 5.0)
        home.parts.github_breaker.note_failure(Observation("/a", "alice"), 6.0, 6.0, 503)
        assert (await figures(home))["state"] == "degraded"
        home.parts.readiness.stopping = True
        assert (await figures(home))["state"] == "stopping"

    async def test_snapshots(self) -> None:
        """Their targets, the last operations, and the time of the next one."""
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        target = Path(made.name).as_uri()
        home = await open_home(self, snapshot={"target": target, "interval": 3600.0})
        snapshots = home.parts.snapshots
        assert snapshots is not None
        await until(lambda: not snapshots.barrier.is_shut)
        shown = (await figures(home))["snapshots"]
        assert (shown["target"], shown["interval"], shown["filling"]) == (target, 3600.0, False)
        assert shown["next_at"] > home.parts.reactor.seconds() + 3000.0
        unknown = dict.fromkeys(("at", "seconds", "bytes", "records", "error"))
        nothing = {**unknown, "failures": 0}
        assert (shown["foreign"], shown["foreign_option"]) == (0, None)
        assert shown["save"] == shown["restore"] == nothing
        home.github.put("/thing", {"a": 1})
        await home.get("/thing", token="alice-1")
        (schedule,) = snapshots.schedules
        assert schedule.due_at == shown["next_at"]
        due = [
            each
            for each in home.parts.reactor.getDelayedCalls()
            if each.getTime() == schedule.due_at
        ]
        due[0].reset(0)
        await until(lambda: (schedule.due_at or 0.0) > shown["next_at"] and not schedule.running)
        shown = (await figures(home))["snapshots"]
        assert shown["save"]["records"] > 0
        assert shown["save"]["bytes"] > 0
        assert shown["save"]["at"] <= home.parts.reactor.seconds()
        assert shown["next_at"] > home.parts.reactor.seconds() + 3000.0

    async def test_nothing_is_saved_before_the_restore(self) -> None:
        """The document has that, until the target can be read; then the error is over."""
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        folder = Path(made.name) / "copies"
        folder.write_text("no folder")
        home = await open_home(self, snapshot={"target": folder.as_uri(), "interval": 3600.0})
        snapshots = home.parts.snapshots
        assert snapshots is not None
        await until(lambda: bool(home.parts.metrics.snapshot_errors))
        shown = (await figures(home))["snapshots"]
        assert shown["restoring"] is True
        assert "copies" in shown["restore"]["error"]
        await home.get("/user", token="alice-1")
        assert await snapshots.saver.save() is None
        folder.unlink()
        await until(lambda: not snapshots.restorer.is_running)
        shown = (await figures(home))["snapshots"]
        assert shown["restoring"] is False
        assert (shown["restore"]["failures"], shown["restore"]["error"]) == (1, None)
        assert await snapshots.saver.save() is not None

    async def test_mirrors_of_one_github_have_separate_figures(self) -> None:
        """Each mirror has its own figures, independent of other clients of that GitHub."""
        github = await open_github(self)
        one, other = await open_home(self, github), await open_home(self, github)
        await one.get("/user", token="alice-1")
        assert (await figures(one))["requests"]["total"] == 1
        assert (await figures(other))["requests"]["total"] == 0
