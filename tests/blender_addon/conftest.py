# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender for the extension's tests: the real module, a fresh scene each, taken out at the end."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend-python",
        default=str(REPOSITORY / ".venv/bin/python"),
        help="Python that has posefit installed, for tests against a real backend process",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("bpy") is not None:
        return
    skip = pytest.mark.skip(reason="bpy is not installed here: make test-blender runs this")
    for item in items:
        if item.get_closest_marker("bpy") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def addon() -> Iterator[None]:
    """The extension, registered once for the session."""
    import bpy

    import blender_addon

    bpy.context.preferences.addons.new().module = "blender_addon"
    blender_addon.register()
    yield
    # Blender 4.2 crashes and 4.5 hangs at exit with classes still registered.
    blender_addon.unregister()


@pytest.fixture
def context(addon):
    """Blender's context with an empty file open."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return bpy.context


@pytest.fixture
def impatient(addon, monkeypatch):
    """Clients that take half a second of silence after their hello for nobody there."""
    from blender_addon.connection import backend_link

    from posefit_shared.client import Client, ClientConfig

    config = ClientConfig(hello_timeout_s=0.5)
    monkeypatch.setattr(backend_link, "Client", functools.partial(Client, config=config))


@pytest.fixture(scope="session")
def body():
    """The free body's arrays."""
    from posefit_shared import body_files

    return body_files.read_body("free")


@pytest.fixture
def backend_python(request: pytest.FixtureRequest) -> Path:
    """The Python that runs backends."""
    path = Path(request.config.getoption("--backend-python"))
    if not path.is_file():
        pytest.skip(f"no backend Python at {path}: give --backend-python")
    return path
