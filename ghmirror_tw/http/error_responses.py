"""The mirror's own error responses, in the form of GitHub's (GitHub: troubleshooting the REST API).

Each message names the fault and the remedy, with the option or the number concerned. No message
depends on stored responses or on other clients.
"""

from __future__ import annotations

import json
from typing import Final

from attrs import frozen

from ghmirror_tw.runtime.quantity_formatting import duration, size

_DOCUMENTATION_URL = "https://docs.github.com/rest"

#: The largest `Retry-After` in seconds, however long the cause lasts: clients sleep for all of it.
LONGEST_RETRY_S: Final = 60


@frozen
class MirrorError(Exception):
    """An error response of the mirror's own.

    *status* is the HTTP status, *reason* a short token for `Cache-Status` and logs, *message* the
    text for people. *retry_after* is in seconds; None where a retry is of no use.
    """

    status: int
    reason: str
    message: str
    retry_after: int | None = None

    def body(self) -> bytes:
        """Return the content, JSON like that of GitHub's errors."""
        error = {
            "message": self.message,
            "documentation_url": _DOCUMENTATION_URL,
            "status": str(self.status),
        }
        return json.dumps(error, separators=(",", ":")).encode()


def malformed(message: str) -> MirrorError:
    """Return 400: the request is malformed and cannot be forwarded (RFC 9110, section 15.5.1)."""
    return MirrorError(400, "malformed", message)


def no_credential() -> MirrorError:
    """Return 401: only allowed users are served, and the request has no credential."""
    return MirrorError(
        401,
        "no-credential",
        "Requires authentication: this mirror serves the users in its [server] allowed_users only."
        " Send a token in Authorization",
    )


def not_allowed() -> MirrorError:
    """Return 403: this user is not allowed; the response is the same for every user and target."""
    return MirrorError(
        403,
        "not-allowed",
        "This user is not allowed to use this mirror: its [server] allowed_users does not name the"
        " user. Ask the mirror's operator, or use GitHub's own URL",
    )


def no_such_path(message: str) -> MirrorError:
    """Return 404: a path that cannot be GitHub's (RFC 9110, section 15.5.5)."""
    return MirrorError(404, "no-such-path", message)


def too_slow(limit_s: float) -> MirrorError:
    """Return 408: the request was not received in time (RFC 9110, section 15.5.9)."""
    return MirrorError(
        408,
        "too-slow",
        f"The request was not received in time: each step of it may take {duration(limit_s)}."
        " Send it again",
    )


def too_large(limit_bytes: int) -> MirrorError:
    """Return 413: more content than the mirror accepts (RFC 9110, section 15.5.14)."""
    return MirrorError(
        413,
        "too-large",
        "The content of the request is too large: this mirror's [server] max_request_size ="
        f" {size(limit_bytes)}. Send less, or have the mirror's operator raise it",
    )


def unexpected_content() -> MirrorError:
    """Return 413: the admin listener takes no content (RFC 9110, section 15.5.14)."""
    return MirrorError(
        413,
        "unexpected-content",
        "The admin listener takes no content: send GET or HEAD without",
    )


def unexpected_host() -> MirrorError:
    """Return 421: the admin listener is not known by this name (RFC 9110, section 15.5.20)."""
    return MirrorError(
        421,
        "unexpected-host",
        "The admin listener responds to its address, to localhost, and to the names in [server]"
        " admin_hosts: use one of them, or have the mirror's operator add this name there",
    )


def target_too_long(limit_bytes: int) -> MirrorError:
    """Return 414: a longer target than the mirror accepts (RFC 9110, section 15.5.15)."""
    return MirrorError(
        414,
        "target-too-long",
        f"The URL of the request is too long: the request line may take {limit_bytes} bytes",
    )


def fields_too_large(line_bytes: int, all_bytes: int, most: int) -> MirrorError:
    """Return 431: more field lines, or longer ones, than the mirror accepts (RFC 6585)."""
    return MirrorError(
        431,
        "fields-too-large",
        f"The header fields of the request are too many or too large: a line may take {line_bytes}"
        f" bytes, all of them together {all_bytes}, and there may be {most} of them. Send fewer or"
        " shorter fields",
    )


def not_implemented(message: str) -> MirrorError:
    """Return 501: an unknown method or transfer coding (RFC 9112, section 6.1)."""
    return MirrorError(501, "not-implemented", message)


#: The message for each reason why there is no response of GitHub to forward.
_UPSTREAM: Final = {
    "connect-error": "The mirror could not connect to GitHub ([github] api_url). Try again; if it"
    " lasts, the mirror's log says why",
    "broken-answer": "GitHub's response broke off or was malformed. Try again; if it lasts, the"
    " mirror's log says what was wrong",
}


def upstream_failed(reason: str) -> MirrorError:
    """Return 502: GitHub sent no response that can be forwarded.

    *reason* is one of those for which stale responses are served, such as `connect-error`.
    """
    return MirrorError(502, reason, _UPSTREAM.get(reason, _UPSTREAM["broken-answer"]))


def over_own_limit(limit: str) -> MirrorError:
    """Return 502: a response of GitHub's exceeds *limit* (text, or an option and its value)."""
    return MirrorError(
        502, "broken-answer", f"GitHub's response is larger than this mirror accepts: {limit}"
    )


def shutting_down(retry_after: int) -> MirrorError:
    """Return 503: this process accepts no more requests; another may in *retry_after* seconds."""
    return MirrorError(
        503,
        "shutting-down",
        f"The mirror is shutting down. Try again in {retry_after} s: another replica, or the next"
        " process, takes the request",
        retry_after,
    )


def overloaded(limit: str, retry_after: int) -> MirrorError:
    """Return 503: *limit* (text, or an option and its value) is reached for some seconds."""
    retry_after = min(retry_after, LONGEST_RETRY_S)
    return MirrorError(
        503,
        "overloaded",
        f"The mirror is over its limit {limit}. Try again in {retry_after} s, or send fewer"
        " requests at a time",
        retry_after,
    )


def no_permit(cause: str, retry_after: int) -> MirrorError:
    """Return 503: a rate limit, named in *cause*, delayed the request for too long."""
    retry_after = min(retry_after, LONGEST_RETRY_S)
    return MirrorError(
        503,
        "overloaded",
        f"{cause}; retry in {retry_after} s, or send fewer requests at a time",
        retry_after,
    )


#: The use of each byte budget, in the words of the message.
_BUDGETS: Final = {
    "small": "for content of responses under way",
    "large": "for large content of responses under way",
    "forms": "for content rewritten for clients",
    "heads": "for fields of requests under way",
}


def byte_budget_exhausted(use: str, limit: str, retry_after: int) -> MirrorError:
    """Return 503: the bytes held for *use* have reached *limit* (a size, or an option with one)."""
    what = _BUDGETS.get(use, f"for {use}")
    return MirrorError(
        503,
        "overloaded",
        f"The mirror holds as much {what} as it may ({limit}). Try again in {retry_after} s, read"
        " responses without pausing, or ask for less at a time, such as a smaller per_page",
        retry_after,
    )


def reserved(reserve: int, remaining: int, left_s: int) -> MirrorError:
    """Return 503: the *remaining* quota is kept for writes until the reset in *left_s* seconds."""
    return MirrorError(
        503,
        "reserve",
        f"GitHub's quota of this credential has {remaining} left, and this mirror keeps [github]"
        f" reserve = {reserve} for writes. The quota is full again in {left_s} s",
        min(left_s, LONGEST_RETRY_S),
    )


def backed_off(retry_after: int) -> MirrorError:
    """Return 503: requests for this key have timed out in a row; the next one is sent later."""
    retry_after = min(retry_after, LONGEST_RETRY_S)
    return MirrorError(
        503,
        "timeout",
        "GitHub did not respond in time, several times in a row, and may count such requests. Try"
        f" again in {retry_after} s",
        retry_after,
    )


def timed_out(limit: str) -> MirrorError:
    """Return 504: GitHub sent no response in time (RFC 9110, section 15.6.5).

    *limit*: the option for how long the mirror waits, and its value.
    """
    return MirrorError(
        504,
        "timeout",
        f"GitHub did not respond within {limit}. Try again later, or have the mirror's operator"
        " raise it",
    )


def loop() -> MirrorError:
    """Return 508: this mirror has forwarded the request before (RFC 5842, section 7.2)."""
    return MirrorError(
        508,
        "loop",
        "The request came back to the mirror that had forwarded it: its [github] api_url, or a"
        " proxy on the way there, leads to the mirror itself",
    )


def internal() -> MirrorError:
    """Return 500: the mirror has failed; the details are in its log alone."""
    return MirrorError(
        500, "internal", "The mirror failed to respond to this request; its log has the cause"
    )


def upstream_error(reason: str, limit: str) -> MirrorError:
    """Return 504 for a *reason* of ``timeout``, else 502; *limit* is the one that was exceeded."""
    if reason == "timeout":
        return timed_out(limit)
    return over_own_limit(limit) if limit else upstream_failed(reason)
