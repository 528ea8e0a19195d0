# SPDX-License-Identifier: Apache-2.0
"""Files of keys: readable by their owner alone, and refused in words where they are not sound."""

import json
import os
import sys

import pytest

from posefit_shared.key_files import (
    CurveKeys,
    KeyFileError,
    check_key,
    read_client_keys,
    read_private,
    write_client_keys,
)

KEYS = CurveKeys("a1" * 32, "b2" * 32, "c3" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "ana.keys"


def test_what_was_written_is_read_again_and_is_its_owners_alone(path):
    write_client_keys(path, KEYS)
    assert read_client_keys(path) == KEYS
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["ana.keys"]


def test_a_secret_is_not_shown_where_keys_are_printed():
    assert "b2b2" not in repr(KEYS)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions there")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_change_is_refused(path, mode):
    write_client_keys(path, KEYS)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="other users"):
        read_client_keys(path)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links cannot be told from files there")
def test_a_link_a_folder_and_an_overlong_file_are_refused(path):
    write_client_keys(path, KEYS)
    link = path.with_name("link")
    link.symlink_to(path)
    large = path.with_name("large")
    large.touch(0o600)
    large.write_bytes(bytes(70_000))
    for wrong in (link, path.parent, large, path.with_name("none")):
        with pytest.raises(KeyFileError):
            read_private(wrong)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "{}", '{"posefit_keys": 2}', '{"posefit_keys": 1}', "\udcff", "[" * 50_000,
     json.dumps({"posefit_keys": 1, "public_key": 7, "secret_key": "b2" * 32,
                 "server_key": "c3" * 32})],
)  # fmt: skip
def test_what_is_no_file_of_keys_is_refused_in_one_sentence(path, content):
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(KeyFileError, match=r"posefit('s)? keys"):
        read_client_keys(path)


@pytest.mark.parametrize("text", ["", "a" * 63, "A1" * 32, "a1" * 33, "g1" * 32, None, 5])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(KeyFileError, match="64 hexadecimal digits"):
        check_key(text)
