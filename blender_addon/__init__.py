# SPDX-License-Identifier: GPL-3.0-or-later
"""posefit in Blender: the extension's two entry points.

Nothing is imported here, so that the package and its pure modules load in any Python.
"""


def register() -> None:
    """Put posefit's classes, properties and handlers into Blender."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Take everything out again and stop what was started."""
    from . import registration

    registration.unregister()
