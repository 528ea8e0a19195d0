# SPDX-License-Identifier: Apache-2.0
"""Who is let in: the list of clients, the backend's own pair, and the commands around them."""

import pytest

from posefit.cli import main
from posefit.server.keyring import Keyring, make_client_keys, make_pair
from posefit_shared.key_files import KeyFileError, read_client_keys


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "keys")


def test_the_backends_pair_is_made_once_and_is_its_owners_alone(keyring):
    pair = keyring.backend_pair()
    assert Keyring(keyring.folder).backend_pair() == pair
    assert (keyring.folder / "backend.json").stat().st_mode & 0o777 == 0o600
    assert pair.secret_key not in repr(pair)
    assert make_pair() != pair


def test_the_list_holds_who_was_allowed_and_not_who_was_revoked(keyring):
    ana, ben = make_pair().public_key, make_pair().public_key
    keyring.allow("ana", ana)
    keyring.allow("ben-2.x", ben)
    keyring.allow("ana", ana)
    assert Keyring(keyring.folder).allowed() == {ana: "ana", ben: "ben-2.x"}
    keyring.revoke("ana")
    assert keyring.allowed() == {ben: "ben-2.x"}
    with pytest.raises(KeyFileError, match="no client is called ana"):
        keyring.revoke("ana")


@pytest.mark.parametrize("name", ["", "two words", "../x", "-x", "a\nb", "x" * 64, "#no"])
def test_names_are_plain(keyring, name):
    with pytest.raises(KeyFileError, match="name"):
        keyring.allow(name, "a1" * 32)


def test_a_name_or_a_key_that_is_taken_is_not_taken_over(keyring):
    keyring.allow("ana", "a1" * 32)
    with pytest.raises(KeyFileError, match="another key"):
        keyring.allow("ana", "b2" * 32)
    with pytest.raises(KeyFileError, match="allowed as ana"):
        keyring.allow("ben", "a1" * 32)


@pytest.mark.parametrize("line", ["ana", f"ana {'a1' * 32} more", "ana nokey", f"../x {'a1' * 32}"])
def test_a_damaged_list_lets_nobody_in(keyring, line):
    keyring.allow("ben", "b2" * 32)
    with (keyring.folder / "allowed").open("a") as file:
        file.write(f"# a note\n\n{line}\n")
    with pytest.raises(KeyFileError):
        keyring.allowed()


def test_a_list_that_others_may_change_lets_nobody_in(keyring):
    keyring.allow("ben", "b2" * 32)
    (keyring.folder / "allowed").chmod(0o666)
    with pytest.raises(KeyFileError, match="other users"):
        keyring.allowed()


def test_the_commands_make_allow_list_and_revoke(keyring, tmp_path, capsys):
    folder = ["--key-folder", str(keyring.folder)]
    file = tmp_path / "ana.keys"
    assert main(["keys", "new", "ana", "--output", str(file), *folder]) == 0
    made = read_client_keys(file)
    said = capsys.readouterr().out
    assert made.server_key == keyring.backend_pair().public_key
    assert f"posefit keys allow ana {made.public_key}" in said
    assert made.secret_key not in said
    assert keyring.allowed() == {}
    assert main(["keys", "allow", "ana", str(file), *folder]) == 0
    assert main(["keys", "list", *folder]) == 0
    said = capsys.readouterr().out
    assert f"{made.public_key} ana" in said
    assert made.server_key in said
    assert main(["keys", "revoke", "ana", *folder]) == 0
    assert keyring.allowed() == {}
    capsys.readouterr()
    for words in (["new", "ana", "--output", str(file)], ["allow", "ana", "x"], ["revoke"]):
        assert main(["keys", *words, *folder]) == 2
        assert capsys.readouterr().err.startswith("posefit: ")
    assert read_client_keys(file) == made


def test_keys_for_another_machines_backend_name_its_key(tmp_path):
    assert make_client_keys("c3" * 32).server_key == "c3" * 32
    with pytest.raises(KeyFileError):
        make_client_keys("no key")
