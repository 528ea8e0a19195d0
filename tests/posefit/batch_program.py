# SPDX-License-Identifier: Apache-2.0
"""A batch as a program of its own, which tests may kill: SOURCE OUTPUT [WORKERS]."""

import signal
import sys
from pathlib import Path

from posefit.batch.command import BatchConfig, print_result, run_batch
from posefit.batch.local_processes import LocalProcesses

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    source, output, workers = Path(sys.argv[1]), Path(sys.argv[2]), int([*sys.argv, "1"][3])
    config = BatchConfig(source, output, retries=0)
    result = run_batch(
        config,
        make_executor=lambda _: LocalProcesses(["cpu"] * workers, {}, handlers="batch_handlers"),
    )
    sys.exit(print_result(result, output))
