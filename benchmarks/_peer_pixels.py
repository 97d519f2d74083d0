"""Peers that decode and resize to NumPy: `datago` of PyPI, simplejpeg, PyTurboJPEG, OpenCV, Pillow.

Runs in the peers' environment and imports nothing of ours. A job has `paths` to work on, `look_paths` to show, `target` (width,
height) or none for a plain decode, and `threads`. Everybody reads the file, and keeps the last `held` pictures, as a batch does.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

BLUR = 0.35
"""Sigma of the blur before a linear resize, in pixels of the target: lets through as much false detail as INTER_AREA does."""
Work = Callable[[str], Any]
Made = tuple[Callable[[], int], "Callable[[], list[Any]] | None"]


def in_order(work: Work, paths: list[str], threads: int, held: int) -> Iterator[Any]:
    """What `work` gives for each path, in order, `held` of them under way or waiting."""
    if threads == 1:
        yield from map(work, paths)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Any]] = deque()
        for path in paths:
            ahead.append(pool.submit(work, path))
            if len(ahead) >= held:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def each(make: Callable[[dict[str, Any]], Work]) -> Callable[[dict[str, Any]], Made]:
    """A system that does one picture after another, or one on each thread."""

    def setup(job: dict[str, Any]) -> Made:
        work = make(job)

        def run() -> int:
            kept: deque[Any] = deque(maxlen=job["held"])
            for found in in_order(work, job["paths"], job["threads"], job["held"]):
                kept.append(found)
            return len(job["paths"])

        return run, lambda: [work(p) for p in job["look_paths"]]

    return setup


def crop_box(width: int, height: int, target: tuple[int, int]) -> tuple[float, float, float, float]:
    """left, top, right, bottom of the largest centred part with the target's proportions."""
    w, h = min(width, height * target[0] / target[1]), min(height, width * target[1] / target[0])
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def cut(picture: Any, target: tuple[int, int]) -> Any:
    """The same in whole pixels of an array."""
    left, top, right, bottom = (round(x) for x in crop_box(picture.shape[1], picture.shape[0], target))
    return picture[top:bottom, left:right]


def simplejpeg_(job: dict[str, Any]) -> Work:
    """simplejpeg; with a target then OpenCV's resize. `scaled`: at the least n/8 that still holds the target, by at least
    this factor. Filter BLUR: a Gaussian just wide enough, then linear."""
    jpeg = import_module("simplejpeg")
    if not job["target"]:
        return lambda path: jpeg.decode_jpeg(Path(path).read_bytes())
    cv2, target = _cv2(), tuple(job["target"])
    blur = job["filter"] == "BLUR"
    filter_ = cv2.INTER_LINEAR if blur else getattr(cv2, job["filter"])
    least = {}
    if job["scaled"]:
        least = {"min_width": target[0], "min_height": target[1], "min_factor": job["scaled"]}

    def work(path: str) -> Any:
        picture = cut(jpeg.decode_jpeg(Path(path).read_bytes(), **least), target)
        if blur:
            picture = cv2.GaussianBlur(picture, (3, 3), BLUR * picture.shape[0] / target[1])
        return cv2.resize(picture, target, interpolation=filter_)

    return work


def simplejpeg_buffer(job: dict[str, Any]) -> Work:
    """The decoder alone: into one buffer, again and again."""
    jpeg, numpy = import_module("simplejpeg"), import_module("numpy")
    buffers: deque[Any] = deque(numpy.zeros(job["pixels"] * 3, numpy.uint8) for _ in range(job["threads"]))

    def work(path: str) -> int:
        buffer = buffers.pop()
        found = jpeg.decode_jpeg(Path(path).read_bytes(), buffer=buffer)
        buffers.append(buffer)
        return len(found)

    return work


def pyturbojpeg(_: dict[str, Any]) -> Work:
    """PyTurboJPEG, where the system has the library."""
    module = import_module("turbojpeg")
    try:
        decoder = module.TurboJPEG()
    except RuntimeError:
        raise ImportError("the system has no libturbojpeg") from None
    return lambda path: decoder.decode(Path(path).read_bytes(), pixel_format=module.TJPF_RGB)


def opencv(job: dict[str, Any]) -> Work:
    """imdecode to RGB; with a target then resize."""
    cv2, numpy = _cv2(), import_module("numpy")

    def decode(path: str) -> Any:
        data = numpy.frombuffer(Path(path).read_bytes(), numpy.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)

    if not job["target"]:
        return decode
    target, filter_ = tuple(job["target"]), getattr(cv2, job["filter"])
    return lambda path: cv2.resize(cut(decode(path), target), target, interpolation=filter_)


def pillow(job: dict[str, Any]) -> Work:
    """Pillow; with a target then resize. `scaled`: lets the decoder shrink by 2, 4 or 8 first while the target fits."""
    image, numpy = import_module("PIL.Image"), import_module("numpy")
    target = job["target"] and tuple(job["target"])

    def work(path: str) -> Any:
        picture = image.open(path)
        if not target:
            return numpy.asarray(picture.convert("RGB"))
        if job["scaled"]:
            picture.draft("RGB", target)
        picture = picture.convert("RGB")
        box = crop_box(picture.width, picture.height, target)
        return numpy.asarray(picture.resize(target, image.Resampling[job["filter"]], box=box))

    return work


def photoroom_config(job: dict[str, Any], root: str, count: int, *, encode: bool) -> dict[str, Any]:
    """A stream of a folder's pictures, as its README says; with a target its bucket table is narrowed to that one size."""
    config: dict[str, Any] = {
        "source_type": "file",
        "source_config": {"root_path": root, "random_sampling": False, "rank": 0, "world_size": 1},
        "limit": count,
        "samples_buffer_size": job["held"],
    }
    if job["target"]:
        width, height = job["target"]
        side = int((width * height) ** 0.5) + 1
        config["image_config"] = {
            "crop_and_resize": True,
            "default_image_size": side,
            "downsampling_ratio": 1,
            "min_aspect_ratio": ((width - 0.5) / side) ** 2,
            "max_aspect_ratio": ((width + 0.5) / side) ** 2,
            "pre_encode_images": encode,
            "encode_format": "jpeg",
            "jpeg_quality": 92,
        }
    return config


def photoroom_samples(job: dict[str, Any], root: str, count: int, *, encode: bool = False) -> Iterator[Any]:
    """Its samples, as they come."""
    client = import_module("datago").DatagoClient(
        json.dumps(photoroom_config(job, root, count, encode=encode))
    )
    client.start()
    try:
        for _ in range(count):
            sample = client.get_sample()
            if sample is None:
                raise ValueError(f"the stream ended before its {count} pictures")
            yield sample
    finally:
        client.stop()


def by_path(job: dict[str, Any], samples: Iterator[Any], read: Callable[[Any], Any]) -> list[Any]:
    """What `read` gives for each sample, in the order of `look_paths`: the stream's own order is not kept."""
    found = {json.loads(sample.id): read(sample) for sample in samples}
    return [found[path] for path in job["look_paths"]]


def photoroom(job: dict[str, Any]) -> Made:
    """`datago` of PyPI: as many tasks as cores (DATAGO_MAX_TASKS), a new stream for each round."""
    import_module("datago").initialize_logging(log_level="error")
    count = len(job["paths"])

    def run() -> int:
        kept: deque[Any] = deque(maxlen=job["held"])
        for sample in photoroom_samples(job, job["root"], count):
            kept.append(sample.image.to_numpy_array())
        return count

    def look() -> list[Any]:
        samples = photoroom_samples(job, job["look_root"], len(job["look_paths"]))
        return by_path(job, samples, lambda sample: sample.image.to_numpy_array())

    return run, look


def pillow_simd(_: dict[str, Any]) -> Made:
    """Takes Pillow's place, so it could not be in this environment; it has published no wheel since 2015."""
    raise ImportError("Pillow-SIMD publishes no wheels")


def _cv2() -> Any:
    cv2 = import_module("cv2")
    cv2.setNumThreads(1)
    return cv2


SYSTEMS: dict[str, Callable[[dict[str, Any]], Made]] = {
    "photoroom": photoroom,
    "simplejpeg": each(simplejpeg_),
    "buffer": each(simplejpeg_buffer),
    "pyturbojpeg": each(pyturbojpeg),
    "opencv": each(opencv),
    "pillow": each(pillow),
    "pillow_simd": pillow_simd,
}
