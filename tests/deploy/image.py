"""The image without Docker: its steps in a Debian of its own, and the mirror in what they make.

`tests.deploy.test_image_runs` runs it, and so does ``make image-test``; it needs root, and the
right to mount. debootstrap's Debian stands for the base, so what is tried is the same but for
Python's patch version. The image then runs as Docker would run it with ``--read-only``: as its
user, as process 1, on a file system that nothing can be written to. All of it happens apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.parse import urlsplit

from attrs import define, field

from tests.deploy.apart import obstacle, place, run_apart
from tests.deploy.dockerfile import Context, Copy, Dockerfile, Stage
from tests.harness.redis_servers import free_port
from tests.harness.running import ROOT

PACKAGES = "python3,python3-venv,ca-certificates"
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "make")

#: How pip is told on this machine where to get things; what builds asks there, too.
OF_PIP = (
    *("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt"),
    *("/etc/resolv.conf", "/etc/hosts"),
)
FOR_PIP = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT"),
    *("http_proxy", "https_proxy", "no_proxy"),
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What is in /dev of a container.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: What is asked of apt's sources: one that has Debian itself, from where.
_SOURCE_FIELDS = ("CREATED_BY", "COMPONENT", "RELEASE", "ORIGIN", "LABEL", "SITE")

#: Where a user may write to in any container.
ANYBODYS = ("tmp", "var/tmp", "run/lock", "proc", "sys", "dev")

_ROUGHLY_S = 60


def run(*command: str, more: Mapping[str, str] | None = None) -> None:
    """Run a program, with *more* in its environment; what it says is shown if it fails."""
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


def mirror() -> str | None:
    """Return where this machine gets Debian, which is known to work; None: it says nothing of it.

    apt knows its sources in all their forms. What it has once fetched of them tells which ones are
    Debian's; where it has fetched nothing, the first of the machine's own release counts.
    """
    for source in _sources():
        if (source["ORIGIN"], source["LABEL"]) == ("Debian", "Debian"):
            return source["SITE"]
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return None
    release = system.get("VERSION_CODENAME") if system["ID"] == "debian" else None
    for source in _sources("--no-release-info"):
        if source["RELEASE"] == release:
            return source["SITE"]
    return None


def _sources(*options: str) -> Iterator[dict[str, str]]:
    """Give what apt says of the sources of packages that debootstrap can use."""
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
    """Return by which proxies apt gets there, as debootstrap wants to be told of them."""
    return {
        f"{scheme}_proxy": value
        for scheme in ("http", "https")
        for value in _lines_of(
            "apt-config", "dump", "--format", "%v%n", f"Acquire::{scheme}::Proxy"
        )
        if value and value != "DIRECT"
    }


@contextlib.contextmanager
def mounted(root: Path) -> Iterator[None]:
    """Have /proc and /dev in a root, for as long as something is built there.

    Neither is the host's: of its devices, each is there by itself, and can't be removed.
    """
    processes, devices = root / "proc", root / "dev"
    run("mount", "-t", "proc", "proc", str(processes))
    try:
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(devices))
        try:
            for name in DEVICES:
                (devices / name).touch()
                run("mount", "--bind", f"/dev/{name}", str(devices / name))
            (devices / "fd").symlink_to("/proc/self/fd")
            yield
        finally:
            run("umount", "--recursive", str(devices))
    finally:
        run("umount", str(processes))


def debian(made: Path, dockerfile: Dockerfile, packages: str) -> Path:
    """Make a Debian with these packages, as old or new as the base is; return where it is."""
    release = re.split(r"[-@]", dockerfile.arguments["BASE"])[2]
    options = ("--variant=minbase", f"--include={packages}")
    where = [source for source in [mirror()] if source]
    log_step(" ".join(("Debian", release, *(f"from {source}" for source in where))))
    run("debootstrap", *options, release, str(made), *where, more=proxies())
    return made


def inside(root: Path, script: str, environment: Mapping[str, str], directory: str = "/") -> None:
    """Run a shell's script in a root."""
    pairs = [f"{name}={value}" for name, value in environment.items()]
    with mounted(root):
        command = f"cd {directory} && {script}"
        run("chroot", str(root), "env", "-i", *pairs, "/bin/sh", "-ec", command)


@define(eq=False)
class Build:
    """The stages of a Dockerfile, each in a directory below *folder*."""

    folder: Path
    dockerfile: Dockerfile
    context: Context
    roots: dict[str, Path] = field(factory=dict)

    def base(self) -> Path:
        """Return Debian, as old or new as the base is."""
        return debian(self.folder / "base", self.dockerfile, PACKAGES)

    def stage(self, stage: Stage, base: Path) -> None:
        """Run the steps of a stage upon the base."""
        root = self.roots[stage.name] = self.folder / stage.name
        run("cp", "--archive", str(base), str(root))
        directory, environment = "/", {"PATH": PATH}
        for step in stage.steps:
            match step.instruction:
                case "ENV":
                    environment |= dict(pair.split("=", 1) for pair in step.text.split())
                case "WORKDIR":
                    directory = step.text
                    (root / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    log_step(f"{stage.name}: COPY {step.text}")
                    self.copy(Copy.of(step), root, directory)
                case "RUN":
                    log_step(f"{stage.name}: RUN {step.text}")
                    if stage is not self.dockerfile.image:
                        environment |= borrow(root)
                    inside(root, step.text, environment, directory)

    def copy(self, copy: Copy, root: Path, directory: str) -> None:
        """Copy from another stage, or what Docker would be sent of the tree."""
        target = root / (Path(directory) / copy.target).as_posix().lstrip("/")
        if copy.stage:
            (source,) = copy.sources
            target.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "--archive", f"{self.roots[copy.stage]}{source}", str(target))
            return
        for source in copy.sources:
            for path in self.context.files(source):
                inside = path.relative_to(self.context.root / source)
                whole = target / source if copy.target == "./" else target
                at = whole if path.name == Path(source).name else whole / inside
                at.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, at)


def borrow(root: Path) -> dict[str, str]:
    """Let pip in a root ask where pip asks here; return what it needs of the environment."""
    for name in OF_PIP:
        source, target = Path(name), root / name.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return {name: value for name, value in os.environ.items() if name in FOR_PIP}


def log_step(text: str) -> None:
    """Say what is being done."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check_files(root: Path, user: int) -> None:
    """Nothing compiles or installs, what is in it is listed, nothing can be written to."""
    programs = [
        root / place / name for place in ("usr/bin", "opt/ghmirror/bin") for name in COMPILERS
    ]
    assert not [path for path in programs if path.exists()]
    assert not (root / "opt/ghmirror/bin/pip").exists()
    assert list((root / "opt/ghmirror").rglob("twisted/plugins/dropin.cache"))
    known = json.loads((root / "opt/ghmirror/sbom.cdx.json").read_text())
    listed = {(each["name"].lower(), each["version"]) for each in known["components"]}
    lock = (ROOT / "requirements.lock").read_text()
    expected = {
        (name, version) for name, version in re.findall(r"^(\S+)==(\S+) \\$", lock, re.MULTILINE)
    }
    normal = {(name.replace("_", "-").replace(".", "-"), version) for name, version in listed}
    assert not expected - normal, expected - normal
    assert "ghmirror" in {name for name, _ in normal}
    found = subprocess.run(
        [
            "find",
            str(root),
            "-xdev",
            "(",
            "-uid",
            str(user),
            "-o",
            "-perm",
            "-o=w",
            ")",
            "-not",
            "-type",
            "l",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    writable = {str(Path(name).relative_to(root)) for name in found if name}
    assert {each for each in writable if not each.startswith(ANYBODYS)} == {"var/lib/ghmirror"}, (
        writable
    )


@define(eq=False)
class Container:
    """The image while it runs, as process 1 in a place of its own."""

    root: Path
    stage: Stage
    options: Mapping[str, str]
    process: subprocess.Popen[str] = field(init=False)
    errors: IO[str] = field(factory=partial(tempfile.TemporaryFile, "w+"))

    @property
    def environment(self) -> list[str]:
        """What the image's environment is, as `env` wants it."""
        return [
            f"{name}={value}" for name, value in {**self.stage.environment, **self.options}.items()
        ]

    def start(self) -> None:
        """Start it with a root that is read only, as its user."""
        (command, arguments) = (self.stage.last(name).exec_form for name in ("ENTRYPOINT", "CMD"))
        assert command is not None
        assert arguments is not None
        script = (
            'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && root=$1 && shift'
            ' && mount -t tmpfs tmpfs "$root/tmp" && mount -t proc proc "$root/proc"'
            ' && exec chroot --userspec="$1" "$root" env -i "${@:2}"'
        )
        self.process = subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("bash", "-euc", script, "bash", str(self.root), self.stage.last("USER").text),
                *(*self.environment, *command, *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def log(self, pattern: str) -> str:
        """Return all that it says until something is said."""
        assert self.process.stdout is not None
        output = []
        for line in self.process.stdout:
            output.append(line)
            if re.search(pattern, line):
                return "".join(output)
        raise SystemExit(f"It never said {pattern!r}:\n{''.join(output)}{self.complaints}")

    def rest(self) -> str:
        """Return what else it says, until it ends."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    @property
    def complaints(self) -> str:
        """What it has said on stderr: nothing, if all is well, since its log is for stdout."""
        self.errors.seek(0)
        return self.errors.read()

    @property
    def pid(self) -> int:
        """Its process 1, as it is called outside."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def is_healthy(self) -> bool:
        """What the health check says, run by the image's user in the image's root."""
        user = self.stage.last("USER").text
        command = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "chroot",
            f"--userspec={user}",
        ]
        done = subprocess.run(
            [*command, str(self.root), "env", "-i", *self.environment, *self.stage.health],
            check=False,
            timeout=_ROUGHLY_S,
        )
        return done.returncode == 0

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self.process.wait()


def check_life(root: Path, stage: Stage) -> None:
    """It starts, is healthy, answers, writes nowhere, and ends well at SIGTERM."""
    port, admin = free_port(), free_port()
    options = {
        "GHMIRROR_SERVER_LISTEN": f"tcp:{port}",
        "GHMIRROR_SERVER_ADMIN_LISTEN": f"tcp:{admin}",
        "HEALTH_URL": f"http://127.0.0.1:{port}/healthz",
        "GHMIRROR_GITHUB_STATUS_URL": "",
    }
    command = [sys.executable, "-m", "tests.fakes.github", "--users=1", "--resources=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as github:
        try:
            assert github.stdout is not None
            options["GHMIRROR_GITHUB_API_URL"] = github.stdout.readline().strip()
            container = Container(root, stage, options)
            container.start()
            try:
                _live(container, port, admin)
            finally:
                container.kill()
        finally:
            github.kill()


def _live(container: Container, port: int, admin: int) -> None:
    output = container.log("admin listening on")
    log_step("It listens")
    assert "dropin.cache" not in output, output
    pid = container.pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), status
    assert re.search(r"^Uid:\t10001\t10001\t", status, re.MULTILINE), status
    assert container.is_healthy()
    log_step("It is healthy")
    question = urllib.request.Request(
        f"http://127.0.0.1:{port}/repos/bench/repo-0", headers={"Authorization": "token token0"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for outcome in ("MISS", "HIT"):
        with opener.open(question, timeout=_ROUGHLY_S) as answer:
            assert answer.headers["X-Cache"] == outcome
    with opener.open(f"http://127.0.0.1:{admin}/metrics", timeout=_ROUGHLY_S) as answer:
        assert b"ghmirror_requests_total" in answer.read()
    log_step("It answers")
    os.kill(pid, signal.SIGTERM)
    rest = container.rest()
    assert container.process.wait(_ROUGHLY_S) == 0, rest
    assert "Stopped" in rest, rest
    assert "Traceback" not in output + rest
    assert not container.complaints, container.complaints
    log_step("It ends well")


def build_and_run(folder: Path, base: Path | None) -> None:
    """Build, look at the files, and live a life; in a place apart."""
    dockerfile = Dockerfile.read(ROOT / "Dockerfile")
    build = Build(folder, dockerfile, Context(ROOT))
    base = base or build.base()
    for stage in dockerfile.stages:
        build.stage(stage, base)
    root = build.roots[dockerfile.image.name]
    check_files(root, int(dockerfile.image.last("USER").text.partition(":")[0]))
    log_step("Its files are as they should be")
    check_life(root, dockerfile.image)


def _end(number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that what was made is removed."""
    raise SystemExit(128 + number)


def main(module: str, do: Callable[[Path, Path | None], None]) -> None:
    """Do what a *module* does apart, in a directory that is removed in any case."""
    if sys.argv[1:2] == ["--apart"]:
        folder, *given = map(Path, sys.argv[2:])
        do(folder, given[0] if given else None)
        return
    why_not = obstacle()
    if why_not:
        raise SystemExit(f"It can't be run here: {why_not}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    folder = Path(tempfile.mkdtemp(prefix="ghmirror-image-", dir=place()))
    try:
        command = [sys.executable, "-m", module, "--apart", str(folder)]
        status = run_apart([*command, *sys.argv[1:]], ROOT)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Here nothing is mounted on it: what is there can't be anybody else's.
        run("rm", "--recursive", "--force", "--one-file-system", str(folder))
    sys.exit(status)


if __name__ == "__main__":
    main("tests.deploy.image", build_and_run)
