# SPDX-License-Identifier: Apache-2.0
"""Training of the displacement network: synthetic pictures with exact truth, made on the GPU.

`generator` makes batches, `loop` trains on them, `validation` measures; docs/training.md tells how
to run it and what was trained. Nothing here is needed to refine a pose.
"""
