# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence files and other estimates → bodies, cameras and keys."""
