# SPDX-License-Identifier: Apache-2.0
"""Write tools/advisories/snapshot.json anew: what is known today of the locked packages.

    python tools/refresh_advisories.py                     # fetches OSV's archive, some 20 MB
    python tools/refresh_advisories.py --archive all.zip   # which was fetched by other means

Every locked package is covered afterwards, those without advisories as well. Look at the changes
before they are committed.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from check_advisories import LOCK, SNAPSHOT, WHEELS, locked_packages
from packaging.utils import canonicalize_name

__all__ = ["advisories_of", "main", "snapshot_of"]

logger = logging.getLogger(__name__)

ARCHIVE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
SOURCE = "OSV (https://osv.dev), ecosystem PyPI: PyPA and GitHub advisories, CC-BY-4.0"
SUMMARY_LETTERS = 200
MOST_BYTES = 1 << 20
"""Largest advisory that is read."""


def advisories_of(archive: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    """Every advisory of an archive that has not been withdrawn."""
    for info in archive.infolist():
        if info.filename.endswith(".json") and info.file_size <= MOST_BYTES:
            advisory = json.loads(archive.read(info))
            if "withdrawn" not in advisory:
                yield advisory


def snapshot_of(
    advisories: Iterator[dict[str, Any]], packages: set[str], day: str
) -> dict[str, Any]:
    """What the check needs of the advisories about these packages.

    Args:
        advisories: in the OSV format.
        packages: canonical names.
        day: as of when, ISO 8601.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(packages)}
    for advisory in advisories:
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in found:
                found[name].append(_kept(advisory, affected))
    return {
        "source": SOURCE,
        "packages": {
            name: {"as_of": day, "advisories": sorted(rows, key=lambda row: row["id"])}
            for name, rows in found.items()
        },
    }


def _kept(advisory: dict[str, Any], affected: dict[str, Any]) -> dict[str, Any]:
    words = " ".join((advisory.get("summary") or advisory.get("details") or "").split())
    ranges = [
        interval
        for one in affected.get("ranges", ())
        if one.get("type") == "ECOSYSTEM"
        for interval in _intervals(one["events"])
    ]
    return {
        "id": advisory["id"],
        "aliases": sorted(advisory.get("aliases", ())),
        "summary": words[:SUMMARY_LETTERS],
        "ranges": ranges,
        # Ranges say the same; lists of versions are long.
        "versions": [] if ranges else sorted(affected.get("versions", ())),
    }


def _intervals(events: list[dict[str, str]]) -> list[dict[str, str]]:
    """Events of a range, each `introduced` with what ends it."""
    intervals: list[dict[str, str]] = []
    for event in events:
        if "introduced" in event:
            intervals.append({"introduced": event["introduced"]})
        elif intervals:
            intervals[-1] |= {k: v for k, v in event.items() if k in ("fixed", "last_affected")}
    return intervals


def main() -> int:
    """Write the snapshot; 0 if it could be made."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path)
    options = parser.parse_args()
    try:
        if options.archive is None:
            with urllib.request.urlopen(ARCHIVE, timeout=120) as answer:
                data = answer.read()
        else:
            data = options.archive.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            packages = set(locked_packages(LOCK.read_text(), WHEELS.read_text()))
            day = f"{datetime.now(UTC):%Y-%m-%d}"
            snapshot = snapshot_of(advisories_of(archive), packages, day)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        logger.error("no advisories could be read (%s): the snapshot stays as it is", error)
        return 1
    SNAPSHOT.write_text(json.dumps(snapshot, indent=1, ensure_ascii=False) + "\n")
    count = sum(len(one["advisories"]) for one in snapshot["packages"].values())
    logger.info("%d advisories about %d packages", count, len(snapshot["packages"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
