"""Detection of charged 304s by the remaining quota."""

from __future__ import annotations

from ghmirror_tw.github.charged_304s import ChargeDetector

RESET = 1000


def send(
    charges: ChargeDetector,
    remaining: int,
    *,
    now: float = 0.0,
    reset: int = RESET,
    alone: bool = True,
) -> bool:
    """Record a request and its response."""
    charges.note_sent("a")
    charged = charges.note_response("a", "core", remaining, reset, now, alone=alone)
    charges.note_end("a", responded=True)
    return charged


def test_one_less_is_a_charge() -> None:
    """If no other request can have used it, and in the same window."""
    charges = ChargeDetector()
    assert [send(charges, left) for left in (60, 60, 59, 59)] == [False, False, True, False]
    assert not send(charges, 57)
    assert not send(charges, 56, reset=RESET + 3600)
    charges.note_sent("b")
    assert not charges.note_response("b", "core", 55, RESET, 0.0, alone=True)


def test_resources_are_bounded() -> None:
    """A server that makes up names of resources fills no memory."""
    charges = ChargeDetector()
    charges.note_sent("a")
    for number in range(1_000):
        charges.note_response("a", f"r{number}", 60, RESET, 0.0, alone=True)
    assert len(charges.tokens.accepted["a"].remaining) <= 64


def test_overlapping_requests_prove_no_charge() -> None:
    """Requests that overlap, those without a response, and those of other resources."""
    charges = ChargeDetector()
    send(charges, 60)
    charges.note_sent("a")
    charges.note_sent("a")
    assert not charges.note_response("a", "core", 59, RESET, 0.0, alone=True)
    charges.note_end("a", responded=True)
    charges.note_sent("a")
    charges.note_end("a", responded=True)
    charges.note_end("a", responded=True)
    assert not send(charges, 58)
    assert send(charges, 57)
    charges.note_sent("a")
    charges.note_end("a", responded=False)
    assert not send(charges, 56)
    charges.note_sent("a")
    assert not charges.note_response("a", "search", 55, RESET, 0.0, alone=True)
    charges.note_end("a", responded=True)
    assert send(charges, 55)


def test_requests_of_other_replicas_prove_no_charge() -> None:
    """Where there may be some, what remained is soon forgotten."""
    charges = ChargeDetector()
    send(charges, 60)
    assert not send(charges, 59, now=60.0, alone=False)
    assert send(charges, 58, now=61.0, alone=False)


def test_tokens_are_bounded() -> None:
    """The token with the oldest use is removed first."""
    charges = ChargeDetector()
    charges.tokens.most = 1
    charges.note_sent("a")
    charges.note_sent("b")
    assert not charges.note_response("a", "core", 1, RESET, 0.0, alone=True)
    charges.note_end("a", responded=True)
