"""The command `moca model export`: a model as other people's programs read it."""

from pathlib import Path
from typing import Annotated

import typer

from moca_rag.trial import DType, Export, Format

from .options import JsonOption


def export(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or a hub id such as owner/name.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    format: Annotated[
        Format,
        typer.Option("--format", help="Who reads it: sentence-transformers, or whoever reads Qwen2.5-VL."),
    ] = "sentence-transformers",
    dtype: Annotated[DType, typer.Option(help="The number type of the weights.")] = "bfloat16",
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Load the folder in that library, compare its embeddings to ours."),
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
