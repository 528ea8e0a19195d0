# SPDX-License-Identifier: Apache-2.0
"""Settings of the data generator and of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..displacement.kinds import NetworkName

__all__ = ["GeneratorConfig", "TrainingConfig"]


@dataclass(frozen=True)
class GeneratorConfig:
    """What the generated pictures are like. Shares are probabilities per person or frame."""

    people: int = 8
    """Different people in a batch."""
    frames: int = 8
    """Frames of each person; the texture of one frame is built from the others."""
    size: int = 256
    """Side of the crops in pixels."""
    random_pose_share: float = 0.3
    """People whose poses are drawn at random rather than taken from motion."""
    garment_share: tuple[float, float, float] = (0.5, 0.2, 0.65)
    """People who wear close garments, skirts, hair (in the order of the garment file)."""
    loose_cloth_share: float = 0.75
    """People whose clothes stand off the body."""
    loose_cloth_m: float = 0.035
    """How far clothes may stand off."""
    photo_cloth_share: float = 0.25
    """Pieces of clothing with a photograph for a pattern."""
    shadow_share: float = 0.7
    """People in directed light that throws shadows."""
    second_person_share: float = 0.15
    """People with another person in the picture."""
    occluder_share: float = 0.28
    """Frames with an object in front."""
    cut_share: float = 0.06
    """Chance of each side of a crop to be cut by the frame's border."""
    twist_share: float = 0.35
    """Frames whose estimate turns limb segments about their own axis."""
    personal_share: float = 0.2
    """People whose frames are right but for twists and exchanged limbs, which only texture shows;
    their limbs are exchanged four times as often."""
    leg_swap_share: float = 0.03
    """Frames whose estimate has the legs exchanged; half as many have the arms exchanged."""
    wrong_focal_share: float = 0.35
    """People whose estimate assumes another focal length."""
    masked_texture_share: float = 0.6
    """People whose texture is built with a person mask."""
    severity: float | None = None
    """Size of the estimates' errors for all frames alike; None draws it (0.03 to 1.6)."""


@dataclass(frozen=True)
class TrainingConfig:
    """One run, or one piece of a run, of training."""

    assets: Path
    """Folder with poses.npz and backgrounds.npz (tools/training makes them)."""
    output: Path = Path("training")
    """Folder for checkpoints, logs and weights."""
    resume: Path | None = None
    """Folder with the checkpoint to go on from."""
    body: str = "free"
    """Body to train on."""
    garments: Path | None = None
    """Garment file; None takes the one that posefit ships."""
    minutes: float = 9.0
    """Stop and write everything this long after the start of the process."""
    until: float = 1.0
    """Share of the whole training that is done when this piece ends; the learning rate is laid out
    over all of it and falls to zero at 1."""
    max_steps: int | None = None
    """Stop after this many steps (for trials)."""
    closing_seconds: float = 35.0
    """Time at the end kept for validation and writing."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints on the way."""
    keep_moments: bool = True
    """Keep the optimiser's moments in checkpoints, which saves the warm-up after a resume."""
    watch_minutes: float = 2.0
    """Time between validations on the way, which keep the best weights; 0 for none. They come more
    seldom where they would take more than 3% of the time."""
    watch_batches: int = 3
    """Batches of the validation split that they measure, the same ones each time."""
    tensorboard: bool = True
    """Write curves and pictures for TensorBoard, where it is installed."""
    warmup_steps: int = 200
    """Steps over which the learning rate rises, also after a resume."""
    device: str = "cuda"
    """Device to train on; with torchrun each process takes its own."""
    seed: int = 0
    """Seed of weights and, with rank and step, of the data."""
    optimizer: str = "muon"
    """`muon` (kernels by Muon, the rest by AdamW) or `adamw`."""
    learning_rate: float = 5e-4
    """Highest learning rate."""
    weight_decay: float = 1e-4
    """Decay of the weights in learning rates."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay of the averaged weights, which are what is shipped."""
    reuse: int = 1
    """Times each generated batch is trained on; again means mirrored, and some steps later."""
    modality_dropout: float = 0.1
    """Chance of each group of modalities to be missing in a sample."""
    query_budget: int = 1536
    """Body cells matched per sample in training; the U-Net matches all."""
    updates: int = 4
    """Recurrent updates in training; the U-Net has none."""
    network: NetworkName = "correspondence"
    """Which network a new training makes: `correspondence` (for GPUs), `small` (the same in fewer
    channels) or `unet` (for CPUs). A run that resumes goes on with the checkpoint's."""
    compile: bool = True
    """Compile network and generator."""
    check: bool = True
    """Prove the generator on this device before training, and stop if it fails."""
    rasterizer: str | None = None
    """`module:name` of a rasterizer to use in place of posefit's own, on machines without Warp."""
    log_every: int = 50
    """Steps between lines of the log."""
    validation_batches: int = 12
    """Batches of the validation split that are measured at the end."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """What the pictures are like."""
