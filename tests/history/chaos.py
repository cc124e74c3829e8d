"""A fleet under load while Redis, replicas, clocks and GitHub fail; every response is checked.

    python -m tests.history.chaos --seconds 600 --seed 1

Each episode has credentials of its own. At first all of them read everything. Then contents change,
access is withdrawn and granted again, credentials are revoked, clients write, and read what they
wrote through other replicas; meanwhile one fault occurs, or two at a time. At the end of an episode
its whole history is checked; see `tests.history.checking` for what a right response is.

The exit status is 1 if a response was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections.abc import Sequence
from itertools import product
from time import monotonic
from typing import Final

from attrs import define, evolve, field

from tests.history.checking import (
    Finding,
    Rules,
    check,
    explain,
    failures,
    first_of_each,
    paid_again,
)
from tests.history.episode import OWN, Episode
from tests.history.faults import FAULTS, GITHUB, OURS
from tests.history.fleet import FRESH_FOR_S, SHAPES, open_fleet
from tests.history.github import GitHub
from tests.history.records import History, Response

#: The faults of an episode by name: ours in the order in which they begin, then GitHub's.
Plan = tuple[str, ...]

#: Faults of ours that meet: what one replica alone knows is lost with it.
_TOGETHER: Final = (
    ("rolling-restart", "redis-older-copy"),
    ("redis-older-copy", "replica-killed"),
    ("redis-paused", "replica-killed"),
    ("redis-paused", "replica-stopped"),
    ("redis-slow", "replica-killed"),
    ("partition", "redis-flushed"),
    ("partition", "replica-killed"),
    ("redis-full", "replica-killed"),
    ("redis-full", "replica-stopped"),
    ("redis-evicts", "replica-killed"),
    ("redis-paused", "clock-jumps"),
    ("clock-ahead", "redis-older-copy"),
)
#: With these, stale responses are sent at once, and to all.
_MOST_FREQUENT: Final = ("github-502", "github-503", "github-secondary-limit")


@define
class Row:
    """The results of all episodes with the same faults."""

    episodes: int = 0
    requests: int = 0
    of_github: int = 0
    could_be_stale: int = 0
    ours: int = 0
    stale: int = 0
    wrong: int = 0
    worst_s: float = 0.0
    paid: int = 0
    recovery_s: float = 0.0
    seeds: list[str] = field(factory=list)


@define(eq=False)
class Chaos:
    """A series of episodes, and their results.

    *timeout_s* is the mirrors' `[github] timeout`.
    """

    seed: int
    timeout_s: float = 2.0
    rules: Rules = field(factory=Rules)
    rows: dict[Plan, Row] = field(factory=dict)
    findings: list[tuple[Finding, History, str]] = field(factory=list)
    failed: list[tuple[Response, History, str]] = field(factory=list)
    episodes: int = 0
    logs: list[str] = field(factory=list)

    async def run(self, shape: str, plans: Sequence[Plan], replicas: int, until: float) -> None:
        """Run episodes with one fleet, one for each plan, until the time is over."""
        of_github = random.Random(f"{self.seed} {shape}")
        github = GitHub(History(), monotonic, of_github, frozenset(OWN))
        options = {"github": {"timeout": f"{self.timeout_s:g}s"}}
        await github.open()
        try:
            async with open_fleet(shape, github.url, replicas, options) as fleet:
                rounds = max(len(set(plans)), 1)
                for number, plan in enumerate(plans):
                    if monotonic() > until:
                        break
                    name = f"{self.seed} {shape} {name_of(plan)} {number // rounds}"
                    rng = random.Random(name)
                    history = History(earlier=github.history.troubles)
                    episode = Episode(fleet, github, rng, self.timeout_s + 10.0, history)
                    await self._episode(episode, plan, name)
                self.logs.extend(replica.log_text for replica in fleet.replicas)
        finally:
            await github.close()

    async def _episode(self, episode: Episode, plan: Plan, name: str) -> None:
        made = [
            FAULTS[each](episode.fleet, episode.github, episode.rng, episode.note) for each in plan
        ]
        self.episodes += 1
        episode.begin(self.episodes)
        await episode.run(made)
        history = episode.history
        row = self.rows.setdefault(plan, Row())
        fresh_for_s = FRESH_FOR_S if episode.fleet.shape == "fresh" else 0.0
        rules = evolve(self.rules, fresh_for_s=fresh_for_s)
        found = check(history, rules)
        failed = failures(history, rules)
        row.episodes += 1
        row.requests += len(history.responses)
        row.of_github += len(failed.github)
        row.could_be_stale += len(failed.could_be_stale)
        row.ours += len(failed.ours)
        row.stale += sum(each.marked == "stale" for each in history.responses)
        row.wrong += len(found)
        took = [each.received_at - each.sent_at for each in history.responses]
        row.worst_s = max(row.worst_s, *took)
        row.paid += paid_again(history)
        row.recovery_s = max(row.recovery_s, episode.recovery_s())
        if found:
            row.seeds.append(name)
        self.findings.extend((each, history, name) for each in found)
        self.failed.extend((each, history, name) for each in failed.ours)

    def table(self) -> str:
        """Return the results of each plan, as text."""
        head = (
            f"{'faults':44}{'episodes':>9}{'requests':>9}{'GitHub':>8}{'granted':>8}{'ours':>6}"
            f"{'stale':>7}{'wrong':>7}{'worst s':>9}{'paid':>6}{'recovery s':>11}"
        )
        lines = [head]
        for plan, row in sorted(self.rows.items(), key=lambda each: name_of(each[0])):
            lines.append(
                f"{name_of(plan):44}{row.episodes:>9}{row.requests:>9}{row.of_github:>8}"
                f"{row.could_be_stale:>8}{row.ours:>6}{row.stale:>7}{row.wrong:>7}"
                f"{row.worst_s:>9.2f}{row.paid:>6}{row.recovery_s:>11.1f}"
            )
        lines.append(
            "failed requests: GitHub = by its fault, granted = by its fault though a stale"
            " response was possible, ours = while GitHub was well"
        )
        return "\n".join(lines)

    def report(self, most: int = 3) -> str:
        """Return histories of wrong responses, and of requests that failed by our fault."""
        lines = []
        by_episode: dict[str, list[tuple[Finding, History]]] = {}
        for finding, history, name in self.findings:
            by_episode.setdefault(name, []).append((finding, history))
        for name, found in by_episode.items():
            for finding, count in first_of_each(each for each, _ in found)[:most]:
                lines.append(f"WRONG in episode {name}, {count} like it: ")
                lines.append(explain(finding, found[0][1]))
        failed = {name: (response, history) for response, history, name in self.failed}
        for name, (response, history) in failed.items():
            shown = explain(Finding("FAILED", response), history)
            lines.append(f"By our fault in episode {name}:\n{shown}")
        return "\n".join(lines)


def name_of(plan: Plan) -> str:
    """Return the names of a plan's faults."""
    return " + ".join(plan) or "none"


def plans_of(shape: str) -> list[Plan]:
    """Return all plans for a way in which Redis is set up: faults alone, and two at a time."""
    ours: list[Plan] = [(name,) for name, fault in OURS.items() if shape in fault.shapes]
    own = [plan for plan in ours if FAULTS[plan[0]].shapes == (shape,)]
    if own:
        return [*ours, *((*plan, name) for plan, name in product(own, GITHUB))]
    pairs = [pair for pair in _TOGETHER if all(shape in FAULTS[name].shapes for name in pair)]
    together: list[Plan] = [(*plan, name) for plan, name in product(pairs, _MOST_FREQUENT)]
    alone: list[Plan] = [(), *ours, *((name,) for name in GITHUB)]
    return [*alone, *together, *((*plan, name) for plan, name in product(ours, GITHUB))]


async def run(seed: int, seconds: float, shapes: Sequence[str], only: str, replicas: int) -> Chaos:
    """Run all shapes, each for its part of the time."""
    chaos = Chaos(seed)
    begin = monotonic()
    for number, shape in enumerate(shapes):
        plans = [plan for plan in plans_of(shape) if only in name_of(plan)]
        random.Random(f"{seed} {shape}").shuffle(plans)
        until = begin + seconds * (number + 1) / len(shapes)
        await chaos.run(shape, plans * 1000, replicas, until)
    return chaos


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.history.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", choices=(*SHAPES, "all"), default="all", help="of Redis")
    parser.add_argument("--only", default="", help="plans whose name contains this")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--show", type=int, default=2, help="how many kinds for each episode")
    options = parser.parse_args(arguments)
    shapes = SHAPES if options.shape == "all" else (options.shape,)
    chaos = asyncio.run(run(options.seed, options.seconds, shapes, options.only, options.replicas))
    tracebacks = [
        text[max(begin.start() - 300, 0) : begin.start() + 2500]
        for text in chaos.logs
        for begin in re.finditer(r"Traceback \(most recent call last\)", text)
    ]
    sys.stdout.write(f"{chaos.report(options.show)}\n\nseed {options.seed}\n{chaos.table()}\n")
    sys.stdout.write(f"tracebacks in the replicas' logs: {len(tracebacks)}\n")
    sys.stdout.writelines(tracebacks[:1])
    return int(bool(chaos.findings))


if __name__ == "__main__":
    sys.exit(main())
