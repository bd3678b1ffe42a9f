"""A model that is known at once, loaded when asked, and opened with a collection's own settings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moca_rag.deferred import DeferredEmbedder
from moca_rag.embedder import Embedder
from moca_rag.records import PixelBudget, Query
from tests.small_model import write_small_model

TINY = PixelBudget(min_pixels=4 * 784, max_pixels=16 * 784)


def test_nothing_is_loaded_before_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = Embedder.open

    def counted(*arguments: object, **options: object) -> Embedder:
        opened.append(options)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "open", counted)
    encoder = DeferredEmbedder(write_small_model(tmp_path), pixels=TINY, dimension=16)
    assert (encoder.card.pixels, encoder.card.dimension, opened) == (TINY, 16, [])
    page = np.full((112, 112, 3), 200, np.uint8)
    assert next(encoder.encode_pages([page])).shape == encoder.encode_queries([Query("x")])[0].shape == (16,)
    assert encoder.explain(Query("x"), page).shares.shape == (4, 4)
    assert opened == [{"pixels": TINY, "dimension": 16}]


def test_a_collections_model_comes_back_with_the_collections_settings(tmp_path: Path) -> None:
    made = DeferredEmbedder(write_small_model(tmp_path), pixels=TINY, dimension=16).card
    assert DeferredEmbedder.of(made).card == made
    whole = DeferredEmbedder(tmp_path).card
    assert DeferredEmbedder.of(whole).card == whole


def test_a_model_that_has_changed_comes_with_its_own_settings(tmp_path: Path) -> None:
    made = DeferredEmbedder(write_small_model(tmp_path), pixels=TINY, dimension=16).card
    (tmp_path / "moca.json").write_text(json.dumps({"query_prompt": "Find: "}))
    changed = DeferredEmbedder.of(made).card
    assert changed == DeferredEmbedder(tmp_path).card
    assert changed.revision != made.revision
    assert replace(changed, dimension=16) != made
