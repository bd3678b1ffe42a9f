"""What `moca train` shows: the end of a run, curves of several."""

from dataclasses import asdict

from moca_rag.train.plot import PlotReport
from moca_rag.train.settings import RunReport
from rich.text import Text

from .terminal import Terminal

HIDDEN = ("step", "epoch", "seconds", "flops", "tokens", "learning_rate")


def show_run(terminal: Terminal, report: RunReport) -> int:
    """Where the model lies, how far the run came, and its last figures."""
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"out": str(report.out), "checkpoint": str(report.checkpoint)})
        return 0
    terminal.out.print(
        f"step {report.steps} of {report.num_steps}: {report.checkpoint}", highlight=False, soft_wrap=True
    )
    figures = [f"{name} {value:.4g}" for name, value in report.figures.items() if name not in HIDDEN]
    terminal.out.print(", ".join(figures), highlight=False)
    if report.steps < report.num_steps:
        terminal.out.print("stopped before its end; the same command goes on from there", highlight=False)
    return 0


def show_plot(terminal: Terminal, report: PlotReport) -> int:
    """The picture's place, and how far each run is."""
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"out": str(report.out)})
        return 0
    for line in report.runs:
        held_out = "" if line.held_out_loss is None else f", held out {line.held_out_loss:.4g}"
        told = f"{line.run}: step {line.step:,}, loss {line.loss:.4g}{held_out}"
        terminal.out.print(Text(told), soft_wrap=True)
    terminal.out.print(Text(str(report.out), style="bold"), soft_wrap=True)
    return 0
