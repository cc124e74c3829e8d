"""Values by which others on the network could read credentials or figures, for `check-config`.

They are right in some networks, such as that of a pod, so a mirror does not log them at each start.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from ghmirror_tw.config.address_kinds import RedisAddress
from ghmirror_tw.config.settings import Redis, Server, Settings

#: Kinds of endpoints that only processes of this machine can reach, or that other programs open.
_LOCAL_KINDS: Final = ("unix:", "systemd:")


def exposures(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each value that exposes credentials or figures to the network."""
    url = urlsplit(settings.github.api_url)
    if url.scheme == "http" and not _is_this_machine(url.hostname or ""):
        yield (
            "[github] api_url is http: each credential is sent unencrypted; use https if the"
            " server has it"
        )
    yield from _open_admin_listeners(settings.server)
    if settings.cache.backend == "redis":
        yield from _readable_passwords(settings.redis)


def _open_admin_listeners(server: Server) -> Iterator[str]:
    for description in server.admin_listen:
        options = description.replace("\\:", ":").partition(":interface=")
        host = options[2].partition(":port=")[0]
        if description.startswith(_LOCAL_KINDS) or (host and _is_this_machine(host)):
            continue
        yield (
            f"[server] admin_listen = {description}: logins and paths can be read from other"
            " machines; restrict access, or add interface=127.0.0.1"
        )


def _readable_passwords(redis: Redis) -> Iterator[str]:
    if not (redis.address.password or redis.password or redis.password_path):
        return
    for name, address in (("url", redis.address), ("reader_url", redis.reader_address)):
        if address is not None and not _is_protected(address):
            yield (
                f"[redis] {name} is not rediss: the password and all records are sent unencrypted;"
                " use rediss: if the server has TLS"
            )


def _is_protected(address: RedisAddress) -> bool:
    return address.tls or bool(address.socket_path) or _is_this_machine(address.host)


def _is_this_machine(host: str) -> bool:
    """Return whether *host*, without brackets, is this machine's loopback address or its name."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
