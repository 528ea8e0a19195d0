# SPDX-License-Identifier: Apache-2.0
"""`posefit bench`: the tables of docs/benchmarks.md, printed again on this machine.

Each table is a script under `benchmarks/` of the checkout, run in a process of its own so that one
measurement does not warm up another. The rasteriser's needs PyTorch3D beside it: that script runs
in `.venv-pytorch3d` where it exists (`make test-pytorch3d` makes it).
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from ..errors import PosefitError

__all__ = ["BenchmarkError", "run_benchmarks"]

logger = logging.getLogger(__name__)

_CHECKOUT = Path(__file__).parents[3]
_SCRIPTS = {"rasterizer": "rasterizer.py", "solver": "solver.py", "demo": "demo.py"}
_PYTORCH3D = _CHECKOUT / ".venv-pytorch3d" / "bin" / "python"


class BenchmarkError(PosefitError):
    """A table that cannot be printed here; the message says why."""


def run_benchmarks(*, only: str | None = None, output: Path | None = None) -> int:
    """Run the benchmark scripts one after another.

    Args:
        only: one of the tables; all by default.
        output: folder that receives each table as JSON.

    Returns:
        0, or the exit status of the first script that failed.

    Raises:
        BenchmarkError: no such table, or posefit does not run from a checkout.
    """
    if only is not None and only not in _SCRIPTS:
        raise BenchmarkError(f"no table {only!r}, expected one of {', '.join(_SCRIPTS)}")
    folder = _CHECKOUT / "benchmarks"
    if not folder.is_dir():
        raise BenchmarkError(
            "the benchmarks lie in posefit's source and are not installed with it: clone it and "
            "run make bench"
        )
    for name, script in _SCRIPTS.items():
        if only not in (None, name):
            continue
        command = [_python(name), str(folder / script)]
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            command += ["--output", str(output / f"{name}.json")]
        logger.info("benchmark: %s", name)
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return 0


def _python(name: str) -> str:
    if name == "rasterizer" and _PYTORCH3D.is_file():
        return str(_PYTORCH3D)
    if name == "rasterizer":
        logger.warning("no .venv-pytorch3d here: the rasteriser is timed without its reference")
    return sys.executable
