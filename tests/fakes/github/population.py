"""Resources and users for benchmarks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tests.fakes.github.messages import JSON, encode

if TYPE_CHECKING:
    from tests.fakes.github.server import GitHub


def populate(
    github: GitHub,
    *,
    resources: int = 0,
    users: int = 0,
    size_bytes: int = 23_000,
    own: int = 0,
    lists: int = 0,
    items: int = 100,
    limit: int = 1_000_000_000,
) -> None:
    """Create the resources that benchmarks request.

    Users ``user0``… with tokens ``token0``…; the same for all of them: resources
    ``/repos/bench/repo-0``… of about `size_bytes`, lists ``/repos/bench/repo-0/issues``… of
    `items` items; and resources ``/own/0``… whose content differs by user.
    """
    for i in range(users):
        github.user(f"user{i}", tokens=[f"token{i}"], limit=limit)
    for i in range(resources):
        content = _sample(i, size_bytes)
        content["url"] = f"{github.api_url}/repos/bench/repo-{i}"
        github.put(f"/repos/bench/repo-{i}", encode(content, JSON))
    for i in range(own):
        github.put(f"/own/{i}", lambda login, _: {"of": login, "text": "x" * 500})
    for i in range(lists):
        made = [{"number": n, "title": f"Issue {n} of {i}"} for n in range(1, items + 1)]
        github.put_list(f"/repos/bench/repo-{i}/issues", made)


def _sample(number: int, size_bytes: int) -> dict[str, Any]:
    """Make a JSON object of about this size that compresses about as well as GitHub's do."""
    content: dict[str, Any] = {"id": number, "name": f"repo-{number}", "labels": []}
    size = len(encode(content, JSON))
    while size < size_bytes - 150:
        n = len(content["labels"])
        noise = hashlib.sha256(b"%d %d" % (number, n)).hexdigest()
        label = {"id": n, "node_id": noise[:24], "name": f"label {n}", "description": noise[:40]}
        content["labels"].append(label)
        size += len(encode(label, JSON)) + 1
    return content
