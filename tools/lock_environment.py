# SPDX-License-Identifier: Apache-2.0
"""Write requirements.lock: every package of the test environment, with the hashes of its files.

    python tools/lock_environment.py      # needs uv (`pip install uv`)

Versions are those of constraints.txt, for Python 3.11 on Linux x86_64. What pip then installs with
`--require-hashes` is byte for byte what was tested; the packages' index does not matter.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from pathlib import Path

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "requirements.lock"
EXTRAS = ("test", "train", "lint", "smplx")
HEAD = """\
# The test environment, each file by its hash (Python 3.11, Linux x86_64). Made by
# tools/lock_environment.py from pyproject.toml and constraints.txt; `make test-locked` uses it.
"""


def requirements() -> list[str]:
    """What pyproject.toml asks for, this project's own packages left out."""
    found: list[str] = []
    for file in (REPOSITORY / "pyproject.toml", REPOSITORY / "shared/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        extras = project.get("optional-dependencies", {})
        found += project["dependencies"] + [one for name in EXTRAS for one in extras.get(name, [])]
    return [one for one in found if not one.startswith("posefit")]


def main() -> int:
    """Write the lock; 0 if it could be made."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "-", "--constraints", "constraints.txt",
        "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url",
        "--no-emit-find-links", "--python-version", "3.11", "--python-platform",
        "x86_64-manylinux_2_28", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(
        command, input="\n".join(requirements()), capture_output=True, text=True, check=False,
        cwd=REPOSITORY,
    )  # fmt: skip
    if done.returncode != 0:
        logger.error("uv could not make the lock: %s", done.stderr.strip())
        return 1
    LOCK.write_text(HEAD + done.stdout)
    logger.info("%s: %d packages", LOCK.name, done.stdout.count("=="))
    return 0


if __name__ == "__main__":
    sys.exit(main())
