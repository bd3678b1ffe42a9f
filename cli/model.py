"""The commands `moca model new`, a model out of nothing, and `moca model export`, one as other people's programs read it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from moca_rag.train.settings import ModelPlan, NewModel

from moca_rag.config import load_settings
from moca_rag.trial import DType, Export, Format

from .options import JsonOption
from .terminal import Terminal


def export(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or a hub id such as owner/name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    format: Annotated[
        Format,
        typer.Option("--format", help="Who reads it: sentence-transformers, whoever reads Qwen2.5-VL, or moca alone."),
    ] = "sentence-transformers",
    dtype: Annotated[DType, typer.Option(help="The number type of the weights.")] = "bfloat16",
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Load the folder as its reader does, compare embeddings with the model's."
        ),
    ] = True,
    as_json: JsonOption = False,
) -> Export:
    """Write a model as a folder that other libraries load without our code, and prove that it embeds as before.

    \b
    Examples:
      moca model export ./model ./model-st
      moca model export ./model ./model-qwen --format qwen --dtype float32 --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.export import export_model

    return export_model(model, out, format=format, dtype=dtype, check=check)


def new(
    ctx: typer.Context,
    documents: Annotated[
        Path, typer.Argument(metavar="DOCUMENTS", help="Texts to learn the tokenizer from, of moca data corpus.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="The sizes of the model (those of moca-tiny).")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A sentence encoder (sentence-transformers) that tells what tokens mean."),
    ] = None,
    as_json: JsonOption = False,
) -> NewModel:
    """Make a small model with random layers and a tokenizer of its own, for moca train base to teach.

    \b
    Examples:
      moca model new texts.jsonl.gz ./newborn
      moca model new texts.jsonl.gz ./larger --plan sizes.yaml --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.train.fresh import make_model  # loads torch
    from moca_rag.train.runs import CONFIGS

    return make_model(
        load_settings(ModelPlan(), plan or CONFIGS / "model" / "tiny.yaml", []), documents, out, teacher, ctx.obj
    )


def show_new(terminal: Terminal, report: NewModel) -> int:
    """Its size, and what its tokenizer makes of text."""
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder)})
        return 0
    told = f"{report.num_parameters:,} random weights, {report.num_tokens:,} tokens of {report.letters_per_token:.2f} letters"
    terminal.out.print(f"{report.folder}: {told}", highlight=False, soft_wrap=True)
    return 0
