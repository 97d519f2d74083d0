"""Inspection of JPEG photographs: one decode for digests, hash, quality figures, thumbnail and tensor.

Peers: the same figures with Pillow and NumPy. Limit: decoding alone with Pillow's libjpeg-turbo, nothing computed.
Run: python -m benchmarks.inspect --quick
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from blake3 import blake3
from PIL import Image, ImageFilter, ImageOps

import datago
from benchmarks._table import Row, compare, options, rate, report


def photographs(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """`count` JPEG files of one size cut from the photographs that scikit-learn ships."""
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(p) for p in load_sample_images().images]
    paths = []
    for number in range(count):
        picture = ImageOps.fit(pictures[number % len(pictures)], size, centering=(number / count, 0.5))
        path = folder / f"{size[0]}-{number}.jpg"
        picture.save(path, quality=90)
        paths.append(str(path))
    return paths


def with_pillow(path: str) -> dict[str, object]:
    """What `datago.inspect` finds out, as a script with Pillow and NumPy would."""
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


def main() -> None:
    """Measure two sizes of photograph, one and all threads."""
    chosen = options(__doc__)
    count, repeats = (24, 3) if chosen.quick else (96, 7)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in ((1024, 768), (2048, 1536)):
            paths = photographs(Path(folder), size, count)

            def ours(threads: int, paths: list[str] = paths) -> int:
                return len(datago.inspect(paths, tensor_side=224, threads=threads).columns["digest"])

            def pillow(paths: list[str] = paths) -> int:
                return len([with_pillow(p) for p in paths])

            def decode_alone(paths: list[str] = paths) -> int:
                return len([Image.open(p).load() for p in paths])

            one = rate(lambda: ours(1), repeats)
            peers = [
                ("Pillow + NumPy", rate(pillow, repeats), 1.0),
                ("limit: decode alone", rate(decode_alone, repeats), None),
            ]
            rows += compare(f"inspect {size[0]}×{size[1]}, 1 thread", "images/s", ("refinery", one), peers)
            rows += compare(
                f"inspect {size[0]}×{size[1]}, all threads",
                "images/s",
                ("refinery", rate(lambda: ours(0), repeats)),
                [("refinery, 1 thread", one, None)],
            )
    report("inspect", rows, chosen.json)


if __name__ == "__main__":
    main()
