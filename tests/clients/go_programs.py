"""Programs in Go with the libraries of Debian's packages, which need no network."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.clients.programs import HERE
from tests.harness.running import environment

SOURCES = Path("/usr/share/gocode")
_IMPORT = "github.com/google/go-github/github"


def installed_import() -> str:
    """Return how the installed version of go-github is imported; some have it in their path."""
    library = SOURCES / "src" / "github.com" / "google" / "go-github"
    found = sorted(library.glob("**/github/github.go"))
    assert found, "go-github is not installed (Debian: golang-github-google-go-github-dev)"
    return str(found[0].parent.relative_to(SOURCES / "src"))


@cache
def go_github() -> str:
    """Compile go_github/main.go, and return the program; Go's own cache has the libraries."""
    go = shutil.which("go")
    assert go is not None, "go is not installed (Debian package: golang-go); try `make test`"
    folder = Path(mkdtemp(prefix="go-"))
    source = (HERE / "go_github" / "main.go").read_text()
    (folder / "main.go").write_text(source.replace(_IMPORT, installed_import()))
    options = {"GOPATH": str(SOURCES), "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": ""}
    command = [go, "build", "-o", "client", "main.go"]
    subprocess.run(command, cwd=folder, env=environment(options), check=True)
    return str(folder / "client")
