"""The command `moca doctor`: looks at this installation and says what to type where something is missing or wrong."""

import platform
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import typer

from .options import JsonOption

CPU_EXTRA, GPU_EXTRA = "pip install 'moca_rag[cpu]'", "pip install 'moca_rag[gpu]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is what to do where its state is not `fine`."""

    name: str
    state: Literal["fine", "note", "wrong"]
    what: str
    advice: str = ""


def doctor(ctx: typer.Context, as_json: JsonOption = False) -> list[Finding]:
    """Look at this installation and say what to mend.

    \b
    Examples:
      moca doctor
      moca doctor --json
    """
    ctx.obj.as_json = as_json
    return list(examine())


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they matter."""
    yield Finding("python", "fine", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _examine_sqlite()
    yield _examine_renderer()
    devices = _examine_torch()
    yield devices
    yield examine_faiss(_installed("faiss-cpu"), _installed("faiss-gpu"), has_gpu="CUDA" in devices.what)
    yield _examine_attention()
    yield _examine_tiny()
    yield _examine_collection()


def examine_faiss(cpu: str | None, gpu: str | None, *, has_gpu: bool) -> Finding:
    """None, both, or the wrong one of the two FAISS packages, which must never share an environment."""
    if cpu and gpu:
        advice = f"pip uninstall -y faiss-cpu faiss-gpu && {GPU_EXTRA if has_gpu else CPU_EXTRA}"
        return Finding("faiss", "wrong", f"faiss-cpu {cpu} and faiss-gpu {gpu} overwrite each other", advice)
    if not cpu and not gpu:
        advice = GPU_EXTRA if has_gpu else CPU_EXTRA
        return Finding("faiss", "note", "not installed: collections over 50,000 vectors are searched slowly", advice)
    if gpu and not has_gpu:
        advice = f"pip uninstall -y faiss-gpu && {CPU_EXTRA}"
        return Finding("faiss", "wrong", f"faiss-gpu {gpu}, but torch sees no GPU", advice)
    if cpu and has_gpu:
        advice = f"pip uninstall -y faiss-cpu && {GPU_EXTRA}"
        return Finding("faiss", "note", f"faiss-cpu {cpu} beside a GPU: it works, on the CPU", advice)
    return Finding("faiss", "fine", f"faiss-cpu {cpu}" if cpu else f"faiss-gpu {gpu}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _examine_sqlite() -> Finding:
    options = {row[0] for row in sqlite3.connect(":memory:").execute("PRAGMA compile_options")}
    if "ENABLE_FTS5" not in options:
        return Finding(
            "sqlite", "wrong", f"{sqlite3.sqlite_version} without FTS5", "use a Python whose sqlite3 has FTS5"
        )
    return Finding("sqlite", "fine", f"{sqlite3.sqlite_version} with FTS5")


def _examine_renderer() -> Finding:
    found = _installed("pymupdf")
    if found is None:
        return Finding("pymupdf", "wrong", "not installed: no PDF can be read", "pip install 'pymupdf>=1.26,<2'")
    return Finding("pymupdf", "fine", f"{found} (AGPL: see the README on what that asks of you)")


def _examine_torch() -> Finding:
    found = _installed("torch")
    if found is None:
        return Finding("torch", "note", "not installed: text search only", "pip install torch")
    import torch

    if torch.cuda.is_available():
        return Finding("torch", "fine", f"{found}, CUDA on {torch.cuda.get_device_name(0)}")
    return Finding("torch", "fine", f"{found}, on {torch.get_num_threads()} CPU threads")


def _examine_attention() -> Finding:
    from moca_rag.attention import describe_kernel

    return Finding("attention", "fine", describe_kernel())


def _examine_tiny() -> Finding:
    from moca_rag.bundled import IS_DEFAULT, TINY, TINY_FILES, TINY_FOLDER, has_tiny

    if not has_tiny():
        what = f"{TINY} is not in this copy: a new collection is by words alone unless --model names a model"
        return Finding("model", "note", what, "install a wheel of moca_rag, or name a model with --model")
    used = "new collections are made with it" if IS_DEFAULT else "name it with --model to search by look"
    size = sum((TINY_FOLDER / name).stat().st_size for name in TINY_FILES)
    return Finding("model", "fine", f"{TINY} comes along ({size / 1e6:,.0f} MB); {used}")


def _examine_collection() -> Finding:
    from moca_rag.collection import Collection, default_path, is_collection
    from moca_rag.errors import MocaError

    path = default_path()
    if not is_collection(path):
        return Finding("collection", "note", f"none yet at {path}", "moca index FOLDER_OF_PDFS")
    try:
        with Collection.open(path) as opened:
            return Finding("collection", "fine", f"{opened.catalog.count()['pages']:,} pages at {path}")
    except MocaError as error:
        return Finding("collection", "wrong", str(error))
