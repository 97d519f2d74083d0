"""What `datago.inspect` finds out, as a script with Pillow and NumPy would. Imports nothing of ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _peer_pixels import Made, Work, each
from blake3 import blake3
from PIL import Image, ImageFilter, ImageOps


def with_pillow(path: str) -> dict[str, object]:
    """Digests, hash, figures, thumbnail and tensor of one file."""
    data = Path(path).read_bytes()
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    grey = image.convert("L")
    luma = np.asarray(grey, np.float32) / 255
    small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    basis = np.cos(np.pi * (2 * np.arange(32) + 1) * np.arange(8)[:, None] / 64)
    low = basis @ small @ basis.T
    histogram = np.bincount(np.asarray(grey).ravel(), minlength=256) / grey.width / grey.height
    thumbnail = image.copy()
    thumbnail.thumbnail((256, 256))
    sink = io.BytesIO()
    thumbnail.save(sink, "JPEG", quality=85)
    return {
        "digest": blake3(data).hexdigest(),
        "pixels": blake3(image.tobytes()).hexdigest(),
        "phash": low > np.median(low),
        "figures": (luma.mean(), luma.std(), -(histogram * np.log2(histogram + 1e-12)).sum()),
        "sharpness": float(
            np.var(np.asarray(grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), 1))))
        ),
        "thumbnail": sink.getvalue(),
        "tensor": np.asarray(ImageOps.fit(image, (224, 224), Image.Resampling.BICUBIC)),
    }


def _pillow(_: dict[str, Any]) -> Work:
    return with_pillow


def pillow(job: dict[str, Any]) -> Made:
    """One file after another, or one on each thread."""
    run, _ = each(_pillow)(job)
    return run, None


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {"pillow": pillow}
