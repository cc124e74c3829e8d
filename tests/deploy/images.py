"""Images for the tests, each built once in a run: bases, the mirror's, and those of Compose.

The bases have the names that the Dockerfiles expect, and are made from Debian's packages, since
registries of images are not reachable from everywhere. They have this machine's settings of pip, so
the Dockerfiles need none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from tests.deploy.debian_source import debian_source, proxies
from tests.deploy.engine import PATH, Engine, EngineError, locked
from tests.harness.running import ROOT

CPYTHON = "Dockerfile"
PYPY = "conf/pypy/Dockerfile"

TAGS = {CPYTHON: "ghmirror", PYPY: "ghmirror:pypy"}
SUITE = "ghmirror:pypy-suite"

PACKAGES = "ca-certificates,python3,python3-venv"
# Programs in C are compiled for a test, which the compiler does not have to make fast.
BASE_OF_PYPY = """\
FROM {base}
RUN apt-get install -y --no-install-recommends pypy3 pypy3-venv pypy3-dev
ENV CFLAGS=-O0
"""
# Redis' own image accepts connections from other containers without a password, too.
SERVICES_OF_COMPOSE = """\
FROM {base}
RUN apt-get install -y --no-install-recommends haproxy redis-server prometheus \\
    && install -d /prometheus
RUN printf '#!/bin/sh\\nexec /usr/bin/redis-server "$@" --protected-mode no\\n' \\
        > /usr/local/bin/redis-server \\
    && chmod 755 /usr/local/bin/redis-server
"""
SUITE_ON_PYPY = """\
FROM {base}
RUN apt-get install -y --no-install-recommends redis-server redis-sentinel tinyproxy
ENV PATH=/opt/ghmirror/bin:$PATH PYTHONPATH=/packages
"""
# Pure Python; later versions of Hypothesis are compiled for PyPy 7.3.20.
PACKAGES_OF_SUITE = ("pytest", "hypothesis<6.149")

# What each image of the Compose file starts, as those of the same names do.
STARTED = {
    "haproxy": ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
    "redis": ["redis-server"],
    "prometheus": [
        *("prometheus", "--config.file=/etc/prometheus/prometheus.yml"),
        "--storage.tsdb.path=/prometheus",
    ],
}

# How pip gets packages on this machine: files, and variables.
FILES_OF_PIP = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
VARIABLES_OF_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT")
VARIABLES_OF_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def base_of(dockerfile: str) -> str:
    """Return the name of the image that a Dockerfile builds upon."""
    (base,) = re.findall(r"^ARG BASE=(.*)$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    return str(base)


@frozen
class Images:
    """The images of an engine, built when they are first needed."""

    engine: Engine

    def mirror(self, dockerfile: str) -> str:
        """Build the mirror's image; return its tag."""
        tag = TAGS[dockerfile]
        with self._once(tag) as missing:
            if missing:
                self._base_of_pypy() if dockerfile == PYPY else self.base()
                self._build(build_stage(dockerfile), "--file", dockerfile, "--target", "build", ".")
                self._build(tag, "--file", dockerfile, ".")
        return tag

    def services(self, names: Mapping[str, str]) -> None:
        """Build the images of Compose's services from Debian's packages, each with its name."""
        base = self.base()
        with self._once("ghmirror-services") as missing:
            if missing:
                self._build("ghmirror-services", "-", text=SERVICES_OF_COMPOSE.format(base=base))
                for service, name in names.items():
                    command = ",".join(f'"{word}"' for word in STARTED[service])
                    text = f"FROM ghmirror-services\nCMD [{command}]\n"
                    self._build(name, "-", text=text)

    def suite(self) -> str:
        """Build the image in which tests run on PyPy: the mirror's, with what tests need."""
        build = build_stage(PYPY)
        self.mirror(PYPY)
        with self._once(SUITE) as missing:
            if missing:
                self._build(SUITE, "-", text=SUITE_ON_PYPY.format(base=build))
        return SUITE

    def packages_of_suite(self) -> Path:
        """Install what tests on PyPy import, by the much faster pip of this Python."""
        directory = self.engine.directory / "packages"
        with locked(self.engine.directory / "packages.lock"):
            if not directory.exists():
                command = (sys.executable, "-m", "pip", "--quiet", "install", "--no-compile")
                where = ("--target", str(directory), "--only-binary=:all:")
                subprocess.run([*command, *where, *PACKAGES_OF_SUITE], check=True)
        return directory

    def base(self) -> str:
        """Make the base of the image on CPython; return its name."""
        name = base_of(CPYTHON)
        with self._once(name) as missing:
            if missing:
                self._import_debian(name)
        return name

    def _base_of_pypy(self) -> None:
        base, name = self.base(), base_of(PYPY)
        with self._once(name) as missing:
            if missing:
                self._build(name, "-", text=BASE_OF_PYPY.format(base=base))

    def _import_debian(self, name: str) -> None:
        """Make a Debian of the release that an image's name has, and import it."""
        release = name.rpartition("-")[2]
        archive = self.engine.directory / "debian.tar"
        hooks = [
            f"--customize-hook=upload {path} {path}" for path in FILES_OF_PIP if Path(path).exists()
        ]
        made = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"),
                # What is built here is never needed after a power failure.
                "--dpkgopt=force-unsafe-io",
                # Builds upon it need no lists of their own.
                *("--skip=cleanup/apt", *hooks, release, str(archive), *debian_source()),
            ],
            env={**os.environ, "PATH": PATH, **proxies()},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise EngineError(f"mmdebstrap: status {made.returncode}\n{made.stderr}")
        environment = [
            f"--change=ENV {each}={os.environ[each]}"
            for each in VARIABLES_OF_PIP
            if each in os.environ
        ]
        self.engine.docker("import", *environment, str(archive), name)
        archive.unlink()

    def _build(self, tag: str, *arguments: str, text: str | None = None) -> None:
        """Build an image upon what there is, with this machine's network and proxies."""
        ours = {each: os.environ[each] for each in VARIABLES_OF_PROXIES if each in os.environ}
        given = [f"--build-arg={name}={value}" for name, value in {**proxies(), **ours}.items()]
        command = ("build", "--network=host", "--quiet", f"--tag={tag}", *given)
        self.engine.docker(*command, *arguments, text=text)

    @contextmanager
    def _once(self, name: str) -> Iterator[bool]:
        """Lock an image for one worker; yield whether it is missing."""
        with locked(self.engine.directory / f"{re.sub(r'[^a-z0-9]+', '-', name)}.lock"):
            yield not self._has(name)

    def _has(self, name: str) -> bool:
        # Its list does not know whole names of the form docker.io/library/NAME.
        with suppress(EngineError):
            self.engine.docker("image", "inspect", name)
            return True
        return False


def build_stage(dockerfile: str) -> str:
    """Return the tag of the stage that builds an image."""
    return f"{TAGS[dockerfile].partition(':')[0]}:{Path(dockerfile).parent.name or 'cpython'}-build"
