"""Text questions without torch: the same embeddings as the whole encoder's, or none at all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from moca_rag import text_queries
from moca_rag.checkpoint import find_checkpoint, read_card
from moca_rag.deferred import FEW_QUERIES, DeferredEmbedder
from moca_rag.embedder import Embedder
from moca_rag.records import Query
from moca_rag.text_queries import TextQueryEncoder
from tests.small_adapter import QUERY, random_pair, write_adapter
from tests.small_model import write_small_model

TEXTS = ("x", "What was the revenue of the energy division?", "  日本語 ünï <|image_pad|> \udc80", "harvest " * 400)


def change_settings(folder: Path, **settings: object) -> None:
    (folder / "moca.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(("layout", "dtype"), [("new", torch.float32), ("old", torch.float16)])
def test_text_queries_embed_as_with_torch(layout: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write_small_model(tmp_path, layout=layout, dtype=dtype)  # type: ignore[arg-type]
    change_settings(folder, query_prompt="Find: ", max_tokens=256, min_pixels=4 * 784, max_pixels=16 * 784)
    card = read_card(folder, dimension=48)
    encoder = TextQueryEncoder.open(find_checkpoint(folder), card)
    assert encoder is not None
    wanted = Embedder.open(folder, device="cpu", dimension=48).encode_queries([Query(text) for text in TEXTS])
    np.testing.assert_allclose(np.stack([encoder.encode(text) for text in TEXTS]), wanted, atol=1e-5)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01


def spoil(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], Path]:
    def spoilt(folder: Path) -> Path:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")
        return folder

    return spoilt


def adapt(folder: Path) -> Path:
    return write_adapter(folder / "adapter", folder, random_pair(QUERY, (64, 64)))


def leave_causal(folder: Path) -> Path:
    change_settings(folder, causal=True)
    return folder


def break_off(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


NORM = "model.language_model.norm.weight"
OTHERS: dict[str, Callable[[Path], Path]] = {
    "causal": leave_causal,
    "adapted": adapt,
    "in bfloat16": spoil(lambda weights: weights.update({NORM: weights[NORM].bfloat16()})),
    "not finite": spoil(lambda weights: weights[NORM].fill_(torch.nan)),
    "misshapen": spoil(lambda weights: weights.update({NORM: weights[NORM][:-1].clone()})),
    "lacking one": spoil(lambda weights: weights.pop(NORM)),
    "broken off": break_off,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_not_an_everyday_model_is_left_to_the_embedder(kind: str, tmp_path: Path) -> None:
    folder = OTHERS[kind](write_small_model(tmp_path))
    assert TextQueryEncoder.open(find_checkpoint(folder), read_card(folder)) is None


def test_a_large_model_is_left_to_the_embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_small_model(tmp_path)
    assert TextQueryEncoder.open(find_checkpoint(folder), read_card(folder)) is not None
    monkeypatch.setattr(text_queries, "MOST_WEIGHTS", 1000)
    assert TextQueryEncoder.open(find_checkpoint(folder), read_card(folder)) is None


def test_a_few_questions_are_answered_without_loading_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = DeferredEmbedder(write_small_model(tmp_path))
    few = [Query(text) for text in TEXTS] * (FEW_QUERIES // len(TEXTS))
    assert len(few) == FEW_QUERIES
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "open", lambda *_, **__: pytest.fail("the model was loaded"))
        rows = encoder.encode_queries(few)
    np.testing.assert_allclose(encoder.encode_queries([*few, Query("one more")])[:-1], rows, atol=1e-5)


@pytest.mark.parametrize("queries", [[], [Query("")], [Query("x", np.zeros((56, 56, 3), np.uint8))]])
def test_other_questions_are_the_embedders(
    queries: list[Query], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Embedder, "open", lambda *_, **__: (_ for _ in ()).throw(LookupError("loaded")))
    with pytest.raises(LookupError, match="loaded"):
        DeferredEmbedder(write_small_model(tmp_path)).encode_queries(queries)


def test_a_question_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from moca_rag.deferred import DeferredEmbedder; from moca_rag.records import Query; "
        "print(DeferredEmbedder(sys.argv[1]).encode_queries([Query('x')]).shape, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(write_small_model(tmp_path))]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "(1, 64) False"
