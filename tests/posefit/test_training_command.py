# SPDX-License-Identifier: Apache-2.0
"""`posefit train`: settings from a file and from the command line, refusals in words."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from posefit import cli
from posefit.training import command
from posefit.training.config import GeneratorConfig, TrainingConfig
from posefit.training.loop import write_config

Settings = Annotated[TrainingConfig, tyro.conf.arg(name="")]


def settings_of(*words: str) -> TrainingConfig:
    """The settings that these words of a command line make."""

    def take(settings: Settings, config: Path | None = None) -> TrainingConfig:
        return settings

    return tyro.cli(take, args=command.with_config_file(words))


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my run.toml"
    path.write_text(
        'assets = "a folder/assets"\nminutes = 4\ncompile = false\nkeep-moments = false\n'
        "[generator]\npeople = 3\ngarment_share = [0.1, 0.2, 0.3]\n"
    )
    found = settings_of("--minutes", "2.5", "--config", str(path), "--generator.people", "4")
    assert found == TrainingConfig(
        assets=Path("a folder/assets"), minutes=2.5, compile=False, keep_moments=False,
        generator=GeneratorConfig(people=4, garment_share=(0.1, 0.2, 0.3)),
    )  # fmt: skip


def test_the_settings_that_a_run_writes_make_the_same_run(tmp_path: Path) -> None:
    config = TrainingConfig(
        assets=tmp_path, output=tmp_path, resume=tmp_path / "x", tensorboard=False, max_steps=7,
        learning_rate=1.25e-4, network="unet",
        generator=GeneratorConfig(severity=0.5, garment_share=(1.0, 0.0, 0.5)),
    )  # fmt: skip
    write_config(config)
    assert settings_of(f"--config={tmp_path / 'config.json'}") == config


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "minuts = 3", "'minutes'"),
        ("a.toml", "[generator]\npeeple = 3", "'people'"),
        ("a.toml", "minutes =", "TOML"),
        ("a.json", "[1, 2]", "list"),
        ("a.json", '{"generator": 3}', "table"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    assert cli.main(["train", "--config", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.startswith("posefit: ")
    assert said in error


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "prepare_poses.py"), (("--resume", "nowhere"), "--resume")],
)
def test_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    status = cli.main(
        [
            "train",
            "--assets",
            str(tmp_path),
            "--device",
            "cpu",
            "--output",
            str(tmp_path / "out"),
            "--network",
            "small",
            *words,
        ]  # fmt: skip
    )
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_lists_training_without_loading_torch() -> None:
    code = (
        "import sys; from posefit import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "Train the displacement network" in ended.stdout
