"""Validation of `Host`, and of the authority of a URL (RFC 9110, section 7.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.runtime.whole_numbers import whole_number

_HOST: Final = re.compile(rb"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
_LONGEST_HOST: Final = 255
_LAST_PORT: Final = 65535


def parse_host(values: Sequence[bytes]) -> bytes:
    """Return the only value of `Host`: a host, with or without a port.

    It is a name, an IPv4 address or an IPv6 address in brackets (RFC 3986, section 3.2.2), and a
    port from 1 to 65535. A request with none, or with several, is malformed (RFC 9112, section
    3.2). Raises `BadRequestError`.
    """
    if len(values) != 1:
        raise BadRequestError("The request must have exactly one Host field")
    return valid_host(values[0], "The Host field")


def valid_host(value: bytes, source: str) -> bytes:
    """Return *value*, the host in *source*, if valid. Raises `BadRequestError`."""
    found = _HOST.fullmatch(value)
    if found is None or len(value) > _LONGEST_HOST:
        raise BadRequestError(f"{source} names no host")
    if found[2] is not None:
        try:
            IPv6Address(found[2].decode())
        except AddressValueError:
            raise BadRequestError(f"{source} holds no valid address") from None
    if found[3] is not None and not whole_number(found[3], _LAST_PORT):
        raise BadRequestError(f"{source} holds no valid port")
    return value
