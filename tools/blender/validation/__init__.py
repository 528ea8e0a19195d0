# SPDX-License-Identifier: GPL-3.0-or-later
"""The validation set: people that Blender's Cycles renders, with exact truth.

`cast` says who is in it, `motion`, `cameras` and `clothing` where everything is, `staging` writes
that down as one job a picture, `cycles_pictures` renders jobs inside Blender, `develop` makes
photographs of the renderings, `starts` makes wrong estimates of the truth.
"""
