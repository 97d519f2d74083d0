"""Any open_clip model: an architecture with a pretrained tag, or with a local checkpoint. Images and text."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from refinery.config import EmbedderSettings
from refinery.digests import digest_file
from refinery.embedders import TensorSpec, unit
from refinery.embedders.card import ModelCard, remember, remembered
from refinery.embedders.torch_runtime import forward_images, missing_package, pick_device
from refinery.errors import ConfigError, InputError, did_you_mean

_FITS: dict[str, Literal["crop", "squash"]] = {"shortest": "crop", "squash": "squash"}
_PROBE_SECONDS = 10


class OpenClip:
    """An open_clip model. Its weights are found when it is described, loaded when it first embeds."""

    def __init__(self, settings: EmbedderSettings, project_dir: Path) -> None:
        self._settings = settings
        self._project_dir = project_dir
        self._checkpoint = None if settings.checkpoint is None else project_dir / settings.checkpoint
        if self._checkpoint is None and settings.pretrained is None:
            raise ConfigError(
                f"embedder: model {settings.model!r} has neither `pretrained:` (a tag of open_clip) nor `checkpoint:` "
                "(a file): a model without weights cannot embed.",
                kind="no_weights",
            )

    @property
    def name(self) -> str:
        weights = self._checkpoint.name if self._checkpoint else self._settings.pretrained
        return f"open_clip:{self._settings.model}/{weights}"

    @property
    def model_digest(self) -> str:
        return self._card.model_digest

    @property
    def dimension(self) -> int:
        return self._card.dimension

    @property
    def input(self) -> TensorSpec:
        return TensorSpec(self._card.side, cast(Literal["crop", "squash"], self._card.fit))

    def embed_images(self, tensors: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return forward_images(
            self._model.encode_image,
            tensors,
            mean=self._card.mean,
            std=self._card.std,
            dimension=self.dimension,
            device=self._device,
            batch_size=self._settings.batch_size,
        )

    def embed_text(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        model = self._model
        if not hasattr(model, "encode_text"):
            raise InputError(
                f"The embedder {self.name!r} has no text tower: search by sample or file, or configure another model.",
                kind="no_text_tower",
            )
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        tokens = self._tokenizer(texts).to(self._device)
        with (
            torch.inference_mode(),
            torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"),
        ):
            return unit(model.encode_text(tokens).float().cpu().numpy())

    @cached_property
    def _device(self) -> str:
        return pick_device(self._settings.device)

    @cached_property
    def _card(self) -> ModelCard:
        asked = {
            "model": self._settings.model,
            "pretrained": self._settings.pretrained,
            "checkpoint": str(self._checkpoint) if self._checkpoint else None,
        }
        card = remembered(self._project_dir, asked)
        if card is None:
            card = _describe(self._settings.model, self._settings.pretrained, self._checkpoint)
            remember(self._project_dir, asked, card)
        return card

    @cached_property
    def _model(self) -> Any:
        open_clip = _library()
        card = self._card
        if digest_file(Path(card.weights)) != card.model_digest:
            raise ConfigError(
                f"The weights {card.weights} changed while they were in use: run again.",
                kind="weights_changed",
            )
        try:
            model = open_clip.create_model(self._settings.model, pretrained=card.weights, weights_only=True)
        except Exception as error:
            raise ConfigError(
                f"{card.weights} does not load as {self._settings.model}: {_first_line(error)} "
                "Name the architecture the checkpoint was made with.",
                kind="bad_checkpoint",
            ) from error
        return model.eval().to(self._device)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return _library().get_tokenizer(self._settings.model)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            raise ConfigError(
                f"The tokenizer of {self._settings.model} is not on this machine and could not be fetched: "
                f"{_first_line(error)}",
                kind="model_unavailable",
            ) from error


def _describe(model: str, pretrained: str | None, checkpoint: Path | None) -> ModelCard:
    """Find the weights (fetching a tag's when needed) and what the model's configuration says."""
    open_clip = _library()
    config = open_clip.get_model_config(model)
    if config is None:
        raise ConfigError(
            f"open_clip has no model {model!r}.{did_you_mean(model, open_clip.list_models())}",
            kind="unknown_model",
        )
    side = config["vision_cfg"]["image_size"]
    if not isinstance(side, int):
        raise ConfigError(
            f"{model} wants pictures of {side}: only square inputs are supported.", kind="unknown_model"
        )
    if checkpoint is not None:
        weights, preprocess = checkpoint, _preprocess_of(open_clip, model, pretrained)
        if not weights.is_file():
            raise ConfigError(
                f"embedder.checkpoint: there is no file {weights}. Put the weights there or name a `pretrained:` tag.",
                kind="model_unavailable",
            )
    else:
        preprocess = _tag(open_clip, model, pretrained or "")
        weights = _fetch(model, pretrained or "", preprocess)
        if bool(preprocess.get("quick_gelu")) != bool(config.get("quick_gelu")):
            other = f"{model}-quickgelu" if preprocess.get("quick_gelu") else model.removesuffix("-quickgelu")
            raise ConfigError(
                f"The tag {pretrained!r} was not trained with the activation of {model}: configure model {other!r}.",
                kind="unknown_model",
            )
    return ModelCard(
        weights=str(weights),
        model_digest=digest_file(weights),
        dimension=int(config["embed_dim"]),
        side=side,
        fit=_FITS[preprocess.get("resize_mode", "shortest")],
        mean=tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
    )


def _preprocess_of(open_clip: Any, model: str, pretrained: str | None) -> dict[str, Any]:
    """How a checkpoint's inputs are prepared: as `pretrained` says when it is a tag of the model, else as all its tags agree."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained in tags:
        tags = [pretrained]
    known = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    agreed: dict[str, Any] = {}
    for name in ("mean", "std", "resize_mode"):
        values = {config[name] for config in known if name in config}
        if len(values) > 1:
            raise ConfigError(
                f"Checkpoints of {model} differ in {name}: set `pretrained:` to the tag whose preprocessing yours uses "
                f"(one of {', '.join(tags)}).",
                kind="no_preprocessing",
            )
        if values:
            agreed[name] = values.pop()
    return agreed


def _tag(open_clip: Any, model: str, tag: str) -> dict[str, Any]:
    config: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    if not config:
        known = open_clip.list_pretrained_tags_by_model(model)
        raise ConfigError(
            f"open_clip has no weights {tag!r} for {model!r}.{did_you_mean(tag, known)} "
            f"Known: {', '.join(known) or 'none; give a `checkpoint:`'}.",
            kind="unknown_model",
        )
    return config


def _fetch(model: str, tag: str, config: dict[str, Any]) -> Path:
    """The weights file of a tag: from the hub client's cache, else from the hub (asked once whether it answers)."""
    from open_clip.pretrained import download_pretrained

    cached = _cached(config)
    if cached is not None:
        return cached
    try:
        if config.get("hf_hub"):
            from huggingface_hub import constants, get_session

            get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
        return Path(download_pretrained(config))
    except Exception as error:
        raise ConfigError(
            f"The weights {model}/{tag} are not on this machine and could not be fetched ({_first_line(error)}). "
            "Connect to the hub once, or set `embedder.checkpoint:` to a file with these weights, or "
            "`embedder: {kind: efficientnet_lite0}` for the offline model (images only, no text search).",
            kind="model_unavailable",
        ) from error


def _cached(config: dict[str, Any]) -> Path | None:
    """The weights file of a tag in the hub client's cache (safetensors first, as open_clip prefers it)."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, filename = str(config.get("hf_hub", "")).rpartition("/")
    for name in [filename] if filename else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]:
        found = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(found, str):
            return Path(found)
    return None


def _library() -> Any:
    try:
        import open_clip
    except ImportError:
        raise missing_package("open-clip-torch", "embed") from None
    return open_clip


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
