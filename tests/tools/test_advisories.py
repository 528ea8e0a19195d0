# SPDX-License-Identifier: Apache-2.0
"""Known holes of locked packages: matched by version, accepted with a reason for a time."""

import io
import json
import sys
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tools"))

import check_advisories as check  # noqa: E402
import refresh_advisories as refresh  # noqa: E402

MADE_UP = {
    "id": "OSV-1", "aliases": ["CVE-1"], "summary": "A made-up hole.",
    "affected": [{
        "package": {"ecosystem": "PyPI", "name": "Made_Up"},
        "ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"last_affected": "2.3"},
        ]}],
    }],
}  # fmt: skip


def made_snapshot(*advisories, packages=("made-up",), day=None):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for k, advisory in enumerate(advisories):
            archive.writestr(f"{k}.json", json.dumps(advisory))
    with zipfile.ZipFile(packed) as archive:
        day = day or f"{datetime.now(UTC):%Y-%m-%d}"
        return refresh.snapshot_of(refresh.advisories_of(archive), set(packages), day)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The check on a lock, a snapshot and accepted advisories of one's own."""

    def on(lock, snapshot, accepted=(), *arguments):
        for name, text in (
            ("LOCK", lock), ("WHEELS", ""), ("SNAPSHOT", json.dumps(snapshot)),
            ("ACCEPTED", json.dumps(list(accepted))),
        ):  # fmt: skip
            path = tmp_path / name
            path.write_text(text)
            monkeypatch.setattr(check, name, path)
        status = check.main(list(arguments))
        return status, capsys.readouterr().out

    return on


def test_what_is_locked_has_no_hole_that_the_snapshot_knows(capsys):
    assert check.main([]) == 0, capsys.readouterr().out


def test_both_locks_are_looked_at():
    packages = check.locked_packages(check.LOCK.read_text(), check.WHEELS.read_text())
    assert len(packages) > 50
    assert {"msgpack", "pyzmq", "numpy", "typing-extensions"} <= packages.keys()


@pytest.mark.parametrize(
    ("version", "is_hit"),
    [("1.1", True), ("1.2rc1", True), ("1.2", False), ("1.9", False), ("2.0", True),
     ("2.3", True), ("2.3.post1", False), ("3.0", False)],
)  # fmt: skip
def test_an_advisory_concerns_the_versions_of_its_ranges(run, version, is_hit):
    status, said = run(f"made-up=={version} \\\n", made_snapshot(MADE_UP))
    assert status == is_hit
    assert ("OSV-1 (CVE-1): A made-up hole." in said) == is_hit


def test_an_advisory_without_ranges_concerns_the_versions_that_it_lists(run):
    affected = [{**MADE_UP["affected"][0], "ranges": [], "versions": ["1.0"]}]
    listed = {**MADE_UP, "affected": affected}
    assert run("made-up==1.0\n", made_snapshot(listed))[0] == 1
    assert run("made-up==1.1\n", made_snapshot(listed))[0] == 0


def test_what_was_withdrawn_or_concerns_others_counts_for_nothing(run):
    withdrawn = {**MADE_UP, "withdrawn": "2026-01-01T00:00:00Z"}
    other = json.loads(json.dumps(MADE_UP).replace("Made_Up", "other"))
    assert run("made-up==1.0\n", made_snapshot(withdrawn, other))[0] == 0


@pytest.mark.parametrize("name", ["OSV-1", "CVE-1"])
def test_an_accepted_advisory_passes_until_its_day_is_over(run, name):
    today = datetime.now(UTC).date()
    accepted = {"id": name, "package": "made-up", "reason": "we never call it",
                "until": f"{today + timedelta(1)}"}  # fmt: skip
    status, said = run("made-up==1.0\n", made_snapshot(MADE_UP), [accepted])
    assert status == 0
    assert "we never call it" in said
    accepted["until"] = f"{today - timedelta(1)}"
    status, said = run("made-up==1.0\n", made_snapshot(MADE_UP), [accepted])
    assert status == 1
    assert "look at it again" in said


def test_nothing_is_accepted_without_a_reason():
    with pytest.raises(ValueError, match="without a reason"):
        check.Accepted("OSV-1", "made-up", "fine", "2030-01-01")


def test_gaps_of_the_snapshot_are_said_and_fail_the_strict_check(run):
    lock = "made-up==5\nunheard-of==1\n"
    for snapshot, words in (
        (made_snapshot(), "covers 1 of 2 packages; not unheard-of"),
        (made_snapshot(packages=("made-up", "unheard-of"), day="2020-01-01"), "as of 2020-01-01"),
    ):
        status, said = run(lock, snapshot)
        assert status == 0
        assert words in said
        assert run(lock, snapshot, (), "--strict")[0] == 1
    assert run(lock, made_snapshot(packages=("made-up", "unheard-of")), (), "--strict")[0] == 0


def test_a_version_that_cannot_be_read_is_for_people_to_look_at():
    assert check.is_affected("1.0", {"ranges": [{"introduced": "0", "fixed": "soon"}]})


def test_the_snapshot_says_where_it_is_from_and_as_of_when():
    snapshot = json.loads(check.SNAPSHOT.read_text())
    assert "CC-BY-4.0" in snapshot["source"]
    for one in snapshot["packages"].values():
        assert date.fromisoformat(one["as_of"]) <= datetime.now(UTC).date()
