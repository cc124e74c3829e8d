"""The parsers that a fuzzer drives: each reads the bytes of an input and raises for a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz import content, fields, messages, stores

#: The inputs of each target, which `tests/fuzz/test_corpus.py` replays.
CORPUS: Final = Path(__file__).with_name("corpus")

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__: each
    for each in (
        messages.request_heads,
        messages.sent_heads,
        messages.response_heads,
        messages.responses,
        messages.tunnels,
        fields.request_targets,
        fields.hosts,
        fields.request_fields,
        fields.response_fields,
        fields.limited,
        fields.links,
        fields.entity_tags,
        fields.dates,
        fields.user_agents,
        fields.log_lines,
        fields.cache_keys,
        content.rewriting,
        content.indenting,
        content.converting,
        content.documents,
        content.gzipped,
        content.digests,
        stores.redis_replies,
        stores.redis_errors,
        stores.redis_slots,
        stores.records,
        stores.limits_stored,
        stores.snapshots,
        stores.names_read,
    )
}


def inputs(name: str) -> list[Path]:
    """Return the inputs of a target in the corpus."""
    return sorted((CORPUS / name).iterdir())
