"""Values that expose credentials or figures to the network, which `check-config` warns about."""

from __future__ import annotations

import pytest

from ghmirror_tw.config.exposures import exposures
from ghmirror_tw.config.settings_loader import load

REDIS = {"CACHE_BACKEND": "redis", "REDIS_PASSWORD": "a password of Redis"}


def warnings(**environ: str) -> list[str]:
    """Return the warnings about a configuration, without the texts after the first colon."""
    settings = load(None, {f"GHMIRROR_{name}": value for name, value in environ.items()})
    return [each.partition(":")[0] for each in exposures(settings)]


def test_defaults_expose_nothing() -> None:
    """The default configuration has no warnings."""
    assert warnings() == []


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("https://ghe.example.org/api/v3", False),
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000", False),
        ("http://localhost", False),
        ("http://ghe.example.org/api/v3", True),
        ("http://10.0.0.1", True),
    ],
)
def test_credentials_to_another_machine_need_tls(url: str, exposed: bool) -> None:
    """An http: API of another machine receives credentials unencrypted."""
    assert warnings(GITHUB_API_URL=url) == ["[github] api_url is http"] * exposed


@pytest.mark.parametrize(
    ("listen", "exposed"),
    [
        ("tcp:8081:interface=127.0.0.1", False),
        (r"tcp6:8081:interface=\:\:1", False),
        ("unix:/run/admin.sock", False),
        ("systemd:domain=INET:index=0", False),
        ("", False),
        ("tcp:8081", True),
        ("tcp:8081:interface=0.0.0.0", True),
        ("tcp:interface=10.0.0.1:port=8081", True),
        (r"tcp6:8081:interface=\:\:", True),
    ],
)
def test_admin_port_for_other_machines(listen: str, exposed: bool) -> None:
    """Logins and paths can be read from other machines unless the port is local."""
    found = warnings(SERVER_ADMIN_LISTEN=listen)
    assert [each.partition(" =")[0] for each in found] == ["[server] admin_listen"] * exposed


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("rediss://redis.example.org", False),
        ("redis://localhost", False),
        ("unix:/run/redis.sock", False),
        ("redis://redis.example.org", True),
    ],
)
def test_password_of_redis_needs_tls(url: str, exposed: bool) -> None:
    """A password for another machine is sent unencrypted without TLS."""
    assert warnings(**REDIS, REDIS_URL=url) == ["[redis] url is not rediss"] * exposed
    assert warnings(CACHE_BACKEND="redis", REDIS_URL=url) == []
    assert warnings(REDIS_URL=url, REDIS_PASSWORD="a password of Redis") == []


def test_reader_of_redis_needs_tls_too() -> None:
    """The reader gets the same password."""
    found = warnings(**REDIS, REDIS_URL="rediss://a.example.org", REDIS_READER_URL="redis://b")
    assert found == ["[redis] reader_url is not rediss"]
