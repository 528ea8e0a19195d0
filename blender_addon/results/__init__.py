# SPDX-License-Identifier: GPL-3.0-or-later
"""After refining: compare, accept, reject, find the doubtful frames."""
