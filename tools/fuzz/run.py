# SPDX-License-Identifier: Apache-2.0
"""Fuzz the readers of what strangers may send.

    .venv/bin/python tools/fuzz/run.py messages --inputs 200000 --folder out/fuzz

Guided by coverage where atheris is installed (`pip install atheris`, Linux), else by mutating the
seeds and whatever they became. Stops at the first finding, whose input it leaves in the folder:
add it to tests/posefit/fuzz_cases. Prints one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HANG_S = 10
"""An input that takes longer is a finding: seconds, the process's own with plain mutation."""
MAX_LENGTH = 1 << 14
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
    options = parser.parse_args()
    folder = options.folder / options.target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "plain"
    started = time.monotonic()
    run = _with_atheris if engine == "atheris" else _plain
    report = run(options.target, folder, options.inputs, options.seed)
    report |= {"target": options.target, "engine": engine,
               "seconds": round(time.monotonic() - started)}  # fmt: skip
    print(json.dumps(report))
    return 0 if report["findings"] == 0 else 1


def _with_atheris(name: str, folder: Path, inputs: int, seed: int) -> dict[str, int]:
    from targets import TARGETS

    for number, data in enumerate(TARGETS[name].seeds()):
        (folder / "corpus" / f"seed-{number:02d}").write_bytes(data)
    code = ATHERIS_CHILD.format(here=str(Path(__file__).parent), name=name)
    words = [f"-runs={inputs}", f"-seed={seed}", f"-max_len={MAX_LENGTH}", f"-timeout={HANG_S}",
             "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=1",
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


def _plain(name: str, folder: Path, inputs: int, seed: int) -> dict[str, int]:
    from targets import TARGETS, one_input

    target = TARGETS[name]
    # Own time: on a busy machine, waiting is no hang. The signal ends the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    mutate = _mutations(target.seeds(), random.Random(seed))
    read = 0
    for _ in range(inputs):
        data = next(mutate)
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        (folder / "current").write_bytes(data)
        try:
            read += one_input(target, data)
        except Exception:
            (folder / "finding").write_bytes(data)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {"inputs": inputs, "read": read, "findings": 0}


def _mutations(seeds: list[bytes], rng: random.Random) -> Iterator[bytes]:
    """Seeds with bytes changed, cut out, doubled, or spliced from another seed."""
    while True:
        data = bytearray(rng.choice(seeds))
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
                other = rng.choice(seeds)
                start = rng.randrange(len(other))
                data[place : place + length] = other[start : start + length]
        yield bytes(data[:MAX_LENGTH])


if __name__ == "__main__":
    sys.exit(main())
