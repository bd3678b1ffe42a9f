"""Writes a small random Qwen2.5-VL model folder: `python tests/small_model.py FOLDER`.

About 0.2 million parameters with a byte-level tokenizer of its own: real code paths at the speed of a unit test.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

Layout = Literal["new", "old"]

NUM_TOKENS = 512
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|mask|>",
)
SENTENCES = (
    "Represent the given document image.",
    "What was the revenue of the energy division in the third quarter?",
    "The table on page four lists emissions by region and by year.",
    "A line chart shows how the price of copper fell after the harvest.",
    "Which bridge was closed for repairs, and when will it open again?",
)


def write_small_model(
    folder: Path, *, seed: int = 0, layout: Layout = "new", shards: int = 1, dtype: torch.dtype = torch.float32
) -> Path:
    """Write config.json, tokenizer.json and safetensors into the folder, and return it.

    `layout="old"` writes what the published 3B folder holds: names from before transformers 4.52, a flat config,
    a language head and one leftover projection. The same seed gives the same weights in either layout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    values = small_config(tokenizer)
    weights = random_weights(values, seed, dtype)
    if layout == "old":
        weights = {_old_name(name): tensor for name, tensor in weights.items()}
        weights["mae_proj.weight"] = torch.zeros(8, 64, dtype=dtype)
        values = _flat_config(values)
    (folder / "config.json").write_text(json.dumps(values, indent=2), encoding="utf-8")
    save_weights(folder, weights, shards)
    return folder


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer trained on the sentences above, with Qwen2.5-VL's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS - 16, min_frequency=1, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def small_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The values of config.json: two text layers, three vision layers of which one sees the whole image."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "vocab_size": NUM_TOKENS,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "eos_token_id": tokenizer.token_to_id("<|endoftext|>"),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
    }


def random_weights(values: dict[str, Any], seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights with today's names, large enough that every token, position and layer moves the embedding."""
    with torch.device("meta"):
        shapes = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(values)).state_dict()
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape.shape, generator=generator)
        is_norm = "norm" in name or "ln_q" in name
        scale = 1 / math.sqrt(shape[0].numel()) if shape.ndim > 1 else 0.1
        weights[name] = (noise * scale + float(is_norm)).to(dtype)
    return weights


def save_weights(folder: Path, weights: dict[str, Tensor], shards: int = 1) -> None:
    """One model.safetensors, or several files and their index."""
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    names = sorted(weights)
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _old_name(name: str) -> str:
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def _flat_config(values: dict[str, Any]) -> dict[str, Any]:
    """The published form: text values at the top, `rope_scaling` of the type mrope."""
    text = {name: value for name, value in values["text_config"].items() if name != "model_type"}
    rope = text.pop("rope_parameters")
    flat = {name: value for name, value in values.items() if name != "text_config"}
    flat["vision_config"] = dict(values["vision_config"], model_type="qwen2_5_vl")
    scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    return {**flat, **text, "rope_theta": rope["rope_theta"], "rope_scaling": scaling}


if __name__ == "__main__":
    print(write_small_model(Path(sys.argv[1])))
