"""What both torch embedders share: the device, batching and a deterministic forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from refinery.embedders import unit
from refinery.errors import ConfigError


def missing_package(package: str, extra: str) -> ConfigError:
    """The error for a model whose library is not installed."""
    return ConfigError(
        f"This embedder needs the package {package!r}: install image-refinery[{extra}], "
        "or configure another embedder.",
        kind="missing_package",
    )


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """`cpu` or `cuda`. ConfigError(kind="no_cuda") when CUDA is asked for and absent."""
    import torch

    available = bool(torch.cuda.is_available())
    if wanted == "cuda" and not available:
        raise ConfigError(
            "embedder.device is 'cuda' and torch finds no CUDA device: use 'auto' or 'cpu'.", kind="no_cuda"
        )
    return "cuda" if available and wanted != "cpu" else "cpu"


def forward_images(
    forward: Callable[[Any], Any],
    tensors: npt.NDArray[np.uint8],
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    dimension: int,
    device: str,
    batch_size: int,
) -> npt.NDArray[np.float32]:
    """Unit vectors of uint8 pictures (n, s, s, 3): normalized as ((x / 255) - mean) / std, in batches, bf16 on CUDA."""
    import torch

    vectors = np.empty((len(tensors), dimension), np.float32)
    shift = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for start in range(0, len(tensors), batch_size):
            block = np.array(tensors[start : start + batch_size])
            pixels = torch.from_numpy(block).to(device).permute(0, 3, 1, 2).float().div_(255)
            output = forward((pixels - shift) / scale)
            vectors[start : start + len(block)] = output.float().cpu().numpy()
    return unit(vectors)
