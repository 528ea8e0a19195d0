# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn over the viewport; geometry in numpy, drawing at the edge."""
