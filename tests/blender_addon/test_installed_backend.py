# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer's note: what is taken from it, and notes that are damaged or want to harm."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
from blender_addon.connection import installed_backend
from blender_addon.connection.installed_backend import BackendNoteError, choose_backend, read_note

from posefit_shared.user_folder import user_folder

INSTALLER = Path(__file__).resolve().parents[2] / "tools/install/install_backend.py"


def write_note(path, **changes):
    fields = {
        "posefit_backend": 1,
        "python": sys.executable,
        "version": "0.1.0",
        "device": "Made-up GPU",
        "installed": "2026-11-29",
    }
    path.write_text(json.dumps(fields | changes))
    path.chmod(0o600)
    return path


@pytest.fixture
def note(tmp_path):
    return write_note(tmp_path / "backend.json")


def test_a_note_is_read(note):
    backend = read_note(note)
    assert backend == installed_backend.InstalledBackend(
        Path(sys.executable), "0.1.0", "Made-up GPU", "2026-11-29"
    )


def test_a_python_chosen_by_hand_goes_before_the_installed_one(note, tmp_path):
    assert choose_backend("/my/python", note).python == Path("/my/python")
    installed = choose_backend("", note)
    assert installed.python == Path(sys.executable)
    assert installed.words == "Installed: posefit 0.1.0 on Made-up GPU (2026-11-29)"
    none = choose_backend("", tmp_path / "nowhere" / "backend.json")
    assert (none.python, none.is_problem) == (None, False)
    assert none.words == "No backend is installed on this machine"
    assert choose_backend("", note / "below a file").python is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON text"),
        (b"\xff\xfe{}", "no JSON text"),
        (b'{"posefit_backend": 1, "python": ', "no JSON text"),
        (b"[" * 9000, "no JSON text"),
        (b"1" * 9000, "no JSON text"),
        (b" " * 20000 + b"{}", "larger than 16 KiB"),
        (b"[]", "holds a list"),
        (b"{}", "format is not 1"),
    ],
)
def test_a_damaged_note_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "backend.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BackendNoteError, match=words):
        read_note(path)
    choice = choose_backend("", path)
    assert (choice.python, choice.is_problem) == (None, True)
    assert "run the installer again" in choice.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"posefit_backend": 2}, "format is not 1"),
        ({"python": "python3"}, "not absolute"),
        ({"python": "../../bin/sh"}, "not absolute"),
        ({"python": ["/bin/sh", "-c"]}, "its python is no text"),
        ({"python": "/bin/sh\n-c"}, "its python is no text"),
        ({"python": "/bin/\0sh"}, "its python is no text"),
        ({"python": "/" + "a" * 5000}, "its python is no text"),
        ({"python": "/" + "a" * 4000}, "is gone"),
        ({"python": "/nowhere/python"}, "is gone"),
        ({"python": "/tmp"}, "is gone"),
        ({"python": __file__}, "is gone"),
        ({"version": 1.0}, "its version is no text"),
        ({"device": ""}, "its device is no text"),
        ({"device": "a" * 81}, "its device is no text"),
        ({"installed": "\x1b[31m"}, "its installed is no text"),
    ],
)
def test_a_note_that_names_what_it_may_not_is_refused_in_words(tmp_path, changes, words):
    path = write_note(tmp_path / "backend.json", **changes)
    with pytest.raises(BackendNoteError, match=words):
        read_note(path)


@pytest.mark.skipif(sys.platform == "win32", reason="such files are Unix's")
def test_a_note_that_is_no_plain_file_of_the_users_is_not_opened(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in ((pipe, "no plain file"), (Path("/dev/zero"), "no plain file"),
                        (tmp_path, "no plain file")):  # fmt: skip
        with pytest.raises(BackendNoteError, match=words):
            read_note(path)
    shared = write_note(tmp_path / "backend.json")
    shared.chmod(0o666)
    with pytest.raises(BackendNoteError, match="every user"):
        read_note(shared)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("is_set", [False, True])
def test_the_installer_and_the_extension_agree_where_the_note_lies(platform, is_set, tmp_path):
    spec = importlib.util.spec_from_file_location("install_backend", INSTALLER)
    installer = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = installer
    spec.loader.exec_module(installer)
    environment = {}
    if is_set:
        environment = {"XDG_CONFIG_HOME": "/set/config", "APPDATA": "/set/roaming"}
    _, settings = installer.user_folders(platform, environment, tmp_path)
    assert user_folder(platform, environment, tmp_path) == settings
    assert settings.name == "posefit"
    assert installed_backend.note_path() == user_folder() / "backend.json"


@pytest.mark.bpy
class TestInBlender:
    """What the artist sees of it."""

    @pytest.fixture
    def home(self, monkeypatch, tmp_path, context):
        """A user without an installed backend and without a Python chosen by hand."""
        import bpy

        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        (tmp_path / "posefit").mkdir()
        chosen = bpy.context.preferences.addons["blender_addon"].preferences
        before, chosen.backend_python = chosen.backend_python, ""
        yield tmp_path / "posefit"
        chosen.backend_python = before

    def drawn(self, context):
        from types import SimpleNamespace

        from blender_addon.panels import backend
        from test_panels import Recorder

        words = []
        backend.POSEFIT_PT_backend.draw(SimpleNamespace(layout=Recorder(words)), context)
        return words

    def test_without_a_backend_the_panel_says_so_and_how_to_get_one(self, context, home):
        import bpy

        words = self.drawn(context)
        assert "No backend is installed on this machine" in " ".join(words)
        assert "posefit.show_installer" in words
        assert not bpy.ops.posefit.start_backend.poll()
        assert bpy.ops.posefit.show_installer() == {"FINISHED"}
        assert bpy.ops.posefit.show_installer() == {"FINISHED"}
        shown = [text.as_string() for text in bpy.data.texts if "install" in text.name]
        assert len(shown) == 1
        assert "tools/install/install_backend.sh" in shown[0]
        assert str(home / "backend.json") in shown[0]

    def test_an_installed_backend_is_proposed_and_started(self, context, home, monkeypatch):
        import bpy
        from blender_addon.session import SESSION

        write_note(home / "backend.json")
        words = " ".join(self.drawn(context))
        assert "Installed: posefit 0.1.0 on Made-up GPU" in words
        assert "posefit.show_installer" not in words
        started = []
        monkeypatch.setattr(SESSION, "start_backend", lambda *given: started.append(given[0]))
        assert bpy.ops.posefit.start_backend() == {"FINISHED"}
        assert started == [Path(sys.executable)]

    def test_a_damaged_note_is_said_and_nothing_is_started(self, context, home):
        import bpy

        write_note(home / "backend.json", python="/nowhere/python")
        words = " ".join(self.drawn(context))
        assert "Python is gone (/nowhere/python): run the installer again" in words
        assert "posefit.show_installer" in words
        with pytest.raises(RuntimeError):
            bpy.ops.posefit.start_backend()

    def test_the_preferences_propose_it_too(self, context, home):
        from types import SimpleNamespace

        from blender_addon.properties import PosefitPreferences, preferences
        from test_panels import Recorder

        write_note(home / "backend.json")
        words = []
        shown = SimpleNamespace(layout=Recorder(words), bl_rna=preferences(context).bl_rna)
        PosefitPreferences.draw(shown, context)
        assert "Installed: posefit 0.1.0 on Made-up GPU (2026-11-29)" in words
