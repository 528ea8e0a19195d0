# SPDX-License-Identifier: GPL-3.0-or-later
"""Armatures with SMPL's joints: which bones are which, how they rest, and posefit's own bodies."""
