"""Finds the data set of an mteb task: a local copy, the hub's cache, or the hub; and says which content it is."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from .deadline import ask_in_time
from .errors import ConfigError, DocumentError, one_line

HUB_SECONDS = 1.5


class TaskData:
    """Where the data sets of tasks come from; whether the hub answers is asked once."""

    def __init__(self, folder: Path | None, cache: Path) -> None:
        """`folder` holds local copies of data sets, each in a folder named like its task or like the data set.

        What datasets makes of a copy goes to `cache`: its own cache knows a copy by path, whatever it holds by now.
        """
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--data {folder} is no folder: give the one that holds the copies of data sets")
        self._folder = folder
        self._cache = cache
        self._hub_answers: bool | None = None

    def point(self, task: Any) -> str:
        """Let a task read its local copy, where there is one. The data's revision: a commit, or a hash of the copy."""
        copy = self._find_copy(task)
        if copy is not None:
            revision = f"local-{hash_files(copy)}"
            dataset = {**task.metadata.dataset, "path": str(copy), "revision": revision}
            task.metadata = task.metadata.model_copy(update={"dataset": dataset})
        return str(task.metadata.dataset["revision"])

    def load(self, task: Any) -> None:
        """Read the data of a task that `point` has seen. Raises DocumentError where it is not to be had."""
        published = type(task).metadata.dataset
        fetch = f"hf download {published['path']} --repo-type dataset --revision {published['revision']} --local-dir"
        copy = self._find_copy(task)
        try:
            with self._source(task, local=copy is not None):
                task.load_data()
                task.convert_v1_dataset_format_to_v2(num_proc=None)
        except Exception as error:  # each layout and each version of the hub's client raises errors of its own
            if copy is not None:
                raise DocumentError(
                    f"{copy} is no copy of {published['path']} ({one_line(error)}): fetch it again: {fetch} {copy}",
                    "data_broken",
                ) from error
            folder = (self._folder or Path("DIR")) / Path(published["path"]).name
            raise DocumentError(
                f"the data set {published['path']} is neither local nor cached, and the hub does not give it: fetch it "
                f"where there is a network: {fetch} {folder}, then --data {folder.parent}",
                "data_missing",
            ) from error

    def _find_copy(self, task: Any) -> Path | None:
        path = type(task).metadata.dataset["path"]
        names = (task.metadata.name, path, Path(path).name)
        folders = [] if self._folder is None else [self._folder / name for name in names]
        return next((folder for folder in folders if folder.is_dir()), None)

    def _source(self, task: Any, *, local: bool) -> AbstractContextManager[None]:
        import datasets
        from huggingface_hub import constants

        if local:
            return _set("HF_DATASETS_CACHE", self._cache / task.metadata.dataset["revision"], datasets.config)
        if self._hub_answers is None:
            self._hub_answers = _ask_hub()
        return nullcontext() if self._hub_answers else _set("HF_HUB_OFFLINE", True, constants, datasets.config)


def hash_files(folder: Path) -> str:
    """A hash of the names and the content of all files in a folder, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as file:
                digest.update(f"{name.as_posix()}\n".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:40]


def _ask_hub() -> bool:
    """Whether the hub answers at all: its client would try again for minutes, once for each table of a data set."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    with suppress(Exception):
        ask_in_time(lambda: get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS), HUB_SECONDS)
        return True
    return False


@contextmanager
def _set(name: str, value: object, *places: object) -> Iterator[None]:
    """Change a setting of other libraries for as long as this lasts."""
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, value)
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            setattr(place, name, old)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep mteb and datasets from drawing bars, and from recommending another version than the one asked for."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("mteb", "datasets")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The task .* is superseded")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
