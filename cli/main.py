"""The `moca` command: a table of names; what a name stands for is imported when it is called.

moca COMMAND [ARGS]...
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True, slots=True)
class Command:
    """One name of the command line: the function behind it, what shows its report, and a line for `moca --help`."""

    function: str
    view: str
    summary: str


COMMANDS = {
    "index": Command(
        "moca_rag.indexer.command:index",
        "moca_rag.cli.views:show_index",
        "Add PDFs and images to a collection, or bring it up to date.",
    ),
    "search": Command(
        "moca_rag.cli.search:search", "moca_rag.cli.views:show_hits", "Ask a question, get the pages that answer it."
    ),
    "show": Command("moca_rag.cli.pages:show", "moca_rag.cli.views:show_page", "Draw one page as a PNG."),
    "ls": Command("moca_rag.cli.pages:ls", "moca_rag.cli.views:show_documents", "List the documents of a collection."),
    "rm": Command("moca_rag.cli.pages:rm", "moca_rag.cli.views:show_removed", "Take documents out of a collection."),
    "status": Command(
        "moca_rag.cli.health:status",
        "moca_rag.cli.views:show_status",
        "What is indexed, what is stale, what failed and why.",
    ),
    "verify": Command(
        "moca_rag.cli.health:verify",
        "moca_rag.cli.views:show_verified",
        "Check that catalog, vectors and index agree; repair.",
    ),
    "compact": Command(
        "moca_rag.cli.health:compact", "moca_rag.cli.views:show_compacted", "Give back the room of what was deleted."
    ),
    "model new": Command(
        "moca_rag.cli.model:new",
        "moca_rag.cli.model:show_new",
        "Make a small model out of nothing, to be taught.",
    ),
    "model export": Command(
        "moca_rag.cli.model:export",
        "moca_rag.cli.views:show_export",
        "Write a model for transformers or sentence-transformers.",
    ),
    "doctor": Command(
        "moca_rag.cli.doctor:doctor",
        "moca_rag.cli.views:show_findings",
        "Look at this installation and say what to mend.",
    ),
    "train base": Command(
        "moca_rag.train.command:base",
        "moca_rag.cli.training:show_run",
        "Stage zero: teach a new model to read.",
    ),
    "train cpt": Command(
        "moca_rag.train.command:cpt",
        "moca_rag.cli.training:show_run",
        "Stage one: make a vision-language model bidirectional.",
    ),
    "train cl": Command(
        "moca_rag.train.command:cl", "moca_rag.cli.training:show_run", "Stage two: teach it which page answers."
    ),
    "train plot": Command(
        "moca_rag.train.command:plot", "moca_rag.cli.training:show_plot", "Draw the loss curves of several runs."
    ),
    "eval weights": Command(
        "moca_rag.cli.evaluate_weights:weights",
        "moca_rag.cli.evaluate_weights:show_weights",
        "Find how far each ranking should be believed.",
    ),
    "eval mmeb": Command(
        "moca_rag.cli.evaluate_mmeb:evaluate",
        "moca_rag.cli.evaluate_mmeb:show_mmeb",
        "Judge a model on MMEB's 36 tasks.",
    ),
    "eval compare": Command(
        "moca_rag.cli.evaluate_mmeb:compare",
        "moca_rag.cli.evaluate_mmeb:show_comparison",
        "Show our figures beside the MoCa paper's.",
    ),
    "eval vidore": Command(
        "moca_rag.cli.evaluate_vidore:vidore",
        "moca_rag.cli.evaluate_vidore:show_vidore",
        "Score a model or the engine on ViDoRe, through mteb.",
    ),
    "eval folder": Command(
        "moca_rag.cli.evaluate:folder",
        "moca_rag.cli.evaluate:show_folder",
        "Judge each mode of search on your own questions.",
    ),
    "data from-pdfs": Command(
        "moca_rag.cli.data:from_pdfs",
        "moca_rag.cli.data:show_pdf_rows",
        "Make training rows of your own PDFs.",
    ),
    "data prepare": Command(
        "moca_rag.cli.data:prepare",
        "moca_rag.cli.data:show_prepared",
        "Build the paper's mix of published data sets as local rows.",
    ),
    "data exam": Command(
        "moca_rag.cli.exam:exam",
        "moca_rag.cli.exam:show_exam",
        "Compose pages with questions, to judge a model by.",
    ),
    "data exam-pdfs": Command(
        "moca_rag.cli.exam:exam_pdfs",
        "moca_rag.cli.exam:show_exam",
        "Ask for pages of your own PDFs by what they say.",
    ),
    "data mine": Command(
        "moca_rag.cli.data:mine",
        "moca_rag.cli.data:show_mined",
        "Find hard negatives for pairs of query and page.",
    ),
    "data corpus": Command(
        "moca_rag.cli.corpus:corpus",
        "moca_rag.cli.corpus:show_corpus",
        "Gather text and fonts from Debian packages.",
    ),
}
HELP = """\
Usage: moca COMMAND [ARGS]...

Search folders of PDFs by meaning and by look.

Commands:
{commands}

Examples:
  moca index ./pdfs
  moca search "How much did energy cost in 2023?"

`moca COMMAND --help` tells more. Exit codes: 0 fine, 1 error, 2 usage, 3 finished but some files failed, 130 interrupted.
"""


def main() -> None:
    """Run the command line and exit with its code."""
    # Read when torch is loaded: threads that wait for each other give their core away instead of spinning on it, which
    # beside other work made pages five times as slow (docs/decisions.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command. The exit code."""
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(HELP.format(commands=_list_commands(COMMANDS)))
        return EXIT_OK if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"moca_rag {version('moca_rag')}\n")
        return EXIT_OK
    num_words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name = " ".join(arguments[:num_words])
    if name not in COMMANDS:
        return _guide(arguments)
    return _run_command(f"moca {name}", COMMANDS[name], arguments[num_words:])


def _guide(arguments: list[str]) -> int:
    """What can be meant by words that name no command: the commands of a group, or the nearest name."""
    group = {name: command for name, command in COMMANDS.items() if name.startswith(f"{arguments[0]} ")}
    if group and arguments[1:] in ([], ["--help"], ["-h"]):
        sys.stdout.write(f"Usage: moca {arguments[0]} COMMAND [ARGS]...\n\nCommands:\n{_list_commands(group)}\n")
        return EXIT_OK if arguments[1:] else EXIT_USAGE
    asked = " ".join(arguments[: 2 if group else 1])
    near = get_close_matches(asked, group or COMMANDS, 1)
    hint = f"did you mean `moca {near[0]}`?" if near else "`moca --help` lists the commands"
    sys.stderr.write(f"moca: there is no command {asked!r}: {hint}\n")
    return EXIT_USAGE


def _list_commands(commands: dict[str, Command]) -> str:
    width = max(map(len, commands)) + 2
    return "\n".join(f"  {name:<{width}}{command.summary}" for name, command in commands.items())


def _run_command(name: str, command: Command, arguments: list[str]) -> int:
    """Parse, run, show. Every error that is ours, or the user's, becomes one line and a code."""
    from moca_rag.errors import ConfigError, MocaError

    from .terminal import Terminal

    terminal = Terminal()
    try:
        with terminal:
            report = _call(name, command, arguments, terminal)
        if isinstance(report, int) or report is None:  # --help has printed all there is to say
            return int(report or 0)
        return int(_load(command.view)(terminal, report) or EXIT_OK)
    except MocaError as error:
        terminal.err.print(f"moca: {error}", markup=False, soft_wrap=True)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_ERROR
    except KeyboardInterrupt:
        terminal.err.print("moca: stopped. What was committed is kept; the same command goes on from there.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `moca ls | head` is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        terminal.err.print(f"moca: {place}{error.strerror or error}", markup=False, soft_wrap=True)
        return EXIT_ERROR


def _call(name: str, command: Command, arguments: list[str], terminal: Any) -> Any:
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["--help", "-h"]})(_load(command.function))
    try:
        report = app(arguments, prog_name=name, standalone_mode=False, obj=terminal)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()  # what typer says of wrong arguments
        return EXIT_USAGE
    if isinstance(report, int) and report == EXIT_INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return report


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded
