# SPDX-License-Identifier: Apache-2.0
"""Steps of a refinement; `posefit.pipeline` says in which order."""
