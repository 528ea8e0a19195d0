# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: found, started, reached, and put in words."""
