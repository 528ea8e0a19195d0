# SPDX-License-Identifier: Apache-2.0
"""The process that computes the jobs of `posefit serve`: one for each device, and it may die."""
