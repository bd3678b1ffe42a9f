"""What a model folder may hold, what is refused of it, and when its parts are read and proven."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from moca_rag import loader
from moca_rag.backbone import Backbone
from moca_rag.checkpoint import find_checkpoint
from moca_rag.errors import ModelError
from moca_rag.inputs import Pack, SequenceBuilder
from moca_rag.loader import load_backbone
from moca_rag.shapes import read_shape
from tests.packs import CPU, MIXES, SMALL, load
from tests.small_model import train_tokenizer, write_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Backbone:
    return load(folder)


def test_a_folder_that_says_causal_is_made_bidirectional(folder: Path, tmp_path: Path) -> None:
    write_small_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["is_causal"] = config["is_causal"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_equal_states(load(tmp_path), load(folder))


def test_text_layers_are_proven_when_the_model_is_loaded_and_the_tower_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven: list[str] = []
    monkeypatch.setattr(loader, "prove_text", lambda _: proven.append("text"))
    monkeypatch.setattr(loader, "prove_vision", lambda _: proven.append("vision"))
    backbone = load_backbone(find_checkpoint(folder), CPU, torch.float32)
    assert proven == ["text"]
    backbone.load_vision()
    backbone.load_vision()
    assert proven == ["text", "vision"]


def test_a_tower_that_could_not_be_read_is_read_again_when_asked_again(tmp_path: Path) -> None:
    backbone = load_backbone(find_checkpoint(write_small_model(tmp_path)), CPU, torch.float32)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    for _ in range(2):
        with pytest.raises(ModelError, match="no whole safetensors file"):
            backbone.load_vision()
    (tmp_path / "model.safetensors").write_bytes(weights)
    backbone.load_vision()
    assert {weight.device.type for weight in backbone.visual.parameters()} == {"cpu"}


def assert_equal_states(left: Backbone, right: Backbone) -> None:
    tokens = left.shape.tokens
    builder = SequenceBuilder(train_tokenizer(), tokens, SMALL, 2048)
    pack = Pack.of([builder.build(parts) for parts in MIXES])
    with torch.inference_mode():
        torch.testing.assert_close(left(pack), right(pack), atol=0, rtol=0)


@pytest.mark.parametrize("options", [{"layout": "old"}, {"shards": 3}, {"layout": "old", "shards": 2}])
def test_every_published_layout_gives_the_same_model(
    options: dict[str, Any], tmp_path: Path, encoder: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    other = load(write_small_model(tmp_path, **options))
    assert_equal_states(encoder, other)
    assert not caplog.records


def test_weights_stored_in_bf16_are_read_as_float32(tmp_path: Path) -> None:
    write_small_model(tmp_path, dtype=torch.bfloat16)
    encoder = load(tmp_path)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}


def test_the_base_models_own_names_and_a_foreign_head_are_read(
    folder: Path, tmp_path: Path, encoder: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    def strip(weights: dict[str, Tensor]) -> None:
        for key in list(weights):
            weights[key.removeprefix("model.")] = weights.pop(key)
        weights["custom_text_proj.weight"] = torch.zeros(2, 2)

    assert_equal_states(encoder, load(rewrite(folder, tmp_path, strip)))
    assert "custom_text_proj.weight" in caplog.text


def rewrite(folder: Path, target: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """A copy of the model folder with changed weights."""
    for name in ("config.json", "tokenizer.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, target / "model.safetensors")
    return target


NORM = "model.language_model.norm.weight"
MERGER = "model.visual.merger.mlp.0.weight"


def drop(weights: dict[str, Tensor]) -> None:
    del weights[MERGER], weights[MERGER.replace(".0.", ".2.")]


def misshape(weights: dict[str, Tensor]) -> None:
    weights[NORM] = torch.ones(7)


def add_layer(weights: dict[str, Tensor]) -> None:
    weights["model.language_model.layers.2.mlp.up_proj.weight"] = torch.ones(2, 2)


def poison(weights: dict[str, Tensor]) -> None:
    weights[MERGER][3, 5] = torch.nan


def blow_up(weights: dict[str, Tensor]) -> None:
    weights[MERGER][3, 5] = torch.inf


def empty(weights: dict[str, Tensor]) -> None:
    weights[NORM].zero_()


def flatten(weights: dict[str, Tensor]) -> None:
    for key, tensor in weights.items():
        if "language_model.layers" in key or "merger.mlp.2" in key:
            tensor.zero_()
    weights["model.language_model.embed_tokens.weight"].fill_(1)
    weights["model.visual.merger.mlp.2.bias"].fill_(1)


def quantise(weights: dict[str, Tensor]) -> None:
    weights[MERGER] = weights[MERGER].to(torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"lack visual\.merger\.mlp\.0\.weight \(2 of \d+ tensors are missing\)"),
        (misshape, r"language_model\.norm\.weight has shape \[7\] where config.json asks for \[64\]"),
        (add_layer, r"hold model\.language_model\.layers\.2\.mlp\.up_proj\.weight \(1 such\)"),
        (poison, r"merger\.mlp\.0\.weight holds NaN"),
        (blow_up, r"merger\.mlp\.0\.weight holds NaN or infinite"),
        (empty, "embeddings have no length"),
        (flatten, "gives two inputs one embedding"),
        (quantise, r"merger\.mlp\.0\.weight is stored as torch\.int8"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_name(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(rewrite(folder, tmp_path, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("", "model_type", "qwen3_vl", "'qwen3_vl' is not qwen2_5_vl"),
        ("vision_config", "patch_size", 16, r"patches of \(16, 2, 2, 3\)"),
        ("text_config", "use_sliding_window", True, "sliding window"),
        ("text_config", "hidden_size", "large", "no usable config"),
        ("text_config", "num_hidden_layers", "many", "no usable config"),
        ("", "image_token_id", 151_655, r"512 tokens lacks .*151655"),
        ("text_config", "vocab_size", 20, "20 tokens lacks"),
        ("text_config", "num_attention_heads", 5, "describes no model: 64 numbers in 5 heads"),
        ("text_config", "num_key_value_heads", 3, "4 heads over 3 keys"),
        ("text_config", "rms_norm_eps", -1, "rms_norm_eps is -1"),
        ("vision_config", "hidden_act", "nonsense", "describes no model .* 'nonsense'"),
        ("vision_config", "out_hidden_size", 32, "gives 32 numbers where the text layers read 64"),
        ("vision_config", "window_size", 20, "windows of 20 pixels"),
        ("vision_config", "fullatt_block_indexes", 1, "fullatt_block_indexes is 1"),
        ("", "vision_config", [], "vision_config is"),
        ("text_config", "rope_parameters", {"rope_theta": 1.0, "mrope_section": [1, 1]}, r"positions split \(1, 1\)"),
        ("text_config", "rope_parameters", {"rope_type": "yarn", "mrope_section": [2, 3, 3]}, "type 'yarn'"),
    ],
)
def test_a_config_that_cannot_be_fed_is_refused(tmp_path: Path, part: str, key: str, value: Any, message: str) -> None:
    write_small_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (config[part] if part else config)[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "in_channels": 3, "window_size": 112}
TEXT_3B = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
TEXT_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(("text", "num_parameters"), [(TEXT_3B, 3_754_622_976), (TEXT_7B, 8_292_166_656)])
def test_the_published_sizes_have_the_published_number_of_parameters(text: dict[str, Any], num_parameters: int) -> None:
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    vision = {**VISION, "intermediate_size": 3420, "out_hidden_size": text["hidden_size"]}
    values = {**text, "rope_theta": 1e6, "rope_scaling": rope, "vision_config": vision}
    with torch.device("meta"):
        model = Backbone(read_shape(Path("config.json"), values))
    head = 0 if text["tie_word_embeddings"] else text["hidden_size"] * text["vocab_size"]
    assert sum(parameter.numel() for parameter in model.parameters()) + head == num_parameters
