"""Shapes against transformers' own reading of the same config."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2_5_VLConfig

from moca_rag.shapes import ModelShape, read_shape
from tests.small_model import _flat_config, small_config, train_tokenizer

NEW = small_config(train_tokenizer())
OLD = {**_flat_config(NEW), "vision_config": {**_flat_config(NEW)["vision_config"], "in_chans": 3}}


def shape_of(values: dict[str, Any]) -> ModelShape:
    return read_shape(Path("config.json"), values)


def assert_same(shape: ModelShape, config: Any) -> None:
    rope = config.text_config.rope_parameters
    for name in shape.text.__slots__:
        found = rope[name] if name in ("rope_theta", "mrope_section") else getattr(config.text_config, name)
        assert getattr(shape.text, name) == (tuple(found) if isinstance(found, list) else found), name
    for name in shape.vision.__slots__:
        if name != "rope_theta":
            found = getattr(config.vision_config, name)
            assert getattr(shape.vision, name) == (tuple(found) if isinstance(found, list) else found), name
    tokens = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id)
    assert (shape.tokens.start, shape.tokens.pad, shape.tokens.end) == tokens


@pytest.mark.parametrize("values", [NEW, OLD])
def test_every_layout_is_read_as_transformers_reads_it(values: dict[str, Any]) -> None:
    assert_same(shape_of(values), Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(values))))


def test_what_transformers_leaves_out_when_it_saves_has_the_same_defaults(tmp_path: Path) -> None:
    """It writes only what differs from its own defaults."""
    config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(NEW)))
    config.save_pretrained(tmp_path)
    assert_same(shape_of(json.loads((tmp_path / "config.json").read_text())), config)
    sizes = {"hidden_size": 3584, "out_hidden_size": 3584}
    sparse: dict[str, Any] = {
        "model_type": "qwen2_5_vl",
        "text_config": {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": None},
        "vision_config": sizes,
    }
    expected = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(sparse)))
    expected.text_config.rope_parameters.setdefault("mrope_section", [16, 24, 24])
    assert_same(shape_of(sparse), expected)


def test_the_published_3b_config_is_read(tmp_path: Path) -> None:
    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "vocab_size": 151936,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "use_sliding_window": False,
    }
    vision = {"depth": 32, "hidden_act": "silu", "hidden_size": 1280, "out_hidden_size": 2048, "in_chans": 3}
    shape = shape_of({**text, "vision_config": vision, "image_token_id": 151655})
    assert (shape.text.head_size, shape.vision.head_size, shape.vision.window_side) == (128, 80, 4)
    assert shape.num_layers == 68
