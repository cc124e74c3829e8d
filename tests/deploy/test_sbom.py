"""The list of what is in the image, made here as the Dockerfile makes it there."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.dockerfile import Dockerfile
from tests.harness.running import ROOT
from tests.system.test_packaging import run

IN_THE_IMAGE = "/opt/ghmirror/sbom.cdx.json"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

#: Says what is wrong with a list, as CycloneDX' own schema has it; nothing extra is let through.
_VALIDATE = """
import sys
from pathlib import Path
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
validator = JsonStrictValidator(SchemaVersion.V1_6)
print(validator.validate_str(Path(sys.argv[1]).read_text()) or "valid")
"""


def steps() -> str:
    """Return all that is run to build the image, in one line."""
    (build, _) = Dockerfile.read(ROOT / "Dockerfile").stages
    return " && ".join(step.text for step in build.all_of("RUN"))


@frozen
class Listed:
    """A list of packages, and the tools that it was made with."""

    path: Path
    tools: Path

    @property
    def content(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.path.read_text())
        return read

    @property
    def versions(self) -> dict[str, str]:
        """The version of each package, by its normal name."""
        return {
            canonicalize_name(each["name"]): each["version"] for each in self.content["components"]
        }

    def verdict(self, path: Path) -> str:
        """Return what the schema says of a list."""
        return run(self.tools / "python", "-c", _VALIDATE, str(path), directory=path.parent).strip()


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Listed:
    """Install the locked tools by their hashes, and let them list this very environment."""
    base = tmp_path_factory.mktemp("sbom")
    run(sys.executable, "-m", "venv", str(base / "build"), directory=base)
    tools = base / "build" / "bin"
    output = re.search(r"/opt/build/bin/pip (install .*?requirements-build\.lock)", steps())
    assert output is not None
    run(tools / "pip", "--quiet", "--no-input", *_here(output[1], base), directory=ROOT)
    output = re.search(r"/opt/build/bin/cyclonedx-py (.*)$", steps())
    assert output is not None
    run(tools / "cyclonedx-py", *_here(output[1], base), directory=base)
    return Listed(base / Path(IN_THE_IMAGE).name, tools)


def _here(output: str, base: Path) -> list[str]:
    """Return arguments of a step with the places that they have here."""
    inside = output.replace("/opt/ghmirror/bin/python", sys.executable)
    return inside.replace("/opt/ghmirror", str(base)).split()


def test_sbom_is_valid(listed: Listed, tmp_path: Path) -> None:
    """The SBOM is valid by the schema of CycloneDX 1.6, which rejects other documents."""
    assert listed.content["$schema"] == SCHEMA
    assert listed.verdict(listed.path) == "valid"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({**listed.content, "components": [{"name": "no type"}]}))
    assert listed.verdict(wrong) != "valid"


def test_sbom_has_each_locked_package(listed: Listed) -> None:
    """Each package of the image is listed with its version and origin."""
    lock = (ROOT / "requirements.lock").read_text()
    lines = [Requirement(line) for line in re.findall(r"^(\S.*?) \\$", lock, re.MULTILINE)]
    expected = [each for each in lines if each.marker is None or each.marker.evaluate()]
    for name in ("ghmirror", *(each.name for each in expected)):
        assert listed.versions[canonicalize_name(name)] == version(name), name
    (twisted,) = [each for each in listed.content["components"] if each["name"] == "Twisted"]
    assert twisted["purl"] == f"pkg:pypi/twisted@{version('twisted')}"


def test_sbom_has_dependencies(listed: Listed) -> None:
    """Dependencies show the reason for each package."""
    needs = {each["ref"]: each.get("dependsOn", []) for each in listed.content["dependencies"]}
    names = {each["bom-ref"]: each["name"] for each in listed.content["components"]}
    (ours,) = [ref for ref, name in names.items() if name == "ghmirror"]
    assert {"treq", "txredisapi", "boto3"} <= {names[ref] for ref in needs[ours]}


def test_documented_path_of_the_sbom() -> None:
    """The page about deployment names the path of the SBOM in the image."""
    assert f"--output-file={IN_THE_IMAGE}" in steps()
    assert f"``{IN_THE_IMAGE}``" in (ROOT / "docs" / "deployment.rst").read_text()
