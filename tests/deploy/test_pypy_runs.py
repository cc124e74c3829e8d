"""The image on PyPy is built by a real engine, serves, and follows the mirror's rules."""

from __future__ import annotations

import re
from typing import ClassVar

from tests.deploy.engine import Engine
from tests.deploy.image_checks import ImageChecks, configuration
from tests.deploy.images import PYPY, Images
from tests.harness.running import ROOT

# What depends on the interpreter: when objects are released, the encoding of records, compression
# and TLS through cffi, sockets and timers. Left out is what runs long and shows nothing of that.
TESTS = (
    "tests/rules/test_client_responses.py",
    "tests/rules/test_collapsed_requests.py",
    "tests/rules/test_links.py",
    "tests/rules/test_stored_records.py",
    "tests/rules/test_own_writes.py",
    "tests/rules/test_sharing.py",
    "tests/rules/test_validators.py",
    "tests/unit/redis/test_redis_connection.py",
    "tests/unit/redis_store/test_redis_store.py",
    "tests/unit/redis_store/test_redis_records.py",
    "tests/unit/web/test_content_conversion.py",
    "tests/unit/web/test_content_streaming.py",
    "tests/unit/web/test_response_head.py",
    "tests/unit/upstream/test_http_client.py",
    "tests/unit/upstream/test_tls.py",
)


class TestImageOnPyPy(ImageChecks):
    """The image that ``make image-pypy`` builds."""

    dockerfile = PYPY
    lock = "conf/pypy/requirements.lock"
    interpreter = "PyPy"
    bundled: ClassVar[set[str]] = {"cffi", "greenlet", "hpy", "readline"}

    def test_garbage_collector_is_configured(self, engine: Engine, image: str) -> None:
        """The image sets what ``conf/pypy/environment`` sets elsewhere."""
        text = (ROOT / "conf" / "pypy" / "environment").read_text()
        expected = set(re.findall(r"^PYPY_\w+=\w+$", text, re.MULTILINE))
        assert expected
        environment = set(configuration(engine, image)["Env"])
        assert {each for each in environment if each.startswith("PYPY_")} == expected

    def test_image_differs_in_the_interpreter_alone(
        self, engine: Engine, images: Images, image: str
    ) -> None:
        """Both images have the same user, ports, volume, command, health check and labels."""
        other = configuration(engine, images.mirror("Dockerfile"))
        ours = configuration(engine, image)
        fields = ("User", "ExposedPorts", "Volumes", "Entrypoint", "Cmd", "Healthcheck", "Labels")
        assert {each: ours[each] for each in fields} == {each: other[each] for each in fields}

    def test_rules_hold_on_pypy(self, engine: Engine, images: Images) -> None:
        """Tests pass in the image, against the mirror as it is installed there."""
        suite = images.suite()
        mounts = [f"--volume={ROOT}/{each}:/suite/{each}:ro" for each in ("tests", "setup.cfg")]
        mounts.append(f"--volume={images.packages_of_suite()}:/packages:ro")
        command = ("python", "-m", "pytest", "--quiet", "-p", "no:cacheprovider")
        engine.docker("run", "--rm", *mounts, "--workdir=/suite", suite, *command, *TESTS)
