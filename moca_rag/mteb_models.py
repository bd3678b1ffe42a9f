"""Models as mteb runs them: our encoder, a folder of sentence-transformers, any name of mteb's registry; all checked."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from mteb import get_model
from mteb.models import ModelMeta, SearchEncoderWrapper, SearchProtocol
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType
from torch.utils.data import DataLoader

from .checkpoint import read_json
from .deferred import DeferredEmbedder
from .errors import ModelError, one_line
from .metrics import check_embeddings
from .progress import Reporter
from .records import Encoder, Floats, ModelCard, Pixels, Query
from .render import resize_image
from .task_data import hash_files

# mteb's own wrapper of MoCa asks transformers for a method that it no longer has.
OURS = "moca-embed/"


def open_model(name: str, reporter: Reporter) -> tuple[Any, dict[str, Any]]:
    """A model that mteb can search with, and what decides its embeddings beyond name and revision.

    A folder with sentence-transformers' `modules.json` and a name of mteb's registry are read by those libraries;
    anything else is ours. Raises ModelError where the model cannot be found or loaded.
    """
    folder = Path(name).expanduser()
    if not _is_ours(folder) and ((folder / "modules.json").is_file() or name in MODEL_REGISTRY):
        try:
            model = _open_sentences(folder) if folder.is_dir() else get_model(name)
        except Exception as error:  # a hundred wrappers of other people, each with its own
            raise ModelError(f"mteb cannot load {name} ({one_line(error)}): see what it asks for") from error
        if isinstance(model, SearchProtocol):  # bm25, late interaction: it has no one embedding to look at
            return model, {}
        return SearchEncoderWrapper(CheckedModel(model)), {}
    encoder = DeferredEmbedder(name)
    return SearchEncoderWrapper(CheckedModel(PageModel(encoder, reporter), unit=True)), asdict(encoder.card)


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return str(folder).startswith(OURS)
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") == "qwen2_5_vl"


def _open_sentences(folder: Path) -> Any:
    """A sentence-transformers folder, with a revision that follows its content."""
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mteb's own: methods and options by the names that they had
        model = SentenceTransformerEncoderWrapper(SentenceTransformer(str(folder), local_files_only=True))
    named = {"name": public_name(str(folder)), "revision": f"local-{hash_files(folder)}"}
    model.mteb_model_meta = model.mteb_model_meta.model_copy(update=named)
    return model


def public_name(name: str) -> str:
    """The owner/name that results are filed under: a folder is `local/` and its own name, whatever lies above it.

    >>> public_name("moca-embed/MoCa-Qwen25VL-3B")
    'moca-embed/MoCa-Qwen25VL-3B'
    """
    return f"local/{Path(name).resolve().name}" if Path(name).is_dir() or name.count("/") != 1 else name


def describe(card: ModelCard) -> ModelMeta:
    """What mteb wants to know of a model of ours."""
    values = {
        "name": public_name(card.name),
        "revision": card.revision,
        "embed_dim": card.dimension,
        "modalities": ["text", "image"],
        "similarity_fn_name": ScoringFunction.COSINE,
    }
    return ModelMeta.create_empty(values)


class PageModel(AbsEncoder):  # type: ignore[misc]
    """Our encoder as mteb calls it: queries are read bare and pages by their looks, as `moca search` does."""

    def __init__(self, encoder: Encoder, reporter: Reporter) -> None:
        self._encoder = encoder
        self._reporter = reporter
        self.mteb_model_meta = describe(encoder.card)

    def encode(self, inputs: DataLoader[Any], *, prompt_type: PromptType | None = None, **_: Any) -> Floats:
        """Unit embeddings [N, D] of a loader's texts, or where documents are asked for, of its pictures.

        Those of a model with regions are [N, R, D]; a page that has fewer has them over again.
        """
        if prompt_type is not PromptType.document:
            return self._encoder.encode_queries([Query(text) for batch in inputs for text in batch["text"]])
        self._reporter.start("pages", len(inputs.dataset))  # type: ignore[arg-type]
        card, pages = self._encoder.card, self._encoder.encode_pages(self._pictures(inputs))
        rows = np.stack([np.resize(page, (card.regions, page.shape[-1])) for page in pages])
        return rows if card.regions > 1 else rows[:, 0]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines [N, M] of unit embeddings [N, D] and pages [M, D], or the best of their regions [M, R, D]."""
        queries, pages = torch.as_tensor(embeddings1), torch.as_tensor(embeddings2)
        scores = queries @ pages.flatten(0, -2).T
        return scores.view(len(queries), len(pages), -1).amax(dim=-1)

    def _pictures(self, inputs: DataLoader[Any]) -> Iterator[Pixels]:
        for batch in inputs:
            for image in batch["image"]:
                yield resize_image(image, self._encoder.card.pixels)
                self._reporter.advance("pages")


class CheckedModel:
    """An encoder of mteb's that cannot win by accident: its embeddings are looked at, and order tells it nothing.

    Distinct contents are encoded once, in the order of their hashes. A task's pages are encoded once for all of its
    languages. Scores are taken from 32-bit embeddings.
    """

    def __init__(self, model: Any, *, unit: bool = False) -> None:
        self.mteb_model_meta = model.mteb_model_meta
        self._model = model
        self._unit = unit
        self._task = ""
        self._pages: dict[str, torch.Tensor] = {}

    def encode(
        self, inputs: DataLoader[Any], *, task_metadata: Any, prompt_type: PromptType | None = None, **options: Any
    ) -> torch.Tensor:
        """Embeddings [N, D] of a loader's rows, or [N, T, D] where the model gives several each.

        Raises ModelError where they are not finite, all equal, or not unit where they should be.
        """
        keys = content_keys(inputs.dataset)
        options |= {"task_metadata": task_metadata, "prompt_type": prompt_type}
        if prompt_type is not PromptType.document:
            rows = self._encode(inputs, keys, options)
        else:
            if task_metadata.name != self._task or not self._pages.keys() >= set(keys):
                self._task, self._pages = task_metadata.name, self._encode(inputs, keys, options)
            rows = self._pages
        return torch.stack([rows[key] for key in keys])

    def _encode(self, inputs: DataLoader[Any], keys: list[str], options: dict[str, Any]) -> dict[str, torch.Tensor]:
        places = dict(zip(keys, range(len(keys)), strict=True))
        order = sorted(places)
        chosen = inputs.dataset.select([places[key] for key in order])  # type: ignore[attr-defined]
        reads = self.mteb_model_meta.modalities
        unread = [name for name in ("text", "image") if name in chosen.column_names and reads and name not in reads]
        chosen = chosen.remove_columns(unread)  # not every text model looks away from a picture by itself
        loader = DataLoader(chosen, batch_size=inputs.batch_size, collate_fn=inputs.collate_fn)
        rows = torch.as_tensor(self._model.encode(loader, **options)).float().cpu()
        if len(rows) != len(order):
            raise ModelError(f"{self.mteb_model_meta.name} gave {len(rows)} embeddings for {len(order)} inputs")
        kind = "pages" if options["prompt_type"] is PromptType.document else "queries"
        name = f"{self.mteb_model_meta.name}, {options['task_metadata'].name}, {kind}"
        check_embeddings(rows.numpy(), unit=self._unit, name=name)
        return dict(zip(order, rows, strict=True))

    def similarity(self, queries: Any, pages: Any) -> Any:
        """Scores [N, M], by the model's own measure."""
        return self._model.similarity(queries, pages)

    def similarity_pairwise(self, queries: Any, pages: Any) -> Any:
        """Scores [N] of pairs; mteb asks every encoder for it."""
        return self._model.similarity_pairwise(queries, pages)


def content_keys(rows: Dataset) -> list[str]:
    """A hash of what each row shows: the same page has the same key in the corpus of every language."""
    columns = [name for name in ("image", "title", "text") if name in rows.column_names]
    return [
        hashlib.sha256(b"\0".join(_as_bytes(row[name]) for name in columns)).hexdigest()
        for row in undecoded(rows).select_columns(columns)
    ]


def undecoded(rows: Dataset) -> Dataset:
    """The rows with their pictures as the files that they are: {"bytes", "path"}."""
    return rows.cast_column("image", ImageFeature(decode=False)) if "image" in rows.column_names else rows


def read_picture(picture: dict[str, Any]) -> bytes:
    """The file behind an undecoded picture."""
    return picture["bytes"] or Path(picture["path"]).read_bytes()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return read_picture(value)
    return (value if isinstance(value, str) else json.dumps(value)).encode()
