"""The `Embedder` port: pictures (and, where the model can, text) to unit vectors of one space.

Which model made a vector is in its name and in the digest of its weights; there is no silent stand-in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from refinery.config import EmbedderSettings


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The picture an embedder wants: RGB, `side` × `side`; `crop` keeps the centre, `squash` ignores the aspect."""

    side: int
    fit: Literal["crop", "squash"] = "crop"


class Embedder(Protocol):
    """A model that embeds. Describing it is cheap: its weights are loaded by the first `embed_…` call."""

    @property
    def name(self) -> str:
        """What every screen shows, e.g. `open_clip:ViT-B-32/laion2b_s34b_b79k`."""
        ...

    @property
    def model_digest(self) -> str:
        """BLAKE3 of the weights."""
        ...

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def input(self) -> TensorSpec: ...

    def embed_images(self, tensors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, dimension) of pictures (n, side, side, 3), RGB 0..255.

        A vector does not depend on what else is in the call, up to 1e-4 in cosine with itself. A picture that the
        model cannot embed gives a row that is not finite.
        """
        ...

    def embed_text(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, dimension) of texts. InputError(kind="no_text_tower") when the model has none."""
        ...


def make_embedder(settings: EmbedderSettings, project_dir: Path) -> Embedder:
    """The embedder a project names. Relative checkpoints are relative to `project_dir`.

    Raises ConfigError: `model_unavailable` when its weights are not on this machine and cannot be fetched,
    `unknown_model` for an architecture or tag that open_clip does not have, `missing_package`.
    """
    # OpenMP threads that spin while they wait starve each other when the cores are busy; read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if settings.kind == "efficientnet_lite0":
        from refinery.embedders.efficientnet import EfficientNetLite0

        return EfficientNetLite0(settings)
    from refinery.embedders.open_clip import OpenClip

    return OpenClip(settings, project_dir)


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1; a row without a direction becomes NaN."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        scaled: npt.NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return scaled
