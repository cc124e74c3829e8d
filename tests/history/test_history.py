"""About a minute of chaos, with a fixed seed; ``make chaos`` runs as long as one likes."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.history.chaos import Chaos, Plan, name_of, plans_of
from tests.history.faults import FAULTS, GITHUB
from tests.history.fleet import SHAPES

SEED = 1
PLANS: dict[str, tuple[Plan, ...]] = {
    "single": (
        (),
        ("redis-killed",),
        ("redis-paused",),
        ("partition",),
        ("replica-stopped", "github-reset"),
        ("redis-flushed", "github-503"),
        ("rolling-restart", "github-truncate"),
        ("github-secondary-limit",),
        ("cut-off-killed", "github-503"),
    ),
    "fresh": (("partition",),),
    "reader": (("reader-lags", "github-503"),),
    "snapshots": (("redis-killed",), ("github-slow",)),
}


@pytest.mark.parametrize("shape", PLANS)
def test_each_response_is_consistent_with_the_history(shape: str) -> None:
    # a timeout that a busy machine does not reach
    chaos = Chaos(SEED, timeout_s=30.0)
    asyncio.run(chaos.run(shape, PLANS[shape], 3, monotonic() + 600.0))
    report = f"{chaos.report()}\n{chaos.table()}"
    assert not chaos.findings, report
    assert not chaos.failed, report
    assert set(chaos.rows) == set(PLANS[shape]), report
    assert sum(row.requests for row in chaos.rows.values()) > 50 * len(PLANS[shape]), report


def test_each_fault_is_in_a_plan() -> None:
    planned = {name for shape in SHAPES for plan in plans_of(shape) for name in plan}
    assert planned == set(FAULTS)
    assert all(FAULTS[name].side == "github" for name in GITHUB)
    assert name_of(()) == "none"
    assert name_of(("redis-killed", "github-503")) == "redis-killed + github-503"
