"""The base of images is Debian from the machine's own source, in each form of apt's sources."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.deploy.debian_source import debian_source, proxies

ONE_LINE = """\
deb http://elsewhere.example/tools trixie-tools main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {site} {release} main
deb http://security.example/debian-security {release}-security main
"""
DEB822 = """\
Types: deb deb-src
URIs: http://security.example/debian-security
Suites: {release}-security
Components: main

Types: deb
URIs: {site}
Suites: {release} {release}-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
SITE = "https://mirror.example/some/debian"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt that has no sources yet, and has fetched nothing."""
    for name in ("parts", "lists/partial", "sources"):
        (tmp_path / name).mkdir(parents=True)
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc::SourceList "{tmp_path}/none";\n'
        f'Dir::Etc::SourceParts "{tmp_path}/sources";\n'
        f'Dir::Etc::Parts "{tmp_path}/parts";\n'
        f'Dir::State::Lists "{tmp_path}/lists";\n'
        'APT::Architecture "amd64";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setattr(
        platform, "freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "forky"}
    )
    return tmp_path


def fetch(apt: Path, name: str, label: str) -> None:
    """Write the lists that apt fetches from a source."""
    packages = "main/binary-amd64/Packages"
    lines = (
        *("Origin: Debian", f"Label: {label}", "Suite: stable", "Codename: forky"),
        *("Date: Sat, 11 Jul 2026 10:16:37 UTC", "Components: main", "Architectures: amd64"),
        *("SHA256:", f" {'0' * 64} 12 {packages}"),
    )
    (apt / "lists" / f"{name}_InRelease").write_text("\n".join(lines) + "\n")
    (apt / "lists" / f"{name}_{packages.replace('/', '_')}").touch()


@pytest.mark.parametrize(("name", "form"), [("a.list", ONE_LINE), ("a.sources", DEB822)])
def test_default_source_is_debian_for_the_own_release(apt: Path, name: str, form: str) -> None:
    """With nothing fetched, the source of the machine's release is Debian's."""
    (apt / "sources" / name).write_text(form.format(site=SITE, release="forky"))
    assert debian_source() == [SITE]


@pytest.mark.parametrize(("name", "form"), [("a.list", ONE_LINE), ("a.sources", DEB822)])
def test_fetched_lists_name_their_distribution(apt: Path, name: str, form: str) -> None:
    """The fetched lists name the distribution, for any release of the source."""
    (apt / "sources" / name).write_text(form.format(site=SITE, release="stable"))
    assert debian_source() == []
    fetch(apt, "mirror.example_some_debian_dists_stable", "Debian")
    fetch(apt, "security.example_debian-security_dists_stable-security", "Debian-Security")
    assert debian_source() == [SITE]


def test_other_systems_use_the_default(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is not Debian, the default is used."""
    (apt / "sources" / "a.list").write_text(ONE_LINE.format(site=SITE, release="forky"))
    system = {"ID": "ubuntu", "VERSION_CODENAME": "forky"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    assert debian_source() == []


def test_unsupported_scheme_is_ignored(apt: Path) -> None:
    """A source without an ordinary URL is not used."""
    site = "mirror+file:/etc/apt/mirrors/debian.list"
    (apt / "sources" / "a.list").write_text(ONE_LINE.format(site=site, release="forky"))
    assert debian_source() == []


def test_proxies_are_those_of_apt(apt: Path) -> None:
    """The proxies are those of apt's configuration."""
    assert proxies() == {}
    with (apt / "apt.conf").open("a") as config:
        config.write('Acquire::http::Proxy "http://proxy.example:3128";\n')
        config.write('Acquire::https::Proxy "DIRECT";\n')
    assert proxies() == {"http_proxy": "http://proxy.example:3128"}
