# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artist decides before refining: held bones, pinned frames, what may move."""
