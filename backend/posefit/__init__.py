# SPDX-License-Identifier: Apache-2.0
"""posefit's engine: moves an SMPL body until it lies over the picture it came from.

`pipeline.refine` is the whole method in one short function; start reading there.
"""

__version__ = "0.1.0"
