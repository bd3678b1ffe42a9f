"""A model left causal, as the paper's baseline is: trained, opened and exported as what it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from moca_rag.train.runs import run_cl
from transformers import Qwen2_5_VLForConditionalGeneration

from moca_rag import proof
from moca_rag.checkpoint import read_card
from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError, ModelError
from moca_rag.export import export_model
from moca_rag.progress import SilentReporter
from moca_rag.records import Box, Query
from tests.packs import load, picture
from tests.small_model import SENTENCES, write_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_model(tmp_path_factory.mktemp("causal"))
    settings = {"causal": True, "min_pixels": 4 * 784, "max_pixels": 16 * 784}
    (folder / "moca.json").write_text(json.dumps(settings | {"regions": 12}))  # for when it is bidirectional
    return folder


def test_texts_embed_as_the_last_state_of_transformers_own_causal_model(folder: Path) -> None:
    embedder = Embedder.open(folder, device="cpu")
    assert embedder.card.pooling == "last"
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").model.eval()
    for text in SENTENCES:
        ids = torch.from_numpy(embedder._builder.build([text]).ids[None])
        with torch.no_grad():
            last = theirs(input_ids=ids).last_hidden_state[0, -1]
        expected = torch.nn.functional.normalize(last, dim=-1).numpy()
        np.testing.assert_allclose(embedder.encode_queries([Query(text)])[0], expected, atol=1e-5)


def test_each_direction_is_refused_where_the_other_is_said(folder: Path, tmp_path: Path) -> None:
    causal, both = load(folder), load(write_small_model(tmp_path))
    assert causal.causal and not both.causal
    attend = proof._run

    def turned(backbone: object, *others: object) -> object:
        backbone.causal = not backbone.causal  # type: ignore[attr-defined]
        try:
            return attend(backbone, *others)  # type: ignore[arg-type]
        finally:
            backbone.causal = not backbone.causal  # type: ignore[attr-defined]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "_run", turned)
        with pytest.raises(ModelError, match="causal by its settings"):
            proof.prove_text(causal)
        with pytest.raises(ModelError, match="one direction only"):
            proof.prove_text(both)


def test_its_one_token_has_no_parts(folder: Path) -> None:
    embedder, page = Embedder.open(folder, device="cpu"), picture(2, 3)
    assert embedder.card.regions == 1
    assert next(embedder.encode_pages([page])).shape == (64,)
    with pytest.raises(ConfigError, match="is causal"):
        embedder.explain(Query("copper"), page)
    with pytest.raises(ConfigError, match="is causal"):
        list(embedder.encode_regions([(page, [Box(0, 0, 1, 1)])]))


def test_sentence_transformers_reads_its_last_token_too(folder: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    export_model(folder, tmp_path / "st", dtype="float32")
    theirs = library.SentenceTransformer(str(tmp_path / "st"), device="cpu")
    ours = Embedder.open(folder, device="cpu").encode_queries([Query(text) for text in SENTENCES])
    np.testing.assert_allclose(theirs.encode_query(list(SENTENCES)), ours, atol=1e-5)


def test_a_checkpoint_opens_in_the_direction_it_was_trained_in(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model")
    rows = [{"query_text": text, "positive_text": text[::-1]} for text in SENTENCES]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [f"model={model}", f"data={tmp_path / 'rows.jsonl'}", "batch_size=4", "steps=1"]
    for way, pooling in (("false", "last"), ("true", "mean")):
        out = tmp_path / way
        made = run_cl("tiny", [*words, f"out={out}", f"bidirectional={way}", "lora_rank=2"], SilentReporter(), "cpu")
        assert made.checkpoint is not None
        whole, adapter = Embedder.open(made.checkpoint), Embedder.open(made.checkpoint / "adapter")
        assert whole.card.pooling == adapter.card.pooling == read_card(made.checkpoint).pooling == pooling
        query = [Query("Which bridge?")]
        np.testing.assert_allclose(whole.encode_queries(query), adapter.encode_queries(query), atol=1e-6)
