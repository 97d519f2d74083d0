"""One suite for every embedder, on real weights (EfficientNet-Lite0) and on a real checkpoint (a small CLIP)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from refinery.config import EmbedderSettings
from refinery.digests import digest_file
from refinery.embedders import Embedder, make_embedder
from refinery.errors import ConfigError, InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*TypedStorage.*:UserWarning"),
]
SMALL_CLIP = "ViT-S-32-alt"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a checkpoint of seeded weights in it."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("project")
    torch.manual_seed(7)
    model = open_clip.create_model(SMALL_CLIP, pretrained=None)
    torch.save(model.state_dict(), folder / "small.pt")
    return folder


SETTINGS = {
    "efficientnet_lite0": EmbedderSettings(kind="efficientnet_lite0", device="cpu"),
    "open_clip checkpoint": EmbedderSettings(
        model=SMALL_CLIP, pretrained=None, checkpoint=Path("small.pt"), device="cpu", batch_size=4
    ),
}


@pytest.fixture(scope="session", params=SETTINGS)
def embedder(request: pytest.FixtureRequest, project: Path) -> Embedder:
    return make_embedder(SETTINGS[request.param], project)


def pictures(embedder: Embedder, n: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth pictures (noise has no structure that a model could tell apart)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    side = embedder.input.side
    rows = np.arange(side) * 8 // side
    return np.ascontiguousarray(coarse[:, rows][:, :, rows])


def test_it_says_what_it_is_without_loading_weights(embedder: Embedder) -> None:
    assert embedder.name
    assert len(embedder.model_digest) == 64
    assert embedder.input.side > 0
    assert embedder.dimension > 0


def test_vectors_are_finite_and_of_length_one(embedder: Embedder) -> None:
    vectors = embedder.embed_images(pictures(embedder, 5))
    assert vectors.shape == (5, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_pictures_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_images(pictures(embedder, 0)).shape == (0, embedder.dimension)


def test_a_vector_does_not_depend_on_what_else_is_in_the_call(embedder: Embedder) -> None:
    images = pictures(embedder, 7)
    together = embedder.embed_images(images)
    alone = np.concatenate([embedder.embed_images(images[i : i + 1]) for i in range(7)])
    backwards = embedder.embed_images(images[::-1])[::-1]
    np.testing.assert_allclose((together * alone).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((together * backwards).sum(axis=1), 1, atol=1e-5)


def test_different_pictures_get_different_vectors_and_equal_ones_equal(embedder: Embedder) -> None:
    images = pictures(embedder, 2)
    a, b, again = embedder.embed_images(images[[0, 1, 0]])
    assert float(a @ again) > 1 - 1e-5
    assert float(a @ b) < 1 - 1e-4


def test_text_gives_unit_vectors(project: Path) -> None:
    embedder = make_embedder(SETTINGS["open_clip checkpoint"], project)
    vectors = embedder.embed_text(["a panda", "a red car"])
    assert vectors.shape == (2, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.embed_text([]).shape == (0, embedder.dimension)


def test_a_model_without_a_text_tower_refuses_text_and_says_what_to_configure(project: Path) -> None:
    embedder = make_embedder(SETTINGS["efficientnet_lite0"], project)
    with pytest.raises(InputError) as caught:
        embedder.embed_text(["a panda"])
    assert caught.value.kind == "no_text_tower"
    assert embedder.name in str(caught.value)
    assert "open_clip" in str(caught.value)


def test_efficientnet_sees_that_photographs_of_the_same_thing_are_alike(project: Path) -> None:
    from skimage import data

    import datago

    def encoded(image: npt.NDArray[Any]) -> bytes:
        import io

        from PIL import Image

        sink = io.BytesIO()
        Image.fromarray(image).save(sink, "JPEG", quality=90)
        return sink.getvalue()

    cat, coffee = data.chelsea(), data.coffee()
    embedder = make_embedder(SETTINGS["efficientnet_lite0"], project)
    found = datago.inspect(
        [encoded(cat), encoded(cat[10:-10, 15:-15]), encoded(coffee)], tensor_side=embedder.input.side
    )
    assert found.tensors is not None
    a, b, c = embedder.embed_images(found.tensors)
    assert a @ b > 0.9
    assert a @ c < 0.6


def test_the_checkpoint_is_loaded_and_its_digest_recorded(project: Path) -> None:
    import open_clip
    import torch

    embedder = make_embedder(SETTINGS["open_clip checkpoint"], project)
    assert embedder.name == f"open_clip:{SMALL_CLIP}/small.pt"
    assert embedder.model_digest == digest_file(project / "small.pt")
    model = open_clip.create_model(SMALL_CLIP, pretrained=str(project / "small.pt")).eval()
    images = pictures(embedder, 2)
    mean, std = (np.array(v) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    pixels = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        expected = model.encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(embedder.embed_images(images), expected, atol=1e-4)


def test_a_remembered_model_is_described_without_reading_its_weights_and_forgotten_when_they_change(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refinery.embedders import open_clip as module

    weights = tmp_path / "w.pt"
    weights.write_bytes((project / "small.pt").read_bytes())
    settings = EmbedderSettings(model=SMALL_CLIP, pretrained=None, checkpoint=Path("w.pt"))
    first = make_embedder(settings, tmp_path).model_digest
    with monkeypatch.context() as patch:
        patch.setattr(module, "_describe", lambda *_: pytest.fail("the weights were read again"))
        assert make_embedder(settings, tmp_path).model_digest == first
    weights.write_bytes(b"other")
    assert make_embedder(settings, tmp_path).model_digest != first


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub and no cache of it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("no_hub")
def test_a_tag_without_a_hub_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    embedder = make_embedder(EmbedderSettings(), tmp_path)
    assert EmbedderSettings().pretrained in embedder.name
    with pytest.raises(ConfigError) as caught:
        embedder.embed_images(np.zeros((1, 8, 8, 3), np.uint8))
    assert caught.value.kind == "model_unavailable"
    for word in (EmbedderSettings().pretrained or "", "checkpoint:", "efficientnet_lite0"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        (EmbedderSettings(model="ViT-B32"), "unknown_model", "Did you mean 'ViT-B-32'"),
        (EmbedderSettings(model="ViT-B-32", pretrained="datacomp"), "unknown_model", "datacomp_xl"),
        (EmbedderSettings(pretrained=None), "no_weights", "checkpoint"),
        (EmbedderSettings(checkpoint=Path("gone.pt")), "model_unavailable", "gone.pt"),
        (EmbedderSettings(model="RN50", checkpoint=Path("small.pt")), "bad_checkpoint", "RN50"),
        (EmbedderSettings(model="ViT-B-32", checkpoint=Path("pickle.pt")), "bad_checkpoint", "pickle.pt"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    settings: EmbedderSettings, kind: str, says: str, project: Path, planted_pickle: Callable[[], bool]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_embedder(settings, project).embed_images(np.zeros((1, 224, 224, 3), np.uint8))
    assert caught.value.kind == kind
    assert says in str(caught.value)
    assert not planted_pickle()


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def planted_pickle(project: Path, tmp_path: Path) -> Callable[[], bool]:
    """A checkpoint that runs code when it is unpickled; says whether it did."""
    import torch

    torch.save({"weight": _Bomb(tmp_path / "ran")}, project / "pickle.pt")
    return (tmp_path / "ran").exists
