# SPDX-License-Identifier: Apache-2.0
"""Refuse locked packages of which a hole is known, as far as the snapshot in the repository knows.

    python tools/check_advisories.py [--strict]

Looks at requirements.lock and at the wheels that the extension bundles, and needs no network. A
hit fails unless `tools/advisories/accepted.json` has it, with a reason and a day that is not over.
What the snapshot does not cover is said; with --strict that, and a snapshot older than 30 days,
fails as well. `make audit` asks the advisory service itself.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["Accepted", "Hit", "hits_of", "is_affected", "locked_packages", "main"]

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "requirements.lock"
WHEELS = REPOSITORY / "tools/blender/wheels.lock"
SNAPSHOT = REPOSITORY / "tools/advisories/snapshot.json"
ACCEPTED = REPOSITORY / "tools/advisories/accepted.json"
FRESH_DAYS = 30
"""Age up to which a snapshot satisfies --strict."""
_PIN = re.compile(r"(?:^|\s)([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s\\;]+)", re.MULTILINE)


@dataclass(frozen=True)
class Hit:
    """One advisory that concerns a locked package."""

    package: str
    version: str
    advisory: str
    aliases: tuple[str, ...]
    summary: str

    @property
    def names(self) -> set[str]:
        """Under which it may be accepted."""
        return {self.advisory, *self.aliases}


@dataclass(frozen=True)
class Accepted:
    """An advisory that somebody has looked at and found not to matter here."""

    id: str
    package: str
    reason: str
    until: str
    """Last day, ISO 8601."""

    def __post_init__(self) -> None:
        date.fromisoformat(self.until)
        if len(self.reason.split()) < 3:
            raise ValueError(f"{self.id} of {self.package} is accepted without a reason: give one")


def locked_packages(*texts: str) -> dict[str, set[str]]:
    """Versions of each package that locks pin, by its canonical name."""
    found: dict[str, set[str]] = {}
    for text in texts:
        for name, version in _PIN.findall(text):
            found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def is_affected(version: str, advisory: dict[str, Any]) -> bool:
    """Whether an advisory concerns a version, by its list of versions or one of its ranges.

    Args:
        version: the locked one.
        advisory: `versions`, and `ranges` of `introduced`, `fixed` (not affected any more) and
            `last_affected`, as in the OSV format; a bound that is not there is open.
    """
    if version in advisory.get("versions", ()):
        return True
    locked = Version(version)
    return any(_is_within(locked, one) for one in advisory.get("ranges", ()))


def _is_within(locked: Version, one: dict[str, str]) -> bool:
    introduced = one.get("introduced", "0")
    try:
        return (
            (introduced == "0" or Version(introduced) <= locked)
            and ("fixed" not in one or locked < Version(one["fixed"]))
            and ("last_affected" not in one or locked <= Version(one["last_affected"]))
        )
    except InvalidVersion:
        return True  # somebody has to look at it


def hits_of(packages: dict[str, set[str]], snapshot: dict[str, Any]) -> list[Hit]:
    """Every advisory of the snapshot that concerns a locked package."""
    return [
        Hit(name, version, one["id"], tuple(one.get("aliases", ())), one.get("summary", ""))
        for name, versions in sorted(packages.items())
        for one in snapshot["packages"].get(name, {}).get("advisories", ())
        for version in sorted(versions)
        if is_affected(version, one)
    ]


def _is_accepted(hit: Hit, accepted: list[Accepted], today: date) -> bool:
    for one in accepted:
        if canonicalize_name(one.package) == hit.package and one.id in hit.names:
            if date.fromisoformat(one.until) >= today:
                print(f"{hit.package} {hit.version}: {one.id} is accepted until {one.until}: "
                      f"{one.reason}")  # fmt: skip
                return True
            print(f"{one.id} of {one.package} was accepted until {one.until}: look at it again")
    return False


def gaps_of(packages: dict[str, set[str]], snapshot: dict[str, Any], today: date) -> list[str]:
    """What the snapshot does not know, for people."""
    known = snapshot["packages"]
    missing = sorted(set(packages) - set(known))
    words = []
    if missing:
        some = ", ".join(missing[:5])
        words.append(f"the snapshot covers {len(packages) - len(missing)} of {len(packages)} "
                     f"packages; not {some}{', …' if len(missing) > 5 else ''}")  # fmt: skip
    days = [date.fromisoformat(known[name]["as_of"]) for name in packages if name in known]
    if days and (today - min(days)).days > FRESH_DAYS:
        words.append(f"the snapshot is as of {min(days)}, {(today - min(days)).days} days ago")
    return words


def main(arguments: list[str] | None = None) -> int:
    """Say what is known; 0 if nothing speaks against the locked packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args(arguments)
    today = datetime.now(UTC).date()
    packages = locked_packages(LOCK.read_text(), WHEELS.read_text())
    snapshot = json.loads(SNAPSHOT.read_text())
    accepted = [Accepted(**one) for one in json.loads(ACCEPTED.read_text())]
    refused = [hit for hit in hits_of(packages, snapshot) if not _is_accepted(hit, accepted, today)]
    for hit in refused:
        print(f"{hit.package} {hit.version}: {hit.advisory} ({', '.join(hit.aliases)}): "
              f"{hit.summary} Take a version without it, or add it to {ACCEPTED.name}")  # fmt: skip
    gaps = gaps_of(packages, snapshot, today)
    for words in gaps:
        print(f"known holes: {words}: run tools/refresh_advisories.py where there is a network")
    if not refused:
        print(f"known holes of {len(packages)} locked packages: none that the snapshot knows")
    return 1 if refused or (options.strict and gaps) else 0


if __name__ == "__main__":
    sys.exit(main())
