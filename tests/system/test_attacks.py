"""Attacks on a real mirror end with its memory and descriptors where they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.attacks import ATTACKS, BadServer, Victim, opened, sections, settled
from tests.harness.bulk_streams import watched
from tests.harness.running import BlockingMirror

#: By how much memory may grow, in bytes.
MOST = 64 << 20


@pytest.fixture(scope="module")
def github() -> Iterator[BadServer]:
    """Return a server with harmful responses."""
    with BadServer() as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_well_behaved_client_is_served_during_an_attack(name: str, github: BadServer) -> None:
    """Each attack runs alone; a well-behaved client receives all of its responses."""
    attack, _, times = ATTACKS[name]
    with BlockingMirror(sections(github.url)) as mirror:
        where = (mirror.pid, mirror.url, mirror.admin_url)
        assert Victim(mirror.url).send().startswith("HTTP/1.1 200")
        before = opened(*where)
        with Victim(mirror.url) as victim, watched(mirror.pid) as seen:
            attack(mirror.url, times)
        after = settled(*where, before)
        assert after.held == 0
        assert after.descriptors <= before.descriptors
        assert seen.grown < MOST
        assert victim.failed == []
        assert "Traceback" not in mirror.log_text
