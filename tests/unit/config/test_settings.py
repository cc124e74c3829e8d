"""Configuration: what can be set, from where, and how every fault is reported at once."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.config import address_kinds as addresses
from ghmirror_tw.config import settings as config
from ghmirror_tw.config import value_kinds as kinds
from ghmirror_tw.config.option import ConfigError, Option
from ghmirror_tw.config.settings import OPTIONS, Settings
from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.telemetry.secret_scrubbing import scrub
from tests.harness.running import ROOT

SHIPPED = ROOT / "conf" / "ghmirror.ini"
STATUS = "https://www.githubstatus.com/api/v2/components.json"

Load = Callable[..., Settings]


@pytest.fixture
def ini(tmp_path: Path) -> Load:
    """Return a function that loads settings from the text of a file."""

    def load_text(text: str, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "mirror.ini"
        path.write_text(text, encoding="utf-8")
        return load(path, environ or {})

    return load_text


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the paths of files that options can name."""
    directory = tmp_path_factory.mktemp("files")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    contents = {
        "pem": pem,
        "secret": "s3 ;cr#t%\n",
        "proxy": "http://u:p@proxy:3128\n",
        "empty": "",
    }
    for stem, content in contents.items():
        (directory / stem).write_text(content)
    return {stem: str(directory / stem) for stem in contents}


def faults_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def env_faults(**environ: str) -> list[str]:
    return faults_of(lambda: load(None, {f"GHMIRROR_{key}": v for key, v in environ.items()}))


# ---------------------------------------------------------------- each option

#: Each option: a text and its value, an invalid text, further required options.
CASES: dict[str, tuple[str, Any, str, dict[str, str]]] = {
    "server.listen": ("tcp:81", ("tcp:81",), "carrier-pigeon:80", {}),
    "server.admin_listen": ("unix:/tmp/a", ("unix:/tmp/a",), "tcp:http", {}),
    "server.admin_hosts": (
        "Mirror.example, prometheus_target,x",
        frozenset({"mirror.example", "prometheus_target", "x"}),
        "mirror:8081",
        {},
    ),
    "server.public_url": ("HTTPS://M.example:443/x/", "https://m.example/x", "m.example", {}),
    "server.trusted_proxies": (
        "10.0.0.0/8",
        (ipaddress.ip_network("10.0.0.0/8"),),
        "10.0.0.1/8",
        {},
    ),
    "server.allowed_users": ("Octocat", frozenset({"octocat"}), "@octocat", {}),
    "server.max_request_size": ("1MiB", 2**20, "10", {}),
    "server.shutdown_delay": ("5s", 5.0, "5", {}),
    "server.shutdown_grace": ("0", 0.0, "-1s", {}),
    "server.reuse_port": ("yes", True, "maybe", {}),
    "server.enterprise_version": ("3.17.0", "3.17.0", "3.17", {}),
    "github.api_url": ("https://ghe.example/api/v3/", "https://ghe.example/api/v3", "ghe", {}),
    "github.status_url": ("http://s/x", "http://s/x", "ftp://s/x", {}),
    "github.status_interval": ("1m", 60.0, "1ms", {}),
    "github.connect_timeout": ("1s", 1.0, "0s", {}),
    "github.timeout": ("1h", 3600.0, "0", {}),
    "github.stale_after": ("250ms", 0.25, "", {}),
    "github.idle_timeout": ("1.5s", 1.5, "1 s", {}),
    "github.max_connections": ("1", 1, "0", {}),
    "github.max_in_flight_per_credential": ("100", 100, "many", {}),
    "github.points_per_minute": ("900", 900, "-1", {}),
    "github.reserve": ("500", 500, "10%", {}),
    "github.proxy": ("http://u:p@h:3128/", "http://u:p@h:3128", "http://h", {}),
    "github.proxy_path": ("{proxy}", "{proxy}", "{secret}", {}),
    "github.ca_path": ("{pem}", "{pem}", "{secret}", {}),
    "cache.backend": ("redis", "redis", "memcached", {}),
    "cache.share": ("off", False, "", {}),
    "cache.fresh_for": ("10s", 10.0, "10sec", {}),
    "cache.negative_for": ("1m", 60.0, "a minute", {}),
    "cache.validate_by_date": (
        "/repos/*/*/releases/*, /repos/o/r",
        ("/repos/*/*/releases/*", "/repos/o/r"),
        "/repos/o*/r",
        {},
    ),
    "cache.verify_last": ("FALSE", False, "2", {}),
    "cache.stale_limit": ("1d12h", 129_600.0, "99999d", {}),
    "cache.max_stored_size": ("1MB", 1_000_000, "1000", {}),
    "cache.collapse_wait": ("0s", 0.0, "s", {}),
    "cache.credential_secret": ("a ; b # %d", "a ; b # %d", "a\rb", {}),
    "cache.credential_secret_path": ("{secret}", "{secret}", "{empty}", {}),
    "memory.max_size": ("1GiB", 2**30, "1KiB", {}),
    "memory.max_content_size": ("1GiB", 2**30, "1MiB", {}),
    "redis.url": ("rediss://u:p@h:1/2", "rediss://u:p@h:1/2", "redis://h/one", {}),
    "redis.reader_url": ("redis://r", "redis://r", "redis://u:p@r", {}),
    "redis.sentinels": ("S1:26379", (("s1", 26379),), "s1", {}),
    "redis.cluster": ("1", True, "y", {"REDIS_URL": "redis://c"}),
    "redis.username": ("mirror", "mirror", "m m", {"REDIS_PASSWORD": "p"}),
    "redis.password": ("p;%#", "p;%#", "a\rb", {}),
    "redis.password_path": ("{secret}", "{secret}", "/nowhere/at/all", {}),
    "redis.iam": (
        "group-1",
        "group-1",
        "1group",
        {"REDIS_URL": "rediss://h", "REDIS_USERNAME": "mirror"},
    ),
    "redis.tls_ca_path": ("{pem}", "{pem}", "{empty}", {"REDIS_URL": "rediss://h"}),
    "redis.pool_size": ("1", 1, "0", {}),
    "redis.timeout": ("1s", 1.0, "0s", {}),
    "redis.ttl": ("1h", 3600.0, "1s", {}),
    "redis.key_prefix": ("a:b", "a:b", "a{b}", {}),
    "redis.local_size": ("0", 0, "1X", {}),
    "redis.fallback": ("no", False, "none", {}),
    "snapshot.target": ("s3://bucket/x/", "s3://bucket/x", "file://relative", {}),
    "snapshot.interval": ("1h30m", 5400.0, "30m1h", {}),
    "snapshot.keep": ("1", 1, "0", {}),
    "snapshot.restore": ("no", False, "n", {}),
    "snapshot.restore_wait": ("0", 0.0, "0x", {}),
    "snapshot.s3_endpoint_url": ("http://[::1]:9000", "http://[::1]:9000", "s3", {}),
    "snapshot.s3_region": ("eu-central-1", "eu-central-1", "Frankfurt am Main", {}),
    "snapshot.s3_sse": ("aes256", "AES256", "aws", {}),
    "snapshot.s3_kms_key_id": ("alias/k", "alias/k", "a b", {"SNAPSHOT_S3_SSE": "aws:kms"}),
    "snapshot.elasticache_replication_group": ("g-1", "g-1", "1g", {"CACHE_BACKEND": "redis"}),
    "snapshot.elasticache_interval": ("2h", 7200.0, "119m", {}),
    "log.format": ("json", "json", "xml", {}),
    "log.level": ("WARN", "warn", "loud", {}),
    "log.access": ("errors", "errors", "some", {}),
}
CASES = {
    name: (
        *case[:3],
        {"SNAPSHOT_TARGET": "s3://bucket"} | case[3]
        if re.match(r"snapshot\.(s3|elasticache_r)", name)
        else case[3],
    )
    for name, case in CASES.items()
}

each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.section}.{o.name}")


def case_of(option: Option, files: dict[str, str]) -> tuple[str, Any, str, dict[str, str]]:
    def named(value: Any) -> Any:
        return value.format(**files) if isinstance(value, str) and value[:1] == "{" else value

    good, value, bad, needs = CASES[f"{option.section}.{option.name}"]
    return named(good), named(value), named(bad), {f"GHMIRROR_{k}": v for k, v in needs.items()}


def value_of(settings: Settings, option: Option) -> Any:
    return getattr(getattr(settings, option.section), option.name)


def test_every_option_has_a_case() -> None:
    assert [f"{option.section}.{option.name}" for option in OPTIONS] == list(CASES)


@each_option
def test_a_good_value_is_read_from_the_file(
    option: Option, ini: Load, files: dict[str, str]
) -> None:
    good, value, _, needs = case_of(option, files)
    settings = ini(f"[{option.section}]\n{option.name} = {good}\n", needs)
    assert value_of(settings, option) == value
    assert value_of(settings, option) != value_of(Settings(), option)


@each_option
def test_a_bad_value_is_one_fault_that_names_the_expected_one(
    option: Option, ini: Load, files: dict[str, str]
) -> None:
    """One fault only: what else a bad value would contradict is not known."""
    _, _, bad, _ = case_of(option, files)
    continued = bad.replace("\n", "\n  ")
    if bad == "a\rb":
        continued = "a\x00b"
    (fault,) = faults_of(lambda: ini(f"[{option.section}]\n{option.name} = {continued}\n"))
    assert fault.startswith(f"[{option.section}] {option.name}: ")
    assert fault.endswith(f"; expected {option.expected} (line 2)")


@each_option
def test_the_environment_wins_even_over_a_bad_value(
    option: Option, ini: Load, files: dict[str, str]
) -> None:
    good, value, bad, needs = case_of(option, files)
    text = f"[{option.section}]\n{option.name} = {bad.replace(chr(10), chr(10) + ' ')}\n"
    settings = ini(text, needs | {option.variable: good})
    assert value_of(settings, option) == value


@each_option
def test_a_bad_value_in_the_environment_is_named_by_its_variable(
    option: Option, files: dict[str, str]
) -> None:
    _, _, bad, _ = case_of(option, files)
    (fault,) = faults_of(lambda: load(None, {option.variable: bad}))
    assert fault.startswith(f"[{option.section}] {option.name}: ")
    assert fault.endswith(f"; expected {option.expected} (environment variable {option.variable})")


@each_option
def test_each_option_is_explained_in_one_sentence(option: Option) -> None:
    assert re.fullmatch(r"[A-Z][^.].*\.", option.help)
    assert option.expected
    assert value_of(Settings(), option) == option.parse(option.default)


def test_only_secrets_have_a_path_option_and_are_hidden() -> None:
    names = {(option.section, option.name) for option in OPTIONS}
    beside = {key for key in names if (key[0], f"{key[1]}_path") in names}
    assert beside == {(option.section, option.name) for option in OPTIONS if option.secret}
    settings = Settings(
        github=config.GitHub(proxy="http://u:hunter2@h:1"),
        cache=config.Cache(credential_secret="hunter2"),
        redis=config.Redis(url="redis://u:hunter2@h", password="hunter2"),
    )
    assert "hunter2" not in repr(settings) + repr(settings.redis.address)


def test_a_target_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home of the user that runs the mirror; a user without one cannot use it."""
    monkeypatch.setenv("HOME", "/home/a user")
    snapshot = load(None, {"GHMIRROR_SNAPSHOT_TARGET": "file://~/kept/here/"}).snapshot
    assert snapshot.directory == Path("/home/a user/kept/here")
    assert snapshot.target == "file:///home/a%20user/kept/here"
    for text in ("file://~", "file://~/", "file://~root/kept", "file://host/kept"):
        with pytest.raises(ConfigError, match="missing or relative"):
            load(None, {"GHMIRROR_SNAPSHOT_TARGET": text})
    for home in ("", "/", "relative"):
        monkeypatch.setenv("HOME", home)
        with pytest.raises(ConfigError, match="no home directory"):
            load(None, {"GHMIRROR_SNAPSHOT_TARGET": "file://~/kept"})


# ---------------------------------------------------------------- defaults and the shipped file


def test_the_shipped_file_is_all_the_defaults() -> None:
    """Except for snapshots, so that a newcomer's restart is free, too."""
    shipped = load(SHIPPED, {})
    assert shipped.snapshot.directory == Path.home() / ".cache" / "ghmirror"
    assert evolve(shipped, snapshot=evolve(shipped.snapshot, target="")) == load(None, {})
    assert load(None, {}) == Settings()
    stated = re.findall(r"^(?:\[(\w+)\]|(\w+) =)", SHIPPED.read_text(), re.MULTILINE)
    section, options = "", []
    for header, name in stated:
        section = header or section
        options += [(section, name)] if name else []
    assert options == [(option.section, option.name) for option in OPTIONS]


def test_defaults() -> None:
    settings = load(None, {})
    assert settings.server.listen == ("tcp:8080",)
    assert settings.github.status_url == STATUS
    assert settings.github.points_per_minute == "auto"
    assert settings.redis.timeout == 0.25
    assert settings.cache.stale_limit == 7 * 86_400
    assert settings.snapshot.directory is None
    assert settings.snapshot.bucket is None
    assert settings.warnings == ()


def test_reading_the_table_loads_nothing_of_twisted() -> None:
    code = "import sys, ghmirror_tw.config.settings_loader; sys.exit('twisted' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("written", ["", f"status_url = {STATUS}"])
def test_default_status_page_is_used_for_github_com_only(ini: Load, written: str) -> None:
    assert ini(f"[github]\napi_url = https://ghe.example\n{written}").github.status_url == ""
    same = ini(f"[github]\napi_url = HTTPS://API.github.com:443/\n{written}")
    assert same.github.status_url == STATUS
    assert ini("[github]\nstatus_url =").github.status_url == ""


# ---------------------------------------------------------------- how values are written


@given(st.lists(st.integers(0, 999), min_size=5, max_size=5))
def test_durations_add_up(numbers: list[int]) -> None:
    """Every combination of units, in order, means the sum of its parts."""
    units = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
    parts = [(n, unit) for n, unit in zip(numbers, units, strict=True) if n]
    text = "".join(f"{n}{unit}" for n, unit in parts) or "0"
    assert kinds.seconds(text) == sum(n * units[unit] for n, unit in parts) / 1000


@given(st.integers(0, 2**40), st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB"]))
def test_sizes_are_multiples_of_their_unit(number: int, unit: str) -> None:
    base = 1024 if "i" in unit else 1000
    power = " kmgt".index(unit[0].lower()) if unit != "B" else 0
    for text in (f"{number}{unit}", f"{number}{unit.lower()}"):
        assert kinds.size().parse(text) == number * base**power


@given(st.text(max_size=20))
def test_no_text_makes_a_kind_raise_anything_but_a_value_error(text: str) -> None:
    for kind in (option.kind for option in OPTIONS if not option.name.endswith("_path")):
        if kind is not addresses.endpoint:
            with contextlib.suppress(ValueError):
                kind.parse(text)


def test_lists_have_one_entry_a_line_in_the_file(ini: Load) -> None:
    settings = ini(
        "[server]\n"
        "listen =\n"
        "    tcp:80 ; all of it\n"
        "\n"
        "    ; not yet\n"
        "    tcp:81:interface=127.0.0.1\n"
        "allowed_users = Alice ; first\n"
        "\tname[bot]\n"
    )
    assert settings.server.listen == ("tcp:80", "tcp:81:interface=127.0.0.1")
    assert settings.server.allowed_users == {"alice", "name[bot]"}


def test_the_entries_of_a_list_are_separated_by_lines_or_commas(ini: Load) -> None:
    """In the file as in the environment, and for each option that is a list."""
    given = "a, B,\n    c\n"
    for settings in (
        ini(f"[server]\nallowed_users = {given}"),
        load(None, {"GHMIRROR_SERVER_ALLOWED_USERS": given}),
    ):
        assert settings.server.allowed_users == {"a", "b", "c"}
    for option in OPTIONS:
        if option.many:
            one = CASES[f"{option.section}.{option.name}"][0]
            assert option.parse(f"{one},{one}") == option.parse(f" {one}\n\n{one} ,")


def test_a_comma_behind_a_backslash_belongs_to_its_entry(ini: Load) -> None:
    """As in Twisted's endpoint descriptions, where a backslash escapes the next character."""
    settings = ini("[server]\nlisten = unix:/run/a\\,b, tcp:80")
    assert settings.server.listen == ("unix:/run/a\\,b", "tcp:80")


def test_each_bad_entry_of_a_list_is_a_fault() -> None:
    faults = env_faults(SERVER_ALLOWED_USERS="a b,ok,@c", SERVER_TRUSTED_PROXIES="x")
    assert [fault.split(";")[0] for fault in faults] == [
        "[server] trusted_proxies: 'x' does not appear to be an IPv4 or IPv6 network",
        "[server] allowed_users: 'a b' is not a login",
        "[server] allowed_users: '@c' is not a login",
    ]


def test_a_file_may_have_indentation_comments_and_line_ends_of_windows(ini: Load) -> None:
    settings = ini(
        "\ufeff; comment\r\n# comment\r\n  [cache] ; comment\r\n  share=no\r\n"
        "  fresh_for = 5s ; = 6s\r\n  collapse_wait =\t3s\t; x\r\n[log]\r\nlevel = debug"
    )
    assert (settings.cache.share, settings.cache.fresh_for) == (False, 5.0)
    assert (settings.cache.collapse_wait, settings.log.level) == (3.0, "debug")


def test_nothing_is_interpolated_and_only_white_space_makes_a_comment(ini: Load) -> None:
    settings = ini("[github]\napi_url = https://h/a;b%%20 ; c")
    assert settings.github.api_url == "https://h/a;b%%20"


@pytest.mark.parametrize(
    "text",
    [
        "https://u:p@h",
        "https://h?",
        "https://h/#f",
        "https://",
        "https://h:0",
        "https://h:99999",
        "https://h:x",
        "https://[::1",
        "https://h[/",
        "https://[:::1]",
        "https://[::1]x",
        "https://h h",
        "https://h\\x",
        "https://hé",
        "https:h",
        "//h",
    ],
)
def test_a_url_is_a_scheme_a_host_and_a_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        addresses.web_url.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"tcp:{'9' * 5_000}",
        "tcp:70000",
        "tcp:port=70000",
        "ssl:1:privateKey=/nowhere",
        "systemd:index=0",
        "unix",
        "tcp:",
    ],
)
def test_invalid_endpoint_is_rejected(text: str) -> None:
    no_port = "70000" in text or "99999" in text
    with pytest.raises(ValueError, match="out of range" if no_port else re.escape(text)):
        addresses.endpoint.parse(text)


@pytest.mark.parametrize("text", ["tcp6:0", "unix:/tmp/x:mode=660", "systemd:domain=INET:index=9"])
def test_endpoints_of_all_kinds_are_accepted(text: str) -> None:
    """Systemd's sockets need not be there yet: other programs read the settings too."""
    assert addresses.endpoint.parse(text) == text


# ---------------------------------------------------------------- secrets

SECRET = r"p%w ;rd #1 ${x} \n"


def test_a_secret_is_the_rest_of_its_line(ini: Load) -> None:
    settings = ini(f"[cache]\ncredential_secret =  {SECRET}  \nshare = no\n")
    assert settings.cache.credential_secrets() == (SECRET.encode(),)


def test_a_secret_from_the_environment_is_unchanged() -> None:
    """But for one line break at its end, which is how they are often made."""
    for end in ("", "\n", "\r\n"):
        environ = {"GHMIRROR_CACHE_CREDENTIAL_SECRET": f" {SECRET} {end}"}
        assert load(None, environ).cache.credential_secrets() == (f" {SECRET} ".encode(),)


def test_secrets_in_files_are_read_at_each_use(tmp_path: Path) -> None:
    path, proxy = tmp_path / "secret", tmp_path / "proxy"
    path.write_text(SECRET + "\n")
    proxy.write_text("http://u:hunter2@h:1\n")
    environ = {
        "GHMIRROR_CACHE_CREDENTIAL_SECRET_PATH": str(path),
        "GHMIRROR_REDIS_PASSWORD_PATH": str(path),
        "GHMIRROR_GITHUB_PROXY_PATH": str(proxy),
    }
    settings = load(None, environ)

    def first_secret() -> str:
        return settings.cache.credential_secrets()[0].decode()

    reads = {
        "[cache] credential_secret_path: ": first_secret,
        "[redis] password_path: ": settings.redis.current_password,
        "[github] proxy_path: ": settings.github.current_proxy,
    }
    assert [read() for read in reads.values()] == [SECRET, SECRET, "http://u:hunter2@h:1"]
    path.write_text("new")
    proxy.write_text("http://h:2")
    assert [read() for read in reads.values()] == ["new", "new", "http://h:2"]
    for broken in (b"", b"\xff\xfehunter2", b"hunter2\x00hunter2", None):
        for file in (path, proxy):
            file.unlink() if broken is None else file.write_bytes(broken)
        for start, read in reads.items():
            (fault,) = faults_of(read)
            assert fault.startswith(start)
            assert "hunter2" not in fault


def test_older_secrets_follow_the_current_one(ini: Load, tmp_path: Path) -> None:
    """One a line, in the file, in the environment and in a file of their own."""
    secrets = (b"new, with a comma", b"old ;1", b"older")
    text = "new, with a comma\n  old ;1\n\n  older\n  old ;1\n"
    assert (
        ini(f"[cache]\ncredential_secret = {text}share = no\n").cache.credential_secrets()
        == secrets
    )
    for lines in (
        "new, with a comma\nold ;1\nolder\n",
        "new, with a comma\r\nold ;1\r\n\r\nolder\r\n",
    ):
        environ = {"GHMIRROR_CACHE_CREDENTIAL_SECRET": lines}
        assert load(None, environ).cache.credential_secrets() == secrets
        (tmp_path / "secrets").write_text(lines, newline="")
        environ = {"GHMIRROR_CACHE_CREDENTIAL_SECRET_PATH": str(tmp_path / "secrets")}
        assert load(None, environ).cache.credential_secrets() == secrets
    (warning,) = load(None, environ).warnings
    assert "fewer than 32 characters" in warning
    (fault,) = env_faults(CACHE_CREDENTIAL_SECRET="hunter2\nhunter\x00")
    assert "hunter" not in fault


def test_secrets_are_empty_by_default() -> None:
    settings = load(None, {})
    assert settings.cache.credential_secrets() == ()
    assert settings.redis.current_password() == ""
    assert settings.github.current_proxy() == ""


def test_secrets_are_never_in_a_message(ini: Load) -> None:
    faults = faults_of(
        lambda: ini(
            "hunter2\n"
            "[github]\n"
            "api_url = https://u:hunter2@h\n"
            "proxy = socks://u:hunter2@h\n"
            "proxy_path = /nowhere\n"
            "hunter2 ; =\n"
            "[cache]\n"
            "credential_secret = hunter2\n"
            "  hunter2\n"
            "credential_secret = hunter2\n"
            "[redis]\n"
            "url = redis://u:hunter2@h:x/\n"
            "reader_url = redis://u:hunter2@h\n"
            "sentinels = u:hunter2@h\n"
            "password = hunter2\n"
            "passwort = hunter2\n"
            "[snapshot]\n"
            "target = s3://u:hunter2@bucket\n",
            {"GHMIRROR_PASSWORD": "hunter2", "GHMIRROR_REDIS_PASSWORD": "hunter2\nhunter2"},
        )
    )
    assert len(faults) == 12
    assert "hunter2" not in "\n".join(faults)


# ---------------------------------------------------------------- faults


def test_all_faults_are_reported_at_once(ini: Load) -> None:
    faults = faults_of(
        lambda: ini(
            "share = yes\n"
            "[cache]\n"
            "just words\n"
            "shared = yes\n"
            "share = perhaps\n"
            "fresh_for = 1s\n"
            "fresh_for = 2s\n"
            "[gitub]\n"
            "timeout = 5s\n"
            "[cache]\n"
            "xyzzy = 1\n"
            "[server]\n"
            "listen = tcp:8081:interface=127.0.0.1\n",
            {"GHMIRROR_LOG_LEVEL": "loud"},
        )
    )
    starts = [
        r".*mirror\.ini: line 1: an option before any section; expected \[section\]$",
        r".*mirror\.ini: line 3: invalid syntax; expected \[section\] or option = value$",
        r".*mirror\.ini: line 10: \[cache\] is repeated; expected once \(line 2\)$",
        r"\[gitub\]: unknown section; did you mean github\? \(line 8\)$",
        r"\[cache\] shared: unknown option; did you mean share\? \(line 4\)$",
        r"\[cache\] fresh_for: already set in line 6; expected one value \(line 7\)$",
        r"\[cache\] xyzzy: unknown option; expected one of backend, share, .* \(line 11\)$",
        r"\[cache\] share: 'perhaps' is neither yes nor no; expected yes or no \(line 5\)$",
        r"\[log\] level: 'loud' .*; expected debug, .*variable GHMIRROR_LOG_LEVEL\)$",
        r"\[server\] listen: '.*' is listed twice; expected each endpoint once$",
    ]
    assert len(faults) == len(starts)
    for fault, start in zip(faults, starts, strict=True):
        assert re.match(start, fault)


def test_a_file_that_cannot_be_read_is_a_fault_beside_others(tmp_path: Path) -> None:
    bad = {"GHMIRROR_LOG_LEVEL": "loud"}
    for path in (tmp_path / "missing.ini", tmp_path):
        faults = faults_of(lambda path=path: load(path, bad))  # type: ignore[misc]
        assert [str(path) in fault for fault in faults] == [True, False]


def test_a_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.ini"
    path.write_bytes(b"[cache]\n; fine\n; caf\xe9\n")
    (fault,) = faults_of(lambda: load(path, {}))
    assert "line 3: not UTF-8" in fault


def test_only_lists_continue_on_further_lines(ini: Load) -> None:
    (fault,) = faults_of(lambda: ini("[github]\ntimeout = 3s\n  idle_timeout = 5s\n"))
    assert "continues on the next line" in fault


def test_variables_that_kubernetes_makes_are_warned_about() -> None:
    """A service called ghmirror, or ghmirror-redis, must not prevent the start of the mirror."""
    made = [
        "GHMIRROR_SERVICE_HOST",
        "GHMIRROR_PORT_8080_TCP",
        "GHMIRROR_REDIS_PORT",
        "GHMIRROR_REDIS_SERVICE_PORT",
        "GHMIRROR_SERVER_PORT",
    ]
    warnings = load(None, dict.fromkeys(["PATH", *made], "secret")).warnings
    assert [warning.split()[2] for warning in warnings] == sorted(made)
    assert "secret" not in "".join(warnings)
    assert "did you mean" not in "".join(warnings)


def test_a_misspelt_variable_has_a_suggestion() -> None:
    """The warning names the variable that was probably meant."""
    (warning,) = load(None, {"GHMIRROR_CACHE_STALE_LIMT": "3d"}).warnings
    assert warning == (
        "environment variable GHMIRROR_CACHE_STALE_LIMT is not an option; it is ignored; did you"
        " mean GHMIRROR_CACHE_STALE_LIMIT?"
    )


# ---------------------------------------------------------------- contradictions

S3 = {"CACHE_BACKEND": "redis", "SNAPSHOT_TARGET": "s3://bucket"}


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"SERVER_LISTEN": ""}, "[server] listen: no endpoint"),
        ({"SERVER_LISTEN": "tcp:1,tcp:1"}, "[server] listen: 'tcp:1' is listed twice"),
        ({"GITHUB_STALE_AFTER": "30s"}, "[github] stale_after: not less than timeout"),
        (
            {"GITHUB_CONNECT_TIMEOUT": "2s", "GITHUB_TIMEOUT": "1s"},
            "[github] connect_timeout: not less than timeout",
        ),
        (
            {"CACHE_MAX_STORED_SIZE": "2MiB", "MEMORY_MAX_SIZE": "1MiB"},
            "[cache] max_stored_size: more than [memory] max_size",
        ),
        (
            {"CACHE_CREDENTIAL_SECRET": "x", "CACHE_CREDENTIAL_SECRET_PATH": "{secret}"},
            "[cache] credential_secret: credential_secret_path is set too",
        ),
        (
            {"REDIS_PASSWORD": "x", "REDIS_PASSWORD_PATH": "{secret}"},
            "[redis] password: password_path is set too",
        ),
        (
            {"GITHUB_PROXY": "http://h:1", "GITHUB_PROXY_PATH": "{proxy}"},
            "[github] proxy: proxy_path is set too",
        ),
        (
            {"REDIS_URL": "redis://u:p@h", "REDIS_USERNAME": "u"},
            "[redis] username: url has a user too",
        ),
        (
            {"REDIS_URL": "redis://:p@h", "REDIS_PASSWORD": "p"},
            "[redis] password: url has a password too",
        ),
        (
            {"REDIS_URL": "redis://:p@h", "REDIS_PASSWORD_PATH": "{secret}"},
            "[redis] password_path: url has a password too",
        ),
        ({"REDIS_USERNAME": "u"}, "[redis] username: a user without a password"),
        ({"REDIS_URL": "redis://u@h"}, "[redis] username: a user without a password"),
        ({"REDIS_TLS_CA_PATH": "{pem}"}, "[redis] tls_ca_path: no connection uses TLS"),
        (
            {"REDIS_URL": "redis://h/1", "REDIS_CLUSTER": "yes"},
            "[redis] cluster: a cluster has only one database",
        ),
        (
            {"REDIS_URL": "redis://h/1", "REDIS_READER_URL": "redis://r"},
            "[redis] reader_url: its database differs from that of url",
        ),
        (
            {"REDIS_CLUSTER": "yes", "REDIS_SENTINELS": "h:1"},
            "[redis] cluster: it cannot be combined with sentinels",
        ),
        (
            {"REDIS_CLUSTER": "yes", "REDIS_READER_URL": "redis://r"},
            "[redis] cluster: it cannot be combined with reader_url",
        ),
        (
            {"REDIS_SENTINELS": "h:1", "REDIS_READER_URL": "redis://r"},
            "[redis] sentinels: it cannot be combined with reader_url",
        ),
        *[
            (
                {"REDIS_URL": "unix:/s", f"REDIS_{name.upper()}": value},
                f"[redis] {name}: it cannot be combined with a unix: url",
            )
            for name, value in (
                ("cluster", "yes"),
                ("sentinels", "h:1"),
                ("reader_url", "redis://r"),
            )
        ],
        *[
            (
                {"SNAPSHOT_TARGET": "file:///d", f"SNAPSHOT_{name.upper()}": value},
                f"[snapshot] {name}: target is not in S3",
            )
            for name, value in (
                ("s3_endpoint_url", "http://h"),
                ("s3_region", "r"),
                ("s3_sse", "AES256"),
            )
        ],
        (
            S3 | {"SNAPSHOT_S3_SSE": "AES256", "SNAPSHOT_S3_KMS_KEY_ID": "k"},
            "[snapshot] s3_kms_key_id: s3_sse does not use it",
        ),
        (
            {"CACHE_BACKEND": "redis", "SNAPSHOT_ELASTICACHE_REPLICATION_GROUP": "g"},
            "[snapshot] elasticache_replication_group: target is not in S3",
        ),
        (
            {"SNAPSHOT_TARGET": "s3://b-b", "SNAPSHOT_ELASTICACHE_REPLICATION_GROUP": "g"},
            "[snapshot] elasticache_replication_group: [cache] backend is not redis",
        ),
    ],
)
def test_contradictions_are_faults(
    environ: dict[str, str], fault: str, files: dict[str, str]
) -> None:
    """Each is found, and nothing else with it."""
    (found,) = env_faults(**{name: value.format(**files) for name, value in environ.items()})
    assert found.startswith(f"{fault}; expected ")


def test_contradictions_with_an_invalid_value_are_not_reported() -> None:
    faults = env_faults(REDIS_CLUSTER="yes", REDIS_URL="redis://h/x")
    assert [fault.split(":")[0] for fault in faults] == ["[redis] url"]


def test_a_short_timeout_does_not_contradict_larger_defaults() -> None:
    environ = {"GHMIRROR_GITHUB_TIMEOUT": "1s", "GHMIRROR_MEMORY_MAX_SIZE": "1MiB"}
    assert load(None, environ).github.timeout == 1.0


def test_shared_store_without_secret_is_a_warning() -> None:
    def warnings(**environ: str) -> tuple[str, ...]:
        return load(None, {f"GHMIRROR_{name}": value for name, value in environ.items()}).warnings

    (warning,) = warnings(**S3)
    assert "credential_secret" in warning
    assert "Redis or S3" in warning
    (warning,) = warnings(SNAPSHOT_TARGET="s3://bucket")
    assert "write access to S3" in warning
    assert scrub(warning) == warning  # a value that looks like a secret would be hidden in the log
    assert warnings(**S3, CACHE_CREDENTIAL_SECRET="x" * 32) == ()
    assert warnings(SNAPSHOT_TARGET="file:///d") == ()
    (warning,) = warnings(REDIS_POOL_SIZE="8", REDIS_TTL="1d")
    assert warning == "[redis] pool_size, ttl: not used while [cache] backend is memory"


# ---------------------------------------------------------------- values in parts


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://H", addresses.RedisAddress("h")),
        ("redis://h/", addresses.RedisAddress("h")),
        ("rediss://a%40b:p%2Fw@h:1/15", addresses.RedisAddress("h", 1, "", True, 15, "a@b", "p/w")),
        ("redis://:p@[::1]", addresses.RedisAddress("::1", password="p")),
        ("unix:/run/r%20s", addresses.RedisAddress(socket_path="/run/r s")),
        (
            "unix://u:p@/s?db=3",
            addresses.RedisAddress(socket_path="/s", database=3, username="u", password="p"),
        ),
    ],
)
def test_redis_url_is_parsed_into_an_address(url: str, address: addresses.RedisAddress) -> None:
    redis = config.Redis(url=url)
    assert redis.address == address
    assert (redis.effective_username, redis.current_password()) == (
        address.username,
        address.password,
    )
    assert redis.reader_address is None
    assert config.Redis(reader_url="redis://r:1").reader_address == addresses.RedisAddress("r", 1)


@pytest.mark.parametrize(
    "url",
    [
        "redis:",
        "redis://h/x",
        "redis://h/1/2",
        "redis://h?db=1",
        "unix:s",
        "unix://h/s",
        "unix:/s?db=x",
        "unix:/s?x=1",
        "unix:/s?5",
        "unix:/s#1",
        "valkey://h",
    ],
)
def test_invalid_redis_url_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        addresses.redis_url.parse(url)


def test_sentinel_is_host_and_port() -> None:
    assert addresses.sentinel.parse("[::1]:26379") == ("::1", 26379)
    for text in ("h", "h:", "[:::1]:1", "u:p@h:1", "h:1/", "redis://h:1", ":1"):
        with pytest.raises(ValueError, match=r"\w"):
            addresses.sentinel.parse(text)


def test_snapshot_target_is_directory_or_bucket() -> None:
    assert config.Snapshot(target="file:///a%20b/c").directory == Path("/a b/c")
    assert config.Snapshot(target="file:///a").bucket is None
    assert config.Snapshot(target="s3://bucket/a/b").bucket == ("bucket", "a/b")
    assert config.Snapshot(target="s3://bucket").bucket == ("bucket", "")
    for text in ("file:///", "file://h/a", "s3://B", "s3:bucket", "/var/lib", "s3://bucket?x"):
        with pytest.raises(ValueError, match=r"\w"):
            addresses.target.parse(text)


def test_a_short_secret_is_warned_about(tmp_path: Path) -> None:
    """Wherever it is set; a reader of the store could find it by trial."""
    path = tmp_path / "secret"
    for length, many in ((1, 1), (31, 1), (32, 0)):
        secret = "s" * length
        path.write_text(f"{secret}\n")
        for name, value in (("", secret), ("_PATH", str(path))):
            warnings = load(None, {f"GHMIRROR_CACHE_CREDENTIAL_SECRET{name}": value}).warnings
            assert len(warnings) == many, (length, name)
            for warning in warnings:
                assert "32 characters" in warning
                assert secret not in warning or length == 1
                assert scrub(warning) == warning
