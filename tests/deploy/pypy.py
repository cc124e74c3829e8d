"""The mirror on Debian's PyPy: what its tests say there, in a Debian of its own.

`tests.deploy.test_pypy_runs` runs it; it needs root, and the right to mount. The mirror is
installed as ``make bench PYPY=pypy3`` does that, and real ones are started, as everywhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile
from tests.deploy.image import PATH, borrow, debian, inside, log_step, main, proxies, run
from tests.harness.running import ROOT

#: What the mirror needs there, and what some of that is compiled with.
PACKAGES = "pypy3,pypy3-venv,pypy3-dev,gcc,libc6-dev,ca-certificates"

#: What these tests start; nothing else is to start it, as that file says to Debian's packages.
STARTED = r"""
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet=2 update
apt-get --quiet=2 install --no-install-recommends redis-server redis-sentinel tinyproxy >/dev/null
"""

#: hypothesis' later ones are compiled for PyPy 7.3.20.
INSTALLED = "--constraint conf/pypy/constraints.txt . pytest pytest-xdist 'hypothesis<6.149' PyYAML"

#: The promises, HTTP on both sides, and the store on memory and Redis. Left out is what has nothing
#: to do with the interpreter and takes long: parsers at full size, made-up credentials by the
#: thousand, Redis servers that are paused. Two files look at content that is released, which
#: PyPy's collector does later.
TESTS = (
    "tests/rules tests/system/test_promises.py tests/unit/web tests/unit/upstream"
    " tests/unit/http/test_response_parser.py tests/unit/redis/test_redis_connection.py"
    " tests/unit/redis_store/test_redis_store.py tests/unit/redis_store/test_redis_records.py"
    " tests/unit/redis_store/test_redis_semaphores.py"
    " --deselect=tests/rules/test_unknown.py --deselect=tests/rules/test_growth.py"
    " --deselect=tests/unit/web/test_content_budgets.py"
    " --deselect=tests/unit/upstream/test_byte_budget.py"
)

_LEFT = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "build", "*.egg-info")


def install_and_test(folder: Path, base: Path | None) -> None:
    """Install the mirror and what tests need, and run them; in a place apart."""
    root = folder / "debian"
    if base is None:
        debian(root, Dockerfile.read(ROOT / "Dockerfile"), PACKAGES)
    else:
        run("cp", "--archive", str(base), str(root))
    shutil.copytree(ROOT, root / "src", ignore=_LEFT, dirs_exist_ok=True)
    environment = {"PATH": f"/opt/pypy/bin:{PATH}", "HOME": "/root", **borrow(root)}
    inside(root, STARTED, {**environment, **proxies()})
    log_step("It is installed")
    pip = "python -m pip --quiet --disable-pip-version-check --no-input"
    steps = f"pypy3 -m venv /opt/pypy && {pip} install {INSTALLED} && rm -r build"
    inside(root, steps, environment, directory="/src")
    log_step("It is tested")
    command = f"python -m pytest --quiet --numprocesses=2 --dist=loadfile {TESTS}"
    inside(root, f"set -a; . conf/pypy/environment; {command}", environment, directory="/src")
    log_step("It runs on PyPy")


if __name__ == "__main__":
    main("tests.deploy.pypy", install_and_test)
