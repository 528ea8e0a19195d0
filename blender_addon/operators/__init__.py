# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, one module a group: read the scene, hand over, report."""
