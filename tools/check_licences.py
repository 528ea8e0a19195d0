# SPDX-License-Identifier: Apache-2.0
"""Refuse an environment in which a package has a licence that posefit cannot live with.

    .venv/bin/python tools/check_licences.py

What counts is what posefit needs to run and to be tested. Licences are read from the installed
packages themselves; one that cannot be told is refused as well. `make lint` runs this.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

PERMISSIVE = re.compile(
    r"apache|\bmit\b|bsd|isc|python software foundation|\bpsf|hpnd|zlib|cc0|unlicense|public domain"
    r"|mpl|mozilla public|0bsd|boost",
    re.IGNORECASE,
)
"""Licences that a program under Apache-2.0 may depend on; MPL binds its own files only."""
RESTRICTED = re.compile(
    r"\bA?GPL|non.?commercial|\bNC\b|proprietary|commercial|no license", re.IGNORECASE
)
EXCEPTIONS = {
    "smplx": "non-commercial: imported by one test and one benchmark, never by posefit",
    "nvidia": "NVIDIA's own terms: torch's CUDA libraries, installed by torch",
    "cuda": "NVIDIA's own terms: torch's CUDA libraries, installed by torch",
    "intel-openmp": "Intel's own terms: comes with openvino or torch where they need it",
    "opencv-python-headless": "Apache-2.0; its wheels bundle FFmpeg under LGPL as separate files",
    "av": "BSD-3-Clause; its wheels bundle FFmpeg under LGPL as separate files",
}
"""Packages looked at by a person, and what was found; families by the first word of the name."""
OWN = ("posefit", "posefit_shared")


def licence_of(package: metadata.Distribution) -> str:
    """What a package says of its licence, shortest statement first."""
    about = package.metadata
    classifiers = [
        entry.rpartition("::")[2].strip()
        for entry in about.get_all("Classifier") or []
        if entry.startswith("License ::")
    ]
    stated = about.get("License-Expression") or "; ".join(classifiers) or about.get("License") or ""
    return " ".join(stated.split())[:120]


def complaint(name: str, licence: str) -> str:
    """Why a package is refused, or nothing."""
    if name in OWN or name in EXCEPTIONS or re.split(r"[-_.]", name)[0] in EXCEPTIONS:
        return ""
    if not licence:
        return "says nothing of its licence"
    if RESTRICTED.search(licence) and not PERMISSIVE.search(licence):
        return f"is under {licence}"
    return "" if PERMISSIVE.search(licence) else f"is under {licence}, which nobody has looked at"


def main() -> int:
    """List what is refused; 0 if nothing is."""
    packages = {
        str(package.metadata["Name"]).lower(): licence_of(package)
        for package in metadata.distributions()
    }
    found = {name: words for name in sorted(packages) if (words := complaint(name, packages[name]))}
    for name, words in found.items():
        print(f"{name} {words}: look at it, then replace it or add it to {__file__}")
    if not found:
        print(f"licences of {len(packages)} packages: fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
