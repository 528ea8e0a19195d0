# SPDX-License-Identifier: Apache-2.0
"""Weight files of the displacement network: safetensors with its sizes and calibration inside."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import PosefitError
from .kinds import DisplacementNetwork, NetworkSizes, kind_of, network_from_header

__all__ = [
    "Calibration",
    "Form",
    "WeightsError",
    "has_weights",
    "load_network",
    "preferred_form",
    "save_network",
    "shipped_weights",
]

FORMAT = "posefit-displacement-1"
Form = Literal["large", "fast"]
_PREFERRED: tuple[Form, Form] = ("large", "fast")
"""On every device: the fast network, trained for a third of the large one's samples, costs a fifth
of the gain (docs/cpu.md). Who is in a hurry asks for `net-fast`."""
_SHIPPED: dict[Form, str] = {"large": "network.safetensors", "fast": "cpu.safetensors"}


class WeightsError(PosefitError):
    """A weight file that can't be used; the message says why."""


ABSENT_IN_FIRST_FILES = {"correspondence": {"global_blocks": 0, "photometric_channels": 0}}
"""By kind, parts of the network that files written before they existed don't name."""


@dataclass(frozen=True)
class Calibration:
    """What was measured on the validation split to make scale and visibility honest."""

    scale_factor: float = 1.0
    """Multiplies predicted scales."""
    visibility_temperature: float = 1.0
    """Divides visibility logits."""


def shipped_weights(form: Form = "large") -> Path:
    """Where the weights that posefit ships lie.

    Args:
        form: the `large` network, or the `fast` one, for CPUs that must answer soon.
    """
    return Path(__file__).parents[1] / "assets" / "displacement" / _SHIPPED[form]


def preferred_form() -> Form:
    """Which of the shipped networks is taken unless one is asked for."""
    first, second = _PREFERRED
    is_second = not shipped_weights(first).is_file() and shipped_weights(second).is_file()
    return second if is_second else first


def has_weights() -> bool:
    """Whether weights of the learned estimator are installed."""
    return any(shipped_weights(form).is_file() for form in _SHIPPED)


def save_network(
    path: Path,
    network: nn.Module,
    config: NetworkSizes,
    calibration: Calibration,
    notes: dict[str, str] | None = None,
) -> None:
    """Writes half-precision weights, sizes and calibration.

    Args:
        path: file to write (.safetensors).
        network: the network, or another module with its state.
        config: its sizes, which also tell its kind.
        calibration: of its outputs.
        notes: more to keep in the header (how it was trained).
    """
    state = {
        name: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {
        "format": FORMAT,
        "kind": kind_of(config),
        "config": json.dumps(dataclasses.asdict(config)),
        "calibration": json.dumps(dataclasses.asdict(calibration)),
        **(notes or {}),
    }
    save_file({k: v.contiguous() for k, v in state.items()}, path, metadata=metadata)


def load_network(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[DisplacementNetwork, Calibration]:
    """The network of a weight file, in evaluation mode, and its calibration.

    Args:
        path: file of `save_network`.
        device: where to put it.

    Raises:
        WeightsError: the file is missing, isn't one of this format, or holds a network that this
            version doesn't know.
    """
    if not path.is_file():
        raise WeightsError(f"no displacement weights at {path}; train them or use flow instead")
    try:
        with safe_open(path, framework="pt", device="cpu") as data:
            metadata = data.metadata() or {}
            state = {name: data.get_tensor(name) for name in data.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} has format {metadata.get('format')!r}, expected {FORMAT!r}; "
            "it was written by another version of posefit"
        )
    kind = metadata.get("kind", "correspondence")
    fields: dict[str, Any] = {
        **ABSENT_IN_FIRST_FILES.get(kind, {}),
        **json.loads(metadata["config"]),
    }
    try:
        network = network_from_header(kind, fields)
    except ValueError as error:
        raise WeightsError(f"{path} holds a {error}; it needs another posefit") from error
    missing, unexpected = network.load_state_dict(
        {name: v.float() if v.is_floating_point() else v for name, v in state.items()}, strict=False
    )
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise WeightsError(f"{path} doesn't hold this network: {(missing + unexpected)[:3]}")
    calibration = Calibration(**json.loads(metadata["calibration"]))
    return network.to(device).eval().requires_grad_(False), calibration
