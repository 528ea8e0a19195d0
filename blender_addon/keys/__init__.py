# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion as Blender keeps it: curves, keys, rotation modes."""
