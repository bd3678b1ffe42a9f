"""Turns a model that we read, of any layout, into a folder for sentence-transformers, for transformers, or for us."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from .checkpoint import (
    SETTINGS_FILE,
    Checkpoint,
    ModelSettings,
    find_checkpoint,
    read_settings,
    read_values,
)
from .errors import ConfigError, ModelError
from .inputs import check_tokenizer, load_tokenizer
from .pixels import MERGE_SIDE, PATCH_SIDE, PIXEL_MEAN, PIXEL_STD, TEMPORAL_COPIES
from .shapes import read_shape
from .trial import PICTURE, DType, Export, Format, Trial, embed_here, has_reader, try_folder
from .weights import HEAD, find_head, read_weights

FILE_BYTES = 5 * 10**9
# What an export may differ by from our own embeddings: rounding in float32, the number type itself below it.
MAX_DIFFERENCE, MIN_COSINE = 1e-3, 0.999
FOR_OTHERS = ("tokenizer_config.json", "preprocessor_config.json")  # what we know without reading it

# A page's prompt goes with a picture and any other with a text; without a partner it is left out.
CHAT_TEMPLATE = """\
{%- set ns = namespace(pictures='', prompt='', text='') -%}
{%- for message in messages -%}
  {%- for part in message.content -%}
    {%- if part.type == 'image' -%}
      {%- set ns.pictures = ns.pictures + PICTURE -%}
    {%- elif message.role == 'system' -%}
      {%- set ns.prompt = ns.prompt + part.text -%}
    {%- else -%}
      {%- set ns.text = ns.text + part.text -%}
    {%- endif -%}
  {%- endfor -%}
{%- endfor -%}
{%- set partner = ns.pictures if ns.prompt == PAGE_PROMPT else ns.text -%}
{%- set words = (ns.prompt if partner else '') + ns.text -%}
{{- ns.pictures + ('\\n' if ns.pictures and words else '') + words -}}
"""
MODULES = (
    ("", "sentence_transformers.base.modules.transformer.Transformer"),
    ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
    ("2_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
)


def export_model(
    model: str | Path,
    out: str | Path,
    *,
    format: Format = "sentence-transformers",
    dtype: DType = "bfloat16",
    check: bool = True,
) -> Export:
    """Write the model, a folder or hub id, as a folder that the format's own library loads without code of ours.

    The format `moca` is for us: config, tokenizer, weights and `moca.json`, nothing else, as moca-tiny comes along.
    The folder is written beside `out`, proven there (see `try_folder`) and then put in place, so that nothing half-made
    stands under its name. Raises ConfigError where `out` is taken or the format cannot say what the model does, and
    ModelError on a model that cannot be read, or whose export gives other embeddings than it.
    """
    out = _check_place(Path(out))
    checkpoint = find_checkpoint(model)
    if format != "moca" and read_settings(checkpoint).drop_blank:
        raise ConfigError(
            f"{checkpoint.name} leaves out the blank cells of a page, as no other library does: write it as --format moca"
        )
    expected = embed_here(model) if check and has_reader(format) else None
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        num_parameters = write_folder(checkpoint, fresh, format, dtype)
        if expected is not None:
            trial = try_folder(fresh, format, expected)
            _refuse_strangers(trial, dtype)
        else:
            trial = Trial("", unchecked=f"{format} is not installed" if check else "not asked for")
        size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Export(out, format, dtype, num_parameters, size, trial)


def _check_place(out: Path) -> Path:
    place = out.expanduser().resolve()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
    return place


def _refuse_strangers(trial: Trial, dtype: DType) -> None:
    if trial.difference is None or trial.cosine is None:
        return
    if not (trial.difference <= MAX_DIFFERENCE if dtype == "float32" else trial.cosine >= MIN_COSINE):
        raise ModelError(
            f"{trial.reader} makes other embeddings of the export than ours (difference {trial.difference:.2g}, cosine "
            f"{trial.cosine:.4f}), so nothing was written: "
            + ("try another release of it" if dtype == "float32" else f"{dtype} may be too coarse, so try float32")
        )


def write_folder(checkpoint: Checkpoint, folder: Path, format: Format, dtype: DType) -> int:
    """Write the whole folder, unproven; the number of its parameters."""
    values = read_values(checkpoint)
    shape = read_shape(checkpoint.file("config.json"), values)
    tokenizer_path = checkpoint.file("tokenizer.json")
    tokenizer = load_tokenizer(tokenizer_path)
    check_tokenizer(tokenizer, shape.tokens, shape.text.vocab_size)
    settings = read_settings(checkpoint)
    if settings.mask_token_id is None:
        settings = replace(settings, mask_token_id=tokenizer.token_to_id("<|mask|>"))
    config = make_config(values, dtype, causal=settings.causal)
    with torch.device("meta"):
        expected: dict[str, Tensor] = Qwen2_5_VLModel(config).state_dict()
    tied = bool(config.tie_word_embeddings)
    if format == "qwen" and not tied and find_head(checkpoint) is not None:
        expected[HEAD] = expected["language_model.embed_tokens.weight"]
    config.architectures = ["Qwen2_5_VLForConditionalGeneration" if tied or HEAD in expected else "Qwen2_5_VLModel"]
    weights = read_weights(checkpoint, expected, torch.device("cpu"), getattr(torch, dtype))
    for name, tensor in weights.items():
        if not all(bool(bound.isfinite()) for bound in tensor.aminmax()):
            raise ModelError(f"{dtype} cannot hold the numbers of {name}: give bfloat16 or float32")
    folder.mkdir(parents=True)
    write_plain(folder, config, weights, tokenizer_path.read_bytes(), settings, FILE_BYTES)
    if format == "sentence-transformers":
        _write_modules(folder, settings, shape.text.hidden_size)
    if format == "moca":
        for name in FOR_OTHERS:
            (folder / name).unlink()
    return sum(tensor.numel() for tensor in weights.values())


def write_plain(
    folder: Path,
    config: Any,
    weights: dict[str, Tensor],
    tokenizer: bytes,
    settings: ModelSettings,
    file_bytes: int,
) -> None:
    """A plain Qwen2.5-VL folder of these weights (by the base model's names), with all that turns inputs into tokens."""
    config.save_pretrained(folder)
    save_torch_state_dict(
        {publish_name(name): tensor for name, tensor in weights.items()},
        folder,
        max_shard_size=file_bytes,
        metadata={"format": "pt"},
    )
    for path in folder.glob("*.safetensors"):  # safetensors hides what it writes from other users
        path.chmod(folder.stat().st_mode & 0o666)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    _write_inputs(folder, settings)


def make_config(values: dict[str, Any], dtype: DType, *, causal: bool) -> Any:
    """Today's config; without the names of code that some folders carry."""
    config = Qwen2_5_VLConfig.from_dict({key: value for key, value in values.items() if key != "auto_map"})
    config.text_config.is_causal = causal
    for part in (config, config.text_config, config.vision_config):
        part.dtype = getattr(torch, dtype)
    return config


def publish_name(name: str) -> str:
    """The name of a tensor in the published Qwen2.5-VL folders, which everything reads.

    Under its own newest names (`model.visual...`) transformers 5 loads the base class with a random vision tower.

    >>> publish_name("language_model.layers.0.mlp.up_proj.weight"), publish_name("visual.merger.ln_q.weight")
    ('model.layers.0.mlp.up_proj.weight', 'visual.merger.ln_q.weight')
    """
    part, _, rest = name.partition(".")
    return f"model.{rest}" if part == "language_model" else name


def _write_inputs(folder: Path, settings: ModelSettings) -> None:
    """Tokenizer, pictures and prompts: what turns inputs into tokens."""
    tokenizer = {
        # Under this name tokenizer.json is taken as it is; Qwen's own class rebuilds it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|endoftext|>",
        "padding_side": "right",
        "model_max_length": settings.max_tokens,
        "extra_special_tokens": {"image_token": "<|image_pad|>"},
    }
    pictures = {
        "processor_class": "Qwen2_5_VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels},
        "image_mean": PIXEL_MEAN,
        "image_std": PIXEL_STD,
        "patch_size": PATCH_SIDE,
        "merge_size": MERGE_SIDE,
        "temporal_patch_size": TEMPORAL_COPIES,
    }
    for name, values in zip(FOR_OTHERS, (tokenizer, pictures), strict=True):
        _write_json(folder / name, values)
    _write_json(folder / SETTINGS_FILE, {name: value for name, value in asdict(settings).items() if value is not None})


def _write_modules(folder: Path, settings: ModelSettings, dimension: int) -> None:
    """What sentence-transformers needs: its modules, its prompts, and a template that writes our raw format."""
    constants = {"PICTURE": PICTURE, "PAGE_PROMPT": settings.page_prompt}
    lines = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n" for name, value in constants.items()]
    (folder / "chat_template.jinja").write_text("".join(lines) + CHAT_TEMPLATE, encoding="utf-8")
    # The one processor for pictures and text that has no part for videos: Qwen2.5-VL's own asks for torchvision, even
    # for a text. It does the same with pictures and text.
    _write_json(folder / "processor_config.json", {"processor_class": "PaddleOCRVLProcessor"})
    states = {"method": "forward", "method_output_name": "last_hidden_state"}
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": states, "image": states, "message": {**states, "format": "structured"}},
        "module_output_name": "token_embeddings",
        # Resized by Pillow, as we do, also where torchvision is installed.
        "processor_kwargs": {"backend": "pil"},
        # A person's text is text: a literal "<|image_pad|>" in it must not become an image slot.
        "processing_kwargs": {"chat_template": {"sanitize_control_tokens": True, "restore_suffix": False}},
    }
    reason = "older releases need torchvision and read special tokens in a text as such"
    whole = {
        "model_type": "SentenceTransformer",
        "requirements": {"transformers": {"specifier": ">=5.23", "reason": reason}},
        "prompts": {"query": settings.query_prompt, "document": settings.page_prompt},
        # So that plain `encode` of a page is right as well; the template keeps it away from texts.
        "default_prompt_name": "document",
        "similarity_fn_name": "cosine",
    }
    modules = [{"idx": idx, "name": str(idx), "path": path, "type": kind} for idx, (path, kind) in enumerate(MODULES)]
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", transformer)
    _write_json(folder / "config_sentence_transformers.json", whole)
    mode = "lasttoken" if settings.causal else "mean"
    _write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": dimension, "pooling_mode": mode})
    _write_json(folder / "2_Normalize" / "config.json", {"module_input_name": "sentence_embedding"})


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
