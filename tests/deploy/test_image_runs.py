"""The image on CPython is built by a real engine, and serves."""

from __future__ import annotations

import json
from typing import Any

from tests.deploy.engine import Engine
from tests.deploy.image_checks import ImageChecks
from tests.deploy.images import CPYTHON, build_stage

# Prints of each line whether CycloneDX's own schema accepts it.
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
validator = JsonStrictValidator(SchemaVersion.V1_6)
for line in sys.stdin:
    print(validator.validate_str(line) is None)
"""


class TestImageOnCPython(ImageChecks):
    """The image that ``make image`` builds."""

    dockerfile = CPYTHON
    lock = "requirements.lock"
    interpreter = "CPython"

    def test_sbom_is_valid(self, engine: Engine, image: str, sbom: dict[str, Any]) -> None:
        """The SBOM is valid by the schema of CycloneDX 1.6, which rejects other documents."""
        assert sbom["$schema"] == "http://cyclonedx.org/schema/bom-1.6.schema.json"
        wrong = {**sbom, "components": [{"name": "no type"}]}
        # The stage that builds the image has the locked version of the schema.
        verdicts = engine.docker(
            *("run", "--rm", "--interactive", "--network=none", build_stage(CPYTHON)),
            *("/opt/build/bin/python", "-c", _VALIDATE),
            text=f"{json.dumps(sbom)}\n{json.dumps(wrong)}\n",
        )
        assert verdicts == "True\nFalse"
