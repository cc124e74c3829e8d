"""The image on CPython is built by a real engine, and serves."""

from __future__ import annotations

from tests.deploy.image_checks import ImageChecks
from tests.deploy.images import CPYTHON


class TestImageOnCPython(ImageChecks):
    """The image that ``make image`` builds."""

    dockerfile = CPYTHON
    lock = "requirements.lock"
    interpreter = "CPython"
