"""Models judged on the same questions beside each other: nDCG@5 of each, and its difference to the first, question by question.

python benchmarks/ablations.py DIR NAME...

DIR/NAME/judged holds what `moca eval folder --cache` kept of each model: one folder for each judged folder. Intervals of 95%
are bootstrapped over questions; one without 0 in it tells a model from the first.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from moca_rag.metrics import Qrels, Run, bootstrap_interval, paired_difference, score_run

MEASURE = "ndcg_cut_5"


def main() -> None:
    """Parse the command line, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--mode", default="vision")
    options = parser.parse_args()
    judged = {name: read_scores(options.folder / name / "judged", options.mode) for name in options.names}
    table = Table(title=f"nDCG@5, mode {options.mode}")
    for column in ("model", "judged on", "questions", "nDCG@5", f"less {options.names[0]}'s"):
        table.add_column(column, justify="left" if column in ("model", "judged on") else "right")
    first = judged[options.names[0]]
    for name, found in judged.items():
        for place, scores in found.items():
            low, high = bootstrap_interval(scores.values())
            shown = f"{sum(scores.values()) / len(scores):.3f} ({low:.3f} to {high:.3f})"
            base = first.get(place, {})
            compared = ""
            if name != options.names[0] and base.keys() == scores.keys():
                mean, least, most = paired_difference([scores[key] for key in base], list(base.values()))
                compared = f"{mean:+.3f} ({least:+.3f} to {most:+.3f})"
            table.add_row(name, place, str(len(scores)), shown, compared)
    Console(width=120).print(table)


def read_scores(cache: Path, mode: str) -> dict[str, dict[str, float]]:
    """nDCG@5 of each question, for each folder that was judged."""
    found: dict[str, dict[str, float]] = {}
    for run in sorted(cache.glob(f"*/corpus.{mode}.run")):
        qrels: Qrels = {}
        for line in run.with_name("corpus.qrels").read_text(encoding="utf-8").splitlines():
            query, _, page, grade = line.split()
            qrels.setdefault(query, {})[page] = int(grade)
        ranked: Run = {query: {} for query in qrels}
        for line in run.read_text(encoding="utf-8").splitlines():
            query, _, page, _, score, _ = line.split()
            ranked[query][page] = float(score)
        name = run.parent.name.rsplit("-", 1)[0]
        found[name] = {query: scores[MEASURE] for query, scores in score_run(qrels, ranked).items()}
    return found


if __name__ == "__main__":
    main()
