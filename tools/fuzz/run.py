# SPDX-License-Identifier: Apache-2.0
"""Fuzz the readers of what strangers may send.

    .venv/bin/python tools/fuzz/run.py messages --inputs 200000 --folder out/fuzz

Guided by coverage where atheris is installed (`pip install atheris`, Linux), else by mutating the
seeds and what reached lines of posefit in an order that nothing had before; decoders in C are seen
by neither. Films and their like are also taken apart and put together otherwise. Stops at the first
finding, whose input it leaves in the folder: add it to tests/posefit/fuzz_cases. Prints one line of
JSON at the end.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import math
import random
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

HANG_S = 10
"""An input that takes longer is a finding: seconds, the process's own with plain mutation."""
MAX_LENGTH = 1 << 15
ATHERIS_CHILD = """
import sys
sys.path.insert(0, {here!r})
import atheris
with atheris.instrument_imports(include=["posefit", "posefit_shared"]):
    import targets
target = targets.TARGETS[{name!r}]
atheris.Setup(sys.argv, lambda data: targets.one_input(target, data) and None)
atheris.Fuzz()
"""


def main() -> int:
    """Fuzz one reader; 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--engine", choices=("auto", "atheris", "plain"), default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="plain: ends by then")
    parser.add_argument("--keep-going", action="store_true", help="plain: past findings")
    options = parser.parse_args()
    folder = options.folder / options.target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "plain"
    started = time.monotonic()
    run = _with_atheris if engine == "atheris" else _plain
    report = run(options.target, folder, options)
    report |= {"target": options.target, "engine": engine,
               "seconds": round(time.monotonic() - started)}  # fmt: skip
    print(json.dumps(report))
    return 0 if report["findings"] == 0 else 1


def _with_atheris(name: str, folder: Path, options: argparse.Namespace) -> dict[str, int]:
    from targets import TARGETS

    for number, data in enumerate(TARGETS[name].seeds()):
        (folder / "corpus" / f"seed-{number:02d}").write_bytes(data)
    code = ATHERIS_CHILD.format(here=str(Path(__file__).parent), name=name)
    words = [f"-runs={options.inputs}", f"-seed={options.seed}", f"-max_len={MAX_LENGTH}",
             f"-timeout={HANG_S}", "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=1",
             f"-artifact_prefix={folder}/", str(folder / "corpus")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    (folder / "log").write_text(done.stdout + done.stderr)
    said = done.stderr
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    cover = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
    return {
        "inputs": int(executed[1]) if executed else 0,
        "edges": int(cover[-1][0]) if cover else 0,
        "corpus": int(cover[-1][2]) if cover else 0,
        "findings": int(done.returncode != 0),
    }


def _plain(name: str, folder: Path, options: argparse.Namespace) -> dict[str, int]:
    from targets import TARGETS, one_input

    target, rng = TARGETS[name], random.Random(options.seed)
    # Own time: on a busy machine, waiting is no hang. The signal ends the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    faulthandler.register(signal.SIGALRM, chain=True)
    inputs = target.seeds()
    paths = Paths()
    for data in inputs:
        with paths:
            one_input(target, data)
    paths.found_new()
    tried, read, findings, ends = 0, 0, set(), time.monotonic() + options.seconds
    while tried < options.inputs and time.monotonic() < ends:
        data = _mutated(inputs, target.rebuild, rng)
        (folder / "current").write_bytes(data)
        tried += 1
        try:
            with _limited(), paths:
                read += one_input(target, data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            finding = f"finding-{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            (folder / finding).write_bytes(data)
            if not options.keep_going:
                raise
            findings.add(finding)
        if paths.found_new():
            inputs.append(data)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return {"inputs": tried, "read": read, "edges": len(paths.seen), "corpus": len(inputs),
            "findings": len(findings), "most_mb": most}  # fmt: skip


@contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    signal.setitimer(signal.ITIMER_REAL, 12 * HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class Paths:
    """Steps from line to line of posefit's own code that inputs have taken, while entered."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self._new = False

    def __enter__(self) -> None:
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def found_new(self) -> bool:
        """Whether there were steps that had not been taken when this was last asked."""
        new, self._new = self._new, False
        return new

    def _called(self, frame: FrameType, _event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        if "/posefit" not in name or "/tools/" in name:
            return None
        last = 0

        def stepped(inner: FrameType, _event: str, _argument: object) -> Any:
            nonlocal last
            step = (name, last, inner.f_lineno)
            last = inner.f_lineno
            if step not in self.seen:
                self.seen.add(step)
                self._new = True
            return stepped

        return stepped


def _mutated(
    inputs: list[bytes], rebuild: Callable[..., bytes] | None, rng: random.Random
) -> bytes:
    """An input with its parts, its bytes or both changed."""
    data = rng.choice(inputs)
    way = rng.randrange(3) if rebuild else 0
    if rebuild and way:
        data = rebuild(data, rng.choice(inputs), rng)
    return data if way == 1 else _other_bytes(data, inputs, rng)


def _other_bytes(original: bytes, inputs: list[bytes], rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled, or spliced from another input."""
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        place, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length]
        elif kind == 3:
            data[place] = rng.choice((0, 1, 127, 128, 255, data[place] ^ 1 << rng.randrange(8)))
        else:
            other = rng.choice(inputs)
            start = rng.randrange(len(other) or 1)
            data[place : place + length] = other[start : start + length]
    return bytes(data[:MAX_LENGTH])


if __name__ == "__main__":
    sys.exit(main())
