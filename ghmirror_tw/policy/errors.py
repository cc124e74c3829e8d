"""The mirror's own answers, in the shape of GitHub's (GitHub: troubleshooting the REST API).

No message depends on what is stored or on who else has asked for it.
"""

from __future__ import annotations

import json

from attrs import frozen

_DOCUMENTATION_URL = "https://docs.github.com/rest"


@frozen
class MirrorError(Exception):
    """An answer of the mirror's own.

    *status* is the HTTP status, *reason* a short token for `Cache-Status` and logs, *message* what
    a person reads, *retry_after* in seconds where coming again makes sense.
    """

    status: int
    reason: str
    message: str
    retry_after: int | None = None

    def body(self) -> bytes:
        """Return the content, JSON like that of GitHub's errors."""
        return json.dumps(
            {"message": self.message, "documentation_url": _DOCUMENTATION_URL}
        ).encode()


def malformed(message: str) -> MirrorError:
    """Return 400: the request is not one that could be forwarded (RFC 9110, section 15.5.1)."""
    return MirrorError(400, "malformed", message)


def no_credential() -> MirrorError:
    """Return 401: only known users may ask, and nobody said who this is."""
    return MirrorError(401, "no-credential", "Requires authentication")


def not_allowed() -> MirrorError:
    """Return 403: this user may not use the mirror; the same for every user and target."""
    return MirrorError(403, "not-allowed", "This user is not allowed to use this mirror")


def too_slow() -> MirrorError:
    """Return 408: the request did not come in time (RFC 9110, section 15.5.9)."""
    return MirrorError(408, "too-slow", "The request did not come in time")


def too_large() -> MirrorError:
    """Return 413: more content than the mirror takes (RFC 9110, section 15.5.14)."""
    return MirrorError(413, "too-large", "The content of the request is too large")


def target_too_long() -> MirrorError:
    """Return 414: a longer target than the mirror takes (RFC 9110, section 15.5.15)."""
    return MirrorError(414, "target-too-long", "The URL of the request is too long")


def fields_too_large() -> MirrorError:
    """Return 431: more field lines, or longer ones, than the mirror takes (RFC 6585)."""
    return MirrorError(431, "fields-too-large", "The header fields of the request are too large")


def not_implemented(message: str) -> MirrorError:
    """Return 501: an unknown method or transfer coding (RFC 9112, section 6.1)."""
    return MirrorError(501, "not-implemented", message)


def upstream_failed(reason: str) -> MirrorError:
    """Return 502: GitHub gave no answer that can be passed on.

    *reason* is one of those for which stale answers are given, such as `connect-error`.
    """
    return MirrorError(502, reason, "GitHub could not be reached or gave a broken answer")


def shutting_down(retry_after: int) -> MirrorError:
    """Return 503: this process takes no more requests; another may in *retry_after* seconds."""
    return MirrorError(503, "shutting-down", "The mirror is shutting down", retry_after)


def overloaded(retry_after: int) -> MirrorError:
    """Return 503: the mirror is over its own limits for some *retry_after* seconds."""
    return MirrorError(503, "overloaded", "The mirror is over its limits", retry_after)


def reserved(retry_after: int) -> MirrorError:
    """Return 503: what is left of GitHub's quota for *retry_after* seconds is kept for writes."""
    return MirrorError(
        503, "reserve", "What is left of GitHub's quota is kept for writes", retry_after
    )


def timed_out() -> MirrorError:
    """Return 504: GitHub gave no answer in time (RFC 9110, section 15.6.5)."""
    return MirrorError(504, "timeout", "GitHub did not answer in time")


def loop() -> MirrorError:
    """Return 508: the request came through this mirror before (RFC 5842, section 7.2)."""
    return MirrorError(508, "loop", "The request came back to the mirror that had forwarded it")


def internal() -> MirrorError:
    """Return 500: the mirror is at fault; the log says how, the answer does not."""
    return MirrorError(500, "internal", "The mirror failed to answer this request")


def unanswered(reason: str) -> MirrorError:
    """Return 504 where GitHub took too long, else 502; *reason* as for stale answers."""
    return timed_out() if reason == "timeout" else upstream_failed(reason)
