# SPDX-License-Identifier: Apache-2.0
"""`python -m posefit` is `posefit`."""

import sys

from .cli import main

sys.exit(main())
