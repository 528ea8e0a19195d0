# SPDX-License-Identifier: Apache-2.0
"""`posefit train` and `python -m posefit.training`: settings from a file and from the command line.

A file (TOML or JSON) holds the options' own names, `generator` as a table; the command line is read
after it and has the last word.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import PosefitError
from .config import GeneratorConfig, TrainingConfig

__all__ = ["ConfigFileError", "train", "with_config_file"]

SIGNAL_STATUS = 128
"""A shell's exit status for a process that a signal ended is this plus the signal's number."""


class ConfigFileError(PosefitError):
    """Settings that can't be read; the message says where and why."""


def train(
    settings: Annotated[TrainingConfig, tyro.conf.arg(name="")], config: Path | None = None
) -> int:
    """Train the displacement network on generated pictures (docs/training.md).

    Args:
        settings: Of the run.
        config: TOML or JSON file with settings, such as a run's config.json; options given beside
            it go before it.

    Returns:
        0, or 128 + the number of the signal that ended the run.
    """
    started = time.monotonic()
    from .loop import train as run

    outcome = run(settings, started)
    return 0 if outcome.signal_number is None else SIGNAL_STATUS + outcome.signal_number


def with_config_file(arguments: Sequence[str]) -> list[str]:
    """The words of the command line, those that `--config FILE` stands for in front.

    Args:
        arguments: of the command, without its name.

    Raises:
        ConfigFileError: the file is missing, can't be read, or holds what isn't a setting.
    """
    for place, word in enumerate(arguments):
        if word == "--config" and place + 1 < len(arguments):
            return [*_words(Path(arguments[place + 1])), *arguments]
        if word.startswith("--config="):
            return [*_words(Path(word.removeprefix("--config="))), *arguments]
    return list(arguments)


def _words(path: Path) -> list[str]:
    """A file's settings as words of the command line."""
    settings = _read(path)
    generator = settings.pop("generator", {})
    if not isinstance(generator, dict):
        raise ConfigFileError(f"{path}: 'generator' is {generator!r}, expected a table of settings")
    return [
        *_options(path, settings, TrainingConfig, prefix=""),
        *_options(path, generator, GeneratorConfig, prefix="generator."),
    ]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigFileError(f"no settings at {path}: give --config a TOML or JSON file")
    try:
        text = path.read_text()
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"{path} can't be read as TOML (.toml) or JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigFileError(f"{path} holds a {type(found).__name__}, expected settings by name")
    return found


def _options(path: Path, settings: dict[str, Any], kind: type, prefix: str) -> Iterator[str]:
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "`posefit train --help` lists them all"
            raise ConfigFileError(f"{path}: there is no setting '{prefix}{key}'; {hint}")
        yield from _option(f"{prefix}{name}".replace("_", "-"), value)


def _option(option: str, value: Any) -> Iterator[str]:
    """`--name value …`; `--name` or `--no-name` for truth values."""
    if isinstance(value, bool):
        group, _, last = option.rpartition(".")
        bare = last if value else f"no-{last}"
        yield f"--{group}.{bare}" if group else f"--{bare}"
        return
    yield f"--{option}"
    yield from (str(item) for item in (value if isinstance(value, list) else [value]))
