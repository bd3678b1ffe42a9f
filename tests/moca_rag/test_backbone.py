"""The encoder against transformers' own eager model with a full mask, and what is proven of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from moca_rag import attention, proof, vision
from moca_rag.attention import Segments
from moca_rag.backbone import Backbone
from moca_rag.checkpoint import find_checkpoint
from moca_rag.errors import ModelError
from moca_rag.inputs import Pack, SequenceBuilder, TokenSequence, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pixels import normalise_patches
from moca_rag.pooling import mean_pool
from tests.packs import CPU, MIXES, SMALL, Parts, load, picture
from tests.small_model import write_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Backbone:
    return load(folder)


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.fixture(scope="module", params=["cpu", GPU])
def anywhere(request: pytest.FixtureRequest, folder: Path) -> Backbone:
    """The encoder in float32 on the CPU, and in bfloat16 through a varlen kernel where there is a GPU."""
    dtype = torch.float32 if request.param == "cpu" else torch.bfloat16
    return load_backbone(find_checkpoint(folder), torch.device(request.param), dtype)


def assert_same_states(got: Tensor, expected: Tensor) -> None:
    if got.dtype == torch.float32:
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        return
    left, right = mean_pool(got.cpu(), [len(got)])[0], mean_pool(expected.cpu(), [len(expected)])[0]
    assert float(left @ right) >= 0.9999
    assert float(torch.cosine_similarity(got.float().cpu(), expected.float().cpu()).min()) >= 0.999


@pytest.fixture(scope="module")
def build(folder: Path, encoder: Backbone) -> Callable[[Parts], TokenSequence]:
    return SequenceBuilder(load_tokenizer(folder / "tokenizer.json"), encoder.shape.tokens, SMALL, 2048).build


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager", local_files_only=True
    )
    return model.eval().model


def reference_states(model: Any, sequence: TokenSequence, images: Parts) -> Tensor:
    """States [L, D] of one sequence by transformers alone: its processor, its positions, its eager attention."""
    ids = torch.from_numpy(sequence.ids)[None]
    inputs: dict[str, Any] = {}
    if images:
        processor = Qwen2VLImageProcessorPil(do_resize=False)
        inputs = dict(processor(images, input_data_format="channels_last", return_tensors="pt"))
    kinds = (ids == model.config.image_token_id).int()
    positions, _ = model.get_rope_index(ids, kinds, image_grid_thw=inputs.get("image_grid_thw"))
    full = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=full, position_ids=positions, use_cache=False, **inputs)
    states: Tensor = output.last_hidden_state[0]
    return states


def test_a_pack_of_texts_pages_and_mixes_equals_transformers_one_at_a_time(
    anywhere: Backbone, reference: Any, build: Callable[[Parts], TokenSequence]
) -> None:
    sequences = [build(parts) for parts in MIXES]
    pack = Pack.of(sequences)
    with torch.inference_mode():
        states = anywhere(pack).split(list(pack.lengths))
    for parts, sequence, got in zip(MIXES, sequences, states, strict=True):
        images = [part for part in parts if not isinstance(part, str)]
        assert_same_states(got, reference_states(reference, sequence, images))


def test_neighbours_and_order_in_a_pack_move_nothing(
    anywhere: Backbone, build: Callable[[Parts], TokenSequence]
) -> None:
    sequences = [build(parts) for parts in MIXES]
    with torch.inference_mode():
        alone = [anywhere(Pack.of([sequence])) for sequence in sequences]
        for order in ([4, 3, 2, 1, 0], [1, 1, 3, 0], [2, 4]):
            pack = Pack.of([sequences[index] for index in order])
            for index, got in zip(order, anywhere(pack).split(list(pack.lengths)), strict=True):
                assert_same_states(got, alone[index])


def test_every_token_sees_the_last_one(anywhere: Backbone, build: Callable[[Parts], TokenSequence]) -> None:
    sequences = [build([picture(2, 2), " ends with " + end]) for end in ("a", "b")]
    with torch.inference_mode():
        left, right = (anywhere(Pack.of([sequence])) for sequence in sequences)
    assert ((left - right).norm(dim=-1) > 1e-3).all()


def test_there_is_one_attention_call_a_layer(encoder: Backbone, build: Callable[[Parts], TokenSequence]) -> None:
    with torch.inference_mode(), attention.count_calls() as count:
        encoder(Pack.of([build(parts) for parts in MIXES]))
    assert count == [2 + 3]


def test_pixels_give_the_same_states_as_bytes_and_as_floats(encoder: Backbone) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (64, 588), dtype=np.uint8)
    projection = encoder.visual.patch_embed
    floats = torch.from_numpy(normalise_patches(rows))
    with torch.no_grad():
        convolved = projection.proj(floats.view(-1, 3, 2, 14, 14)).flatten(1)
        torch.testing.assert_close(projection(floats), convolved, atol=1e-5, rtol=0)
        torch.testing.assert_close(projection(torch.from_numpy(rows)), convolved, atol=1e-5, rtol=0)


def test_sequences_that_see_each_other_are_refused(encoder: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = attention._attend_in_runs

    def leaky(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool) -> Tensor:
        return attend(query, key, value, Segments.of([len(query)], CPU), causal)

    monkeypatch.setattr(attention, "_attend_in_runs", leaky)
    for prove in (proof.prove_text, proof.prove_vision):
        with pytest.raises(ModelError, match="see each other"):
            prove(encoder)


def test_a_tower_that_calls_attention_once_a_window_is_refused(
    encoder: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_by_one(query: Tensor, key: Tensor, value: Tensor, segments: Segments) -> Tensor:
        cuts = segments.boundaries.diff().tolist()
        parts = zip(*(tensor.split(cuts) for tensor in (query, key, value)), strict=True)
        return torch.cat([attention.attend(*part, Segments.of([len(part[0])], CPU)) for part in parts])

    monkeypatch.setattr(vision, "attend", one_by_one)
    with pytest.raises(ModelError, match=r"attention calls where 5 layers make 10"):
        proof.prove_vision(encoder)
