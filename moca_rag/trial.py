"""Loads an exported folder as whoever reads it would, in a process of its own, and compares its embeddings with ours.

python -m moca_rag.trial FOLDER FORMAT ANSWER.json
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .checkpoint import SETTINGS_FILE, read_json
from .errors import ModelError, one_line
from .pixels import MERGE_SIDE
from .records import Floats, Pixels, Query
from .regions import make_grid

Format: TypeAlias = Literal["sentence-transformers", "qwen", "moca"]
DType: TypeAlias = Literal["bfloat16", "float16", "float32"]

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
READERS = {"sentence-transformers": "sentence-transformers", "qwen": "transformers", "moca": "moca_rag"}
# Different lengths in one batch: it is a padded row that turns a model causal where a reader's mask is wrong.
TEXTS = ("Why?", "How much did energy cost in 2023, and who paid for it?", "A table of emissions " * 12)


@dataclass(frozen=True, slots=True)
class Trial:
    """How close a reader's embeddings of an exported folder come to those of the model; `unchecked` says why there are none.

    `difference` is the largest between two numbers, `cosine` the lowest between two embeddings.
    """

    reader: str
    difference: float | None = None
    cosine: float | None = None
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written where, in bytes, and how it was proven."""

    folder: Path
    format: Format
    dtype: DType
    num_parameters: int
    size: int
    trial: Trial


def embed_here(model: str | Path) -> Floats:
    """Our own unit embeddings [4, D] of what is tried: three texts in one batch, then one page as a whole."""
    from .embedder import Embedder

    embedder = Embedder.open(model, device="cpu")
    queries = embedder.encode_queries([Query(text) for text in TEXTS])
    if embedder.card.regions == 1:
        return np.stack([*queries, *embedder.encode_pages([draw_page()])])
    return np.concatenate([queries, *embedder.encode_regions([(draw_page(), make_grid(1, 1))])])


def has_reader(format: Format) -> bool:
    """Whether the library that reads this format is installed."""
    return importlib.util.find_spec(READERS[format].replace("-", "_")) is not None


def try_folder(folder: Path, format: Format, expected: Floats) -> Trial:
    """Compare what the format's reader makes of the folder with what is expected; raises ModelError where it cannot."""
    reader = f"{READERS[format]} {version(READERS[format])}"
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", "moca_rag.trial", str(folder), format, str(answer)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            check=False,
        )
        if done.returncode < 0:
            return Trial(reader, unchecked=f"{reader} was killed by signal {-done.returncode}: too little memory?")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ModelError(f"{reader} cannot load what was exported ({reason[:300]}): try another release of it")
        said = read_json(answer)
    if "missing" in said:
        return Trial(reader, unchecked=f"{reader} cannot run here: {said['missing']}")
    theirs = np.asarray(said["embeddings"], np.float32)
    # The lengths by name: half precision rounds a unit vector to one of 0.997.
    cosines = (theirs * expected).sum(axis=1) / np.linalg.norm(theirs, axis=1) / np.linalg.norm(expected, axis=1)
    return Trial(reader, float(np.abs(theirs - expected).max()), float(cosines.min()))


def draw_page() -> Pixels:
    """The page that is tried: noise [420, 504, 3], where each pixel counts; wider than high, so that no axis swaps."""
    return np.random.default_rng(0).integers(0, 256, (420, 504, 3), dtype=np.uint8)


def encode_with_sentence_transformers(folder: Path) -> Floats:
    """What a user of sentence-transformers gets, from two calls."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    queries = model.encode_query(list(TEXTS))
    return np.concatenate([queries, model.encode_document([Image.fromarray(draw_page())])])


def encode_with_transformers(folder: Path) -> Floats:
    """What transformers alone makes of the folder: hidden states, their mean over each text, unit length."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    settings = read_json(folder / SETTINGS_FILE)

    def encode(texts: list[str], **inputs: Any) -> NDArray[Any]:
        tokens = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
        types = (tokens.input_ids == model.config.image_token_id).int()
        with torch.inference_mode():
            states = model(**tokens, mm_token_type_ids=types, **inputs).last_hidden_state.float()
        mean = (states * tokens.attention_mask[..., None]).sum(dim=1) / tokens.attention_mask.sum(dim=1, keepdim=True)
        return np.asarray(torch.nn.functional.normalize(mean, dim=-1))

    queries = encode([settings["query_prompt"] + text for text in TEXTS])
    # The backend by name: the other one needs torchvision.
    page = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=[draw_page()], return_tensors="pt")
    slots = "<|image_pad|>" * (int(page["image_grid_thw"].prod()) // MERGE_SIDE**2)
    text = PICTURE.replace("<|image_pad|>", slots) + (settings["page_prompt"] and "\n" + settings["page_prompt"])
    return np.concatenate([queries, encode([text], **page)])


def main() -> None:
    """Embed with the format's reader and write the embeddings as JSON, or which package it lacks."""
    folder, format, answer = sys.argv[1:]
    encode = {
        "sentence-transformers": encode_with_sentence_transformers,
        "qwen": encode_with_transformers,
        "moca": embed_here,
    }[format]
    said: dict[str, Any]
    try:
        said = {"embeddings": encode(Path(folder)).tolist()}
    except ImportError as error:
        said = {"missing": one_line(error)}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()
