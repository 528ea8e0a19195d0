# SPDX-License-Identifier: GPL-3.0-or-later
"""Work under way: what is asked of the backend, how far it is, how it ends."""
