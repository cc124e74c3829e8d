"""The checker finds planted wrong responses of each kind, and nothing in a right history."""

from __future__ import annotations

from typing import Any

import pytest

from tests.history.checking import Rules, check, explain, failures, first_of_each, paid_again
from tests.history.records import Exchange, History, Response, State, Trouble

THING = "/repos/o/r"
OTHER = "/repos/o/other"


class Plot:
    """A history in the making: alice and bob, THING at version 1 from 0 s, version 2 from 100 s."""

    def __init__(self) -> None:
        self.history = History()
        self.truth = self.history.truth
        for credential in ("alice", "bob"):
            self.truth.logins[credential] = credential
            self.truth.set_valid(credential, True, 0.0)
        self.truth.set_version(THING, 1, 0.0)
        self.truth.set_version(OTHER, 1, 0.0)
        self.truth.set_version(THING, 2, 100.0)
        self.numbers = 0

    def exchange(self, at: float, status: int, version: int | None = None, **more: Any) -> int:
        """GitHub responds, and so does the mirror, ten milliseconds later."""
        return self.sends(at, status, version, at + 0.001, **more)

    def sends(
        self,
        at: float,
        status: int | None,
        version: int | None = None,
        github_at: float | None = None,
        *,
        replica: str = "A",
        took: float = 0.01,
        credential: str = "alice",
        target: str = THING,
        method: str = "GET",
        github_status: int | None = None,
        **more: Any,
    ) -> int:
        """A client's request, with an exchange at *github_at* where there is one."""
        self.numbers += 1
        if github_at is not None:
            self.history.exchanges.append(
                Exchange(
                    self.numbers,
                    credential,
                    method,
                    target,
                    github_at,
                    github_at + 0.001,
                    github_status or status or 0,
                    version,
                    limited=bool(more.get("limited")),
                )
            )
        self.history.responses.append(
            Response(
                self.numbers,
                replica,
                credential,
                method,
                target,
                at,
                at + took,
                status,
                version,
                **more,
            )
        )
        return self.numbers

    def kinds(self, rules: Rules | None = None) -> list[str]:
        found = check(self.history, rules)
        for each in found:
            assert explain(each, self.history)
        return [each.kind for each in found]


@pytest.fixture
def plot() -> Plot:
    return Plot()


def test_states_during_an_interval() -> None:
    plot = Plot()
    plot.truth.set_access(THING, "alice", 404, 50.0)
    plot.truth.set_valid("alice", False, 150.0)
    states = plot.truth.states
    assert states("alice", THING, 10.0, 20.0) == {State(200, 1)}
    assert states("alice", THING, 49.0, 51.0) == {State(200, 1), State(404)}
    assert states("bob", THING, 99.0, 100.0) == {State(200, 1), State(200, 2)}
    assert states("alice", THING, 149.0, 150.0) == {State(404), State(401)}
    assert states("mallory", THING, 1.0, 2.0) == {State(401)}
    assert states("bob", "/nowhere", 1.0, 2.0) == {State(404)}


def test_consistent_history_has_no_findings(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1, tagged=1)
    plot.exchange(99.995, 200, 1)
    plot.exchange(99.995, 200, 2)
    plot.exchange(110.0, 304, 2, tagged=2)
    plot.sends(111.0, 200, 2, marked="stale", age=1)
    plot.truth.set_access(THING, "alice", 403, 120.0)
    plot.sends(119.0, 200, 2, marked="stale", age=9)
    plot.exchange(121.0, 403)
    plot.exchange(122.0, 404, target="/nowhere")
    plot.sends(123.0, 503)
    assert plot.kinds() == []


# ---------------------------------------------------------------- not marked


def test_earlier_version_is_found(plot: Plot) -> None:
    plot.sends(101.0, 200, 1)
    plot.sends(101.0, 304, 1)
    assert plot.kinds() == ["unmarked content that was not current"] * 2


def test_later_version_is_found(plot: Plot) -> None:
    plot.sends(99.0, 200, 2)
    assert plot.kinds() == ["unmarked content that was not current"]


def test_shared_flight_may_return_a_version_that_just_ended(plot: Plot) -> None:
    plot.sends(100.09, 200, 1)
    assert plot.kinds() == []
    assert plot.kinds(Rules(joined_s=0.05)) == ["unmarked content that was not current"]


def test_content_after_the_end_of_access_is_found(plot: Plot) -> None:
    plot.truth.set_access(THING, "alice", 404, 110.0)
    plot.sends(111.0, 200, 2)
    assert plot.kinds() == ["unmarked content that was not visible"]


def test_content_for_a_revoked_credential_is_found(plot: Plot) -> None:
    plot.truth.set_valid("alice", False, 110.0)
    plot.sends(111.0, 200, 2)
    assert plot.kinds() == ["unmarked content that was not visible"]


def test_version_and_access_must_overlap_in_time(plot: Plot) -> None:
    """The version was current and the target was visible, but not at the same moment."""
    plot.truth.set_access(THING, "alice", 404, 99.0)
    plot.truth.set_access(THING, "alice", 200, 101.0)
    plot.sends(98.0, 200, 2, took=2.5)
    assert plot.kinds() == ["unmarked content that was not current"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusal_that_was_not_in_force_is_found(plot: Plot, status: int) -> None:
    plot.sends(10.0, status)
    assert plot.kinds() == [f"{status}, which was not in force"]


def test_refusal_after_its_end_is_found(plot: Plot) -> None:
    plot.truth.set_access(THING, "alice", 404, 10.0)
    plot.truth.set_access(THING, "alice", 200, 20.0)
    plot.sends(19.0, 404)
    plot.sends(21.0, 404)
    assert plot.kinds() == ["404, which was not in force"]


def test_read_after_an_own_write_is_checked(plot: Plot) -> None:
    plot.exchange(99.995, 200, 2, method="PATCH", took=0.02)
    plot.sends(100.02, 200, 1)
    plot.sends(100.02, 200, 1, credential="bob")
    assert plot.kinds() == ["unmarked content from before the own last write"]


# ---------------------------------------------------------------- what a response holds


def test_invented_content_is_found(plot: Plot) -> None:
    plot.sends(10.0, 200, None)
    assert plot.kinds() == ["content that GitHub never sent"]


def test_tag_of_other_content_is_found(plot: Plot) -> None:
    plot.sends(10.0, 200, 1, tagged=2)
    plot.sends(11.0, 200, 1, tagged=0)
    assert plot.kinds() == ["the entity-tag is that of other content"] * 2


def test_content_of_another_user_is_found(plot: Plot) -> None:
    plot.sends(10.0, 200, 1, viewer="bob")
    assert plot.kinds() == ["content of another user"]


def test_unknown_status_is_found(plot: Plot) -> None:
    plot.sends(10.0, 418)
    assert plot.kinds() == ["a status that GitHub never sends"]


def test_negative_age_is_found(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.sends(11.0, 200, 1, marked="stale", age=-119)
    assert plot.kinds() == ["Age is negative"]


# ---------------------------------------------------------------- marked


def test_stale_response_without_a_grant_is_found(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1, credential="bob")
    plot.sends(20.0, 200, 1, marked="stale")
    assert plot.kinds() == ["stale content that was never granted"]


def test_stale_response_of_another_version_is_found(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.sends(101.0, 200, 2, marked="stale")
    assert plot.kinds() == ["stale content that was never granted"]


def test_304_is_a_grant(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1, github_status=304)
    plot.sends(101.0, 200, 1, marked="stale")
    assert plot.kinds() == []


@pytest.mark.parametrize(("status", "what"), [(404, "refused"), (403, "refused"), (401, "revoked")])
def test_stale_response_after_a_refusal_is_found(plot: Plot, status: int, what: str) -> None:
    plot.exchange(10.0, 200, 1)
    plot.truth.set_access(THING, "alice", status, 20.0)
    plot.history.exchanges.append(Exchange(99, "alice", "GET", THING, 21.0, 21.0, status))
    plot.sends(21.0, status, took=0.01)
    plot.history.exchanges[-1] = Exchange(2, "alice", "GET", THING, 21.0, 21.0, status)
    plot.truth.set_access(THING, "alice", status, 20.0)
    plot.sends(21.3, 200, 1, marked="stale")
    plot.sends(22.0, 200, 1, marked="stale")
    plot.sends(22.0, 200, 1, marked="stale", credential="bob", github_at=12.0)
    kinds = [kind for kind in plot.kinds() if kind.startswith("stale")]
    assert kinds == [f"stale content after it was {what}"]


def test_refusal_through_a_replica_that_is_cut_off(plot: Plot) -> None:
    """Others need not know it while it is cut off, nor for a moment after that; it does."""
    plot.history.troubles.append(Trouble("partition", "redis", 20.0, 30.0, alone="B"))
    plot.truth.set_access(THING, "alice", 404, 24.0)
    plot.exchange(10.0, 200, 1)
    plot.exchange(25.0, 404, replica="B")
    plot.sends(28.0, 200, 1, marked="stale")
    plot.sends(31.0, 200, 1, marked="stale")
    assert plot.kinds() == []
    plot.sends(28.0, 200, 1, marked="stale", replica="B")
    plot.sends(40.0, 200, 1, marked="stale")
    assert plot.kinds() == ["stale content after it was refused"] * 2


def test_refusal_through_a_replica_that_is_killed_while_it_is_cut_off(plot: Plot) -> None:
    """It is lost, also for the replica itself, until another one receives it."""
    plot.history.troubles.append(
        Trouble("cut-off-killed", "redis", 20.0, 30.0, replica="B", alone="B")
    )
    plot.truth.set_access(THING, "alice", 404, 24.0)
    plot.exchange(10.0, 200, 1)
    plot.exchange(25.0, 404, replica="B")
    plot.sends(40.0, 200, 1, marked="stale")
    plot.sends(40.0, 200, 1, marked="stale", replica="B")
    assert plot.kinds() == []
    plot.sends(28.0, 200, 1, marked="stale", replica="B")
    plot.exchange(50.0, 404)
    plot.sends(60.0, 200, 1, marked="stale", replica="B")
    assert plot.kinds() == ["stale content after it was refused"] * 2


def test_refusal_through_a_replica_that_is_killed_later_is_not_lost(plot: Plot) -> None:
    """It could reach Redis before, or was not cut off."""
    plot.history.troubles.append(Trouble("partition", "redis", 20.0, 30.0, alone="B"))
    plot.history.troubles.append(Trouble("replica-killed", "replica", 60.0, 61.0, replica="B"))
    plot.truth.set_access(THING, "alice", 404, 24.0)
    plot.exchange(10.0, 200, 1)
    plot.exchange(25.0, 404, replica="B")
    plot.sends(62.0, 200, 1, marked="stale")
    assert plot.kinds() == ["stale content after it was refused"]


def test_401_to_any_target_ends_grants(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.truth.set_valid("alice", False, 20.0)
    plot.exchange(21.0, 401, target=OTHER)
    plot.sends(22.0, 200, 1, marked="stale")
    assert plot.kinds() == ["stale content after it was revoked"]


def test_404_ends_only_its_own_grant(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.truth.set_access(OTHER, "alice", 404, 20.0)
    plot.truth.set_access(THING, "bob", 404, 20.0)
    plot.exchange(21.0, 404, target=OTHER)
    plot.exchange(21.0, 404, credential="bob")
    plot.sends(22.0, 200, 1, marked="stale")
    assert plot.kinds() == []


def test_refusal_that_no_client_received_ends_no_grant(plot: Plot) -> None:
    """The replica may have been killed before it received the refusal."""
    plot.exchange(10.0, 200, 1)
    plot.truth.set_access(THING, "alice", 404, 20.0)
    plot.sends(21.0, None, None, 21.001, github_status=404)
    plot.sends(22.0, 200, 1, marked="stale")
    assert plot.kinds() == []


def test_grant_after_a_refusal_allows_stale_responses(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.truth.set_access(THING, "alice", 404, 20.0)
    plot.exchange(21.0, 404)
    plot.truth.set_access(THING, "alice", 200, 30.0)
    plot.exchange(31.0, 200, 1)
    plot.sends(32.0, 200, 1, marked="stale")
    assert plot.kinds() == []


def test_rate_limit_is_no_refusal(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.exchange(20.0, 403, limited=True)
    plot.sends(22.0, 200, 1, marked="stale")
    assert plot.kinds() == []


def test_stale_response_from_before_an_own_write_is_found(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.exchange(10.0, 200, 1, credential="bob")
    plot.exchange(20.0, 200, 1, method="PATCH", target=OTHER)
    plot.sends(22.0, 200, 1, marked="stale")
    plot.sends(22.0, 200, 1, marked="stale", credential="bob")
    plot.exchange(23.0, 200, 1)
    plot.sends(24.0, 200, 1, marked="stale")
    assert plot.kinds() == ["stale content from before the own last write"]


def test_write_in_flight_does_not_end_a_grant(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.exchange(20.0, 200, 1, method="PATCH", target=OTHER, took=3.0)
    plot.sends(22.0, 200, 1, marked="stale")
    assert plot.kinds() == []


def test_fresh_for(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.sends(14.0, 200, 1, marked="fresh")
    assert plot.kinds(Rules(fresh_for_s=5.0)) == []
    assert plot.kinds(Rules(fresh_for_s=3.0)) == ["content that is no longer fresh"]


def test_negative_for(plot: Plot) -> None:
    plot.exchange(10.0, 404, target="/nowhere")
    plot.sends(14.0, 404, target="/nowhere", marked="negative")
    assert plot.kinds(Rules(negative_for_s=5.0)) == []
    assert plot.kinds() == ["a refusal that GitHub did not send lately"]


def test_stale_refusal_is_found(plot: Plot) -> None:
    plot.sends(14.0, 404, marked="stale")
    assert plot.kinds() == ["a refusal that is marked as stale"]


# ---------------------------------------------------------------- writes


def test_refused_write_needs_a_reason(plot: Plot) -> None:
    plot.sends(10.0, 404, method="PATCH")
    assert plot.kinds() == ["a write's 404, which was not in force"]


def test_repeated_write_is_found(plot: Plot) -> None:
    number = plot.exchange(10.0, 200, 1, method="PATCH")
    again = Exchange(number, "alice", "PATCH", THING, 10.005, 10.006, 200, 1)
    plot.history.exchanges.append(again)
    assert plot.kinds() == ["a write that GitHub received more than once"]


# ---------------------------------------------------------------- what failed, and what was paid


def test_failed_requests_are_attributed_to_faults(plot: Plot) -> None:
    plot.exchange(1.0, 200, 1)
    plot.history.troubles = [
        Trouble("github-503", "github", 10.0, 20.0),
        Trouble("redis-killed", "redis", 30.0, 40.0),
        Trouble("replica-killed", "replica", 50.0, 51.0, "A"),
    ]
    plot.sends(15.0, 503, credential="bob")
    plot.sends(16.0, 503)
    plot.sends(21.0, 403, limited=True, credential="bob")
    plot.sends(35.0, 503)
    plot.sends(50.5, None)
    plot.sends(60.0, None)
    found = failures(plot.history)
    assert [each.sent_at for each in found.github] == [15.0, 21.0]
    assert [each.sent_at for each in found.could_be_stale] == [16.0]
    assert [each.sent_at for each in found.ours] == [35.0, 60.0]


def test_fault_of_github_lasts_into_the_next_episode(plot: Plot) -> None:
    plot.history.earlier = [
        Trouble("github-hang", "github", 10.0, 20.0),
        Trouble("redis-killed", "redis", 10.0, 30.0),
    ]
    plot.sends(21.0, 503)
    plot.sends(29.0, 503)
    found = failures(plot.history)
    assert [each.sent_at for each in found.github] == [21.0]
    assert [each.sent_at for each in found.ours] == [29.0]


def test_no_stale_response_is_possible_after_a_write_or_a_refusal(plot: Plot) -> None:
    plot.history.troubles = [Trouble("github-503", "github", 10.0, 20.0)]
    plot.exchange(1.0, 200, 1)
    plot.exchange(2.0, 503, method="PATCH", target=OTHER)
    plot.exchange(1.0, 200, 1, credential="bob")
    plot.exchange(3.0, 404, credential="bob")
    plot.sends(15.0, 503)
    plot.sends(15.0, 503, credential="bob")
    assert failures(plot.history).could_be_stale == []


def test_repeated_charge_is_found(plot: Plot) -> None:
    plot.exchange(10.0, 200, 1)
    plot.exchange(10.1, 200, 1, credential="bob")
    plot.exchange(11.0, 200, 1, github_status=304)
    plot.exchange(101.0, 200, 2)
    plot.exchange(11.0, 200, 1, target="/user/own")
    plot.exchange(12.0, 200, 1, target="/user/own", credential="bob")
    assert paid_again(plot.history) == 0
    plot.exchange(12.0, 200, 1, credential="bob")
    assert paid_again(plot.history) == 1


def test_findings_are_counted_by_kind(plot: Plot) -> None:
    plot.history.troubles = [Trouble("redis-killed", "redis", 100.5)]
    plot.history.notes = [(100.7, "B is cut off")]
    plot.exchange(10.0, 200, 1)
    plot.sends(101.0, 200, 1)
    plot.sends(102.0, 200, 1)
    plot.sends(101.0, 404)
    found = first_of_each(check(plot.history))
    assert [(each.kind, count) for each, count in found] == [
        ("unmarked content that was not current", 2),
        ("404, which was not in force", 1),
    ]
    shown = explain(found[0][0], plot.history)
    assert "GET /repos/o/r by alice through A -> 200 version 1" in shown
    assert "-1.000 GitHub: /repos/o/r has version 2" in shown
    assert "A -> GitHub: GET /repos/o/r -> 200 version 1" in shown
    assert "fault begins: redis-killed" in shown
    assert "B is cut off" in shown
