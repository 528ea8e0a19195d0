# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene shows: armature, camera and footage, as numbers."""
