"""Where this machine gets Debian's packages, which is known to work."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

# Fields of apt's sources: which one has Debian itself, and where.
_SOURCE_FIELDS = ("CREATED_BY", "COMPONENT", "RELEASE", "ORIGIN", "LABEL", "SITE")


def debian_source() -> list[str]:
    """Return the URL of Debian's packages as an argument; empty: the default of the program.

    apt reads its sources in all their forms. The lists that it has fetched name their distribution;
    where it has fetched none, the first source of the machine's own release counts.
    """
    for source in _sources():
        if (source["ORIGIN"], source["LABEL"]) == ("Debian", "Debian"):
            return [source["SITE"]]
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return []
    release = system.get("VERSION_CODENAME") if system["ID"] == "debian" else None
    for source in _sources("--no-release-info"):
        if source["RELEASE"] == release:
            return [source["SITE"]]
    return []


def _sources(*options: str) -> Iterator[dict[str, str]]:
    """Yield the sources of packages in apt's configuration that have an ordinary URL."""
    form = "\t".join(f"$({name})" for name in _SOURCE_FIELDS)
    for line in _lines_of("apt-get", "indextargets", *options, "--format", form):
        source = dict(zip(_SOURCE_FIELDS, line.split("\t"), strict=True))
        is_usable = urlsplit(source["SITE"]).scheme in {"http", "https", "file"}
        if (source["CREATED_BY"], source["COMPONENT"]) == ("Packages", "main") and is_usable:
            yield source


def _lines_of(*command: str) -> list[str]:
    if not shutil.which(command[0]):
        return []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def proxies() -> dict[str, str]:
    """Return the proxies of apt's configuration, as variables of the environment."""
    return {
        f"{scheme}_proxy": value
        for scheme in ("http", "https")
        for value in _lines_of(
            "apt-config", "dump", "--format", "%v%n", f"Acquire::{scheme}::Proxy"
        )
        if value and value != "DIRECT"
    }
