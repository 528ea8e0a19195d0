# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit.server.kept SOCKET FAULTS`: a broker with a keeper, which starts it so.

What it dies of, if that can be told, it writes to the open file FAULTS: the keeper looks there.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket as sockets
import sys
import traceback

from ..child_processes import die_with_parent
from ..worker.log_records import write_log
from .config import ServeError, config_of_map
from .keeper_line import KeeperLine


def main() -> int:
    """Run a broker; exit status as `posefit serve`."""
    faults = int(sys.argv[2])
    faulthandler.enable(faults)
    line = KeeperLine(sockets.socket(fileno=int(sys.argv[1])))
    die_with_parent(line.keeper)
    config = config_of_map({**line.config, "exit_with_stdin": True})
    write_log(logging.INFO, config.log_format, "broker")
    from .broker import serve

    try:
        return serve(config, keeper=line)
    except ServeError as error:
        sys.stderr.write(f"posefit: {error}\n")
        return 2
    except Exception:
        os.write(faults, traceback.format_exc().encode())
        raise


if __name__ == "__main__":
    sys.exit(main())
