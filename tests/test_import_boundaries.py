# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: read from the syntax trees, so that no import has to run."""

import ast
import functools
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY / "shared/posefit_shared"
BACKEND = REPOSITORY / "backend/posefit"
ADDON = REPOSITORY / "blender_addon"

BLENDER = {"bpy", "mathutils", "bpy_extras", "bmesh", "gpu", "blf", "aud"}
NEVER = {
    SHARED: BLENDER | {"torch", "warp", "posefit", "blender_addon", "scipy", "cv2", "PIL"},
    BACKEND: BLENDER | {"blender_addon"},
    ADDON: {"torch", "posefit", "zmq", "msgpack", "warp", "scipy", "cv2", "blender_addon"},
}
PURE_ADDON_MODULES = (
    "__init__.py",
    "rigs/rig.py",
    "rigs/bone_rotations.py",
    "connection/backend_process.py",
    "connection/installed_backend.py",
    "connection/backend_link.py",
    "connection/connection_view.py",
    "keys/curve_keys.py",
    "keys/key_reduction.py",
    "keys/rotation_values.py",
    "rigs/rig_names.py",
    "control/freedom.py",
    "control/frame_list.py",
    "jobs/job.py",
    "sequences/local_sequences.py",
    "jobs/partial_result.py",
    "jobs/placed_job.py",
    "jobs/remote_job.py",
    "sequences/sequence_placing.py",
    "jobs/time_left.py",
)
ONLY = {
    "zmq": {SHARED / "client", BACKEND / "server", BACKEND / "worker/process.py"},
    "msgpack": {SHARED / "codec.py"},
    "warp": {BACKEND / "gpu", BACKEND / "rasterizer", BACKEND / "crop"},
    "pytorch3d": {BACKEND / "rasterizer", BACKEND / "commands/doctor.py"},
}
"""Libraries that a few places alone may import, so that they can be replaced there."""


def modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


@functools.cache
def imports(path: Path, top_level_only: bool = False) -> frozenset[str]:
    """Top names of the packages that a module imports; relative imports count as none."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


@pytest.mark.parametrize("folder", NEVER, ids=lambda folder: folder.name)
def test_the_folder_holds_modules_so_that_the_rule_looks_at_something(folder):
    assert len(modules(folder)) > 5


@pytest.mark.parametrize("folder", NEVER, ids=lambda folder: folder.name)
def test_a_package_imports_nothing_from_across_the_line(folder):
    broken = {
        str(path.relative_to(REPOSITORY)): sorted(imports(path) & NEVER[folder])
        for path in modules(folder)
        if imports(path) & NEVER[folder]
    }
    assert not broken


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_only_where_it_can_be_replaced(library):
    allowed = ONLY[library]
    users = [
        path for folder in (SHARED, BACKEND) for path in modules(folder) if library in imports(path)
    ]
    stray = [p for p in users if not any(p == a or a in p.parents for a in allowed)]
    assert not [str(p.relative_to(REPOSITORY)) for p in stray]


@pytest.mark.parametrize("name", PURE_ADDON_MODULES)
def test_the_pure_modules_of_the_extension_load_without_blender(name):
    assert (ADDON / name).is_file()
    assert not imports(ADDON / name) & BLENDER


def test_the_extensions_package_imports_nothing_at_its_top():
    assert imports(ADDON / "__init__.py", top_level_only=True) == set()
    tree = ast.parse((ADDON / "__init__.py").read_text(encoding="utf-8"))
    assert not [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]


def test_modules_inside_a_package_import_each_other_relatively():
    for folder, name in ((SHARED, "posefit_shared"), (BACKEND, "posefit")):
        stray = [str(p) for p in modules(folder) if name in imports(p)]
        assert not stray


def test_an_import_across_the_line_would_be_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def late():\n    from torch.nn import Module\n    import bpy.types\n")
    assert imports(path) == {"torch", "bpy"}
    assert imports(path, top_level_only=True) == set()
