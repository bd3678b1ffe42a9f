"""Makes a model out of nothing: a tokenizer learnt from documents, a shape, random weights."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from moca_rag.backbone import Backbone
from moca_rag.checkpoint import SETTINGS_FILE, ModelSettings
from moca_rag.errors import ConfigError
from moca_rag.export import publish_name
from moca_rag.progress import Reporter, SilentReporter
from moca_rag.records import Floats
from moca_rag.shapes import read_shape

from .documents import Document, read_documents
from .sentences import draw_sentences
from .settings import ModelPlan, NewModel
from .teacher import Teacher
from .vocabulary import SIZE, embed_vocabulary, teach_vocabulary

SPECIAL_TOKENS = ("<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|mask|>")
# As Qwen2's own: contractions, words with the sign before them, single digits, signs, blanks.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QUIET = 0.01  # what a text layer adds at first, of what it would add
HEAD_AXES = 3  # of positions: time, height, width


def make_model(
    plan: ModelPlan, documents: Path, out: Path, teacher: Path | None = None, reporter: Reporter | None = None
) -> NewModel:
    """Write a model folder with random layers, and a tokenizer and first embeddings of its tokens of the documents' own.

    Tokens learn their meanings from `teacher`, a folder of sentence-transformers; without one they have codes of their
    letters only.
    Raises ConfigError where `out` is taken or the sizes do not fit together, ModelError where the teacher is none.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
    read = list(read_documents(documents))
    texts = list(list_texts(read))
    if not texts:
        raise ConfigError(f"{documents} holds no text: make another with moca data corpus")
    tokenizer = train_tokenizer(texts, plan.vocab_size)
    values = make_values(plan, tokenizer)
    shape = read_shape(out / "config.json", values)
    backbone = Backbone(shape)
    draw_weights(backbone, plan.seed)
    if teacher is None:
        embeddings = embed_vocabulary(tokenizer, texts, plan.hidden_size)
    else:
        sentences = draw_sentences(read, plan.sentences, plan.seed)
        told = Teacher.open(teacher, half=plan.half)
        embeddings = teach_vocabulary(tokenizer, texts, plan.hidden_size, told, sentences, reporter or SilentReporter())
    place_embeddings(backbone, embeddings)
    out.mkdir(parents=True, exist_ok=True)
    weights = {publish_name(name): weight.contiguous() for name, weight in backbone.state_dict().items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(out.stat().st_mode & 0o666)  # safetensors hides what it writes from other users
    tokenizer.save(str(out / "tokenizer.json"))
    settings = ModelSettings(
        min_pixels=plan.min_pixels,
        max_pixels=plan.max_pixels,
        max_tokens=plan.max_tokens,
        mask_token_id=tokenizer.token_to_id("<|mask|>"),
        causal=True,
        drop_blank=plan.drop_blank,
        regions=plan.regions,
    )
    for name, content in (("config.json", values), (SETTINGS_FILE, asdict(settings))):
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sample = "\n".join(texts[:: max(1, len(texts) // 200)])
    return NewModel(
        folder=out,
        num_parameters=sum(weight.numel() for weight in weights.values()),
        num_tokens=tokenizer.get_vocab_size(),
        letters_per_token=len(sample) / max(1, len(tokenizer.encode(sample).ids)),
    )


def list_texts(documents: Iterable[Document]) -> Iterator[str]:
    """The text of every page."""
    return ("\n".join(block.text for block in page.blocks) for document in documents for page in document.pages)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of exactly so many tokens, Qwen2.5-VL's special ones last."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(_pattern(), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def _pattern() -> Any:
    from tokenizers import Regex

    return Regex(WORDS)


def make_values(plan: ModelPlan, tokenizer: Tokenizer) -> dict[str, Any]:
    """The values of config.json, causal and with the head tied to the embeddings."""
    head = plan.hidden_size // plan.num_attention_heads
    sections = [head // 2 // 4, *[(head // 2 - head // 2 // 4) // 2] * (HEAD_AXES - 1)]
    end = tokenizer.token_to_id("<|endoftext|>")
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "vocab_size": plan.vocab_size,
            "hidden_size": plan.hidden_size,
            "intermediate_size": plan.intermediate_size,
            "num_hidden_layers": plan.num_hidden_layers,
            "num_attention_heads": plan.num_attention_heads,
            "num_key_value_heads": plan.num_key_value_heads,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "bos_token_id": end,
            "eos_token_id": end,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections},
        },
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": plan.vision_depth,
            "hidden_size": plan.vision_hidden_size,
            "intermediate_size": plan.vision_intermediate_size,
            "num_heads": plan.vision_num_heads,
            "out_hidden_size": plan.hidden_size,
            "window_size": plan.window_size,
            "fullatt_block_indexes": list(plan.fullatt_block_indexes),
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
            "tokens_per_second": 2,
        },
    }


def draw_weights(backbone: Backbone, seed: int) -> None:
    """Normal numbers of a spread that keeps states at the same size from layer to layer; what adds to them begins small."""
    generator = torch.Generator().manual_seed(seed)
    depth = len(backbone.language_model.layers) + len(backbone.visual.blocks)
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if weight.ndim < 2:
                nn.init.zeros_(weight) if name.endswith("bias") else nn.init.ones_(weight)
                continue
            spread = weight[0].numel() ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                spread /= depth**0.5
            nn.init.normal_(weight, std=0.02 if "embed_tokens" in name else spread, generator=generator)


def place_embeddings(backbone: Backbone, embeddings: Floats) -> None:
    """Fill the token table [V, D]; the text layers add next to nothing at first, so that a text is the mean of its tokens.

    The last number only keeps tokens from growing long in a norm, and every norm drops it: an empty cell of a page, which is
    nothing but this number, is nothing to the layers. They else add one vector to all cells, mostly empty ones, with their
    first step, and every page is the same (docs/decisions.md).
    """
    model = backbone.language_model
    with torch.no_grad():
        model.embed_tokens.weight[: len(embeddings)] = torch.from_numpy(embeddings)
        model.norm.weight.fill_(1 / SIZE)  # so that states and tokens together give logits of a common size
        model.norm.weight[-1] = 0.0
        for name, weight in model.layers.named_parameters():
            if name.endswith("layernorm.weight"):
                weight[-1] = 0.0
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(QUIET)  # not 0: a model whose tokens tell each other nothing is refused when it is opened
