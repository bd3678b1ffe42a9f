"""A model out of nothing: its tokens, its shape, and that everything else takes it for a model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moca_rag.train.contrast import info_nce
from moca_rag.train.fresh import SPECIAL_TOKENS, make_model
from moca_rag.train.settings import ModelPlan
from transformers import Qwen2_5_VLForConditionalGeneration

from moca_rag.checkpoint import find_checkpoint, read_settings
from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError
from moca_rag.inputs import Pack, TokenSequence, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pooling import pool
from moca_rag.records import Query
from tests.small_documents import write_small_documents

SMALL = ModelPlan(
    vocab_size=400, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1,
    vision_depth=2, vision_hidden_size=32, vision_intermediate_size=32, vision_num_heads=1, fullatt_block_indexes=(1,),
    regions=3,
)  # fmt: skip


def test_a_new_model_opens_here_and_in_transformers_with_the_same_weights(tmp_path: Path) -> None:
    made = make_model(SMALL, write_small_documents(tmp_path / "texts.jsonl.gz"), tmp_path / "new")
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(made.folder)
    assert sum(weight.numel() for weight in theirs.parameters()) == made.num_parameters
    embedder = Embedder.open(made.folder, device="cpu")
    assert embedder.card.pooling == "last"
    found = embedder.encode_queries([Query("energy"), Query("copper")])
    assert abs(found[0] @ found[1]) < 0.99
    page = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert np.isfinite(next(embedder.encode_pages([page]))).all()


def test_every_row_of_the_embeddings_has_its_token_and_the_mask_its_own(tmp_path: Path) -> None:
    make_model(SMALL, write_small_documents(tmp_path / "texts.jsonl.gz"), tmp_path / "new")
    tokenizer = load_tokenizer(tmp_path / "new" / "tokenizer.json")
    assert {token.content for token in tokenizer.get_added_tokens_decoder().values()} == set(SPECIAL_TOKENS)
    settings = read_settings(find_checkpoint(tmp_path / "new"))
    assert (settings.regions, settings.page_regions) == (3, 1)  # as soon as it is bidirectional
    assert settings.mask_token_id == tokenizer.token_to_id("<|mask|>") < SMALL.vocab_size
    text = "Which bridge was closed, and 1,234 more? Größe 東京"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_same_plan_makes_the_same_model(tmp_path: Path) -> None:
    texts = write_small_documents(tmp_path / "texts.jsonl.gz")
    one, two = (make_model(SMALL, texts, tmp_path / name).folder for name in ("one", "two"))
    for name in ("model.safetensors", "tokenizer.json", "config.json", "moca.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        make_model(SMALL, write_small_documents(tmp_path / "texts.jsonl.gz"), tmp_path)
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_contrastive_steps_leave_apart_what_is_mostly_empty(tmp_path: Path) -> None:
    folder = make_model(SMALL, write_small_documents(tmp_path / "texts.jsonl.gz"), tmp_path / "new").folder
    backbone = load_backbone(find_checkpoint(folder), torch.device("cpu"), torch.float32)
    backbone.causal = False
    backbone.requires_grad_()
    tokens = range(300, 332)
    empty = [backbone.shape.tokens.pad] * 400
    queries = Pack.of([as_text([token]) for token in tokens])
    pages = Pack.of([as_text([*empty, token]) for token in tokens])
    optimizer = torch.optim.AdamW(backbone.language_model.layers.parameters(), lr=1e-3)

    def compare() -> torch.Tensor:
        sides = [pool(backbone(pack), pack.lengths) for pack in (queries, pages)]
        return info_nce(*sides, torch.arange(len(tokens)))

    for _ in range(3):
        optimizer.zero_grad()
        compare().backward()
        optimizer.step()
    assert compare().item() < 0.1  # ln 32 where the layers make all pages one


def as_text(ids: list[int]) -> TokenSequence:
    """Tokens in a row, without a picture."""
    return TokenSequence(np.array(ids), np.tile(np.arange(len(ids)), (3, 1)), np.zeros((0, 588), np.float32), ())
