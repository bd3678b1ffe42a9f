"""Opens a sentence encoder that a small model learns meaning from: a folder of sentence-transformers on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from moca_rag.errors import ModelError, one_line
from moca_rag.records import Floats

BATCH_SIZE = 64


class Teacher:
    """Unit embeddings of sentences by a model that is needed in training only."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def open(cls, folder: Path, *, half: bool = False) -> Self:
        """`half`: in bfloat16, which moves no embedding by more than 0.003 and takes half the time where a CPU has it.

        Raises ModelError where the folder holds no such model, or sentence-transformers is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelError("a teacher needs sentence-transformers: pip install 'moca_rag[export]'") from error
        if not folder.is_dir():
            raise ModelError(f"{folder} is no folder: give one with a model of sentence-transformers")
        try:
            options = {"dtype": torch.bfloat16 if half else torch.float32}
            model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)
            return cls(model)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} is no model of sentence-transformers: {one_line(error)}") from error

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return len(self.encode(["a"])[0])

    def encode(self, texts: Sequence[str]) -> Floats:
        """Unit embeddings [N, D], in order."""
        rows: Floats = self._model.encode(
            list(texts), batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        rows = np.asarray(rows, np.float32)
        unit: Floats = rows / np.linalg.norm(
            rows, axis=1, keepdims=True
        )  # bfloat16 leaves them a little longer or shorter
        return unit
