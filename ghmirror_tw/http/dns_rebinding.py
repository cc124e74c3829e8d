"""Protection against DNS rebinding, by `Host`.

A page in a browser may read responses of its own origin. An attacker can point the name of that
origin at an address inside another network, and so read the server there. Such a request has the
attacker's name in `Host`: no address, no localhost, no configured name.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address

from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.request import BadRequestError


def is_expected_host(values: Sequence[bytes], names: frozenset[str]) -> bool:
    """Return whether the values of `Host` are one address, localhost, or one of *names*.

    *names* are in lower case. Ports do not matter, since the page chooses them.
    """
    try:
        host = parse_host(values).decode("ascii").lower()
    except BadRequestError:
        return False
    if host.startswith("["):
        return True
    name = host.partition(":")[0]
    return name == "localhost" or name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True
