"""What the race leaves behind: results.json, a plot, and the table in docs/benchmarks.md."""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"
PLOT = DOCS / "benchmarks.png"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
OURS = "fleet_pipeline"


def write(results):
    """Renew the three. Runs of contenders that did not race this time are kept."""
    kept = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    raced = {_place(run): run for run in (*kept, *results["runs"])}
    results = results | {"runs": sorted(raced.values(), key=lambda run: (run["data"], run["objects"], run.get("cpu_s_per_100k", 1e9)))}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _plot(results)
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + table(results) + END + rest.split(END)[1])


def table(results):
    """The figures as Markdown."""
    ours = {run["data"]: run.get("cpu_s_per_100k") for run in results["runs"] if run["contender"] == OURS and run["objects"] < 1_000_000}
    lines = [
        f"{results['date']}, {results['machine']}; " + ", ".join(f"{name} {of}" for name, of in results["versions"].items()) + ".",
        "",
        "| data | objects | contender | CPU s / 100,000 | ratio | objects/s | peak MB | complete |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in results["runs"]:
        place = f"| {run['data']} | {run['objects']:,} | {run['contender']} "
        if "cpu_s_per_100k" not in run:
            lines.append(f"{place}| | | | | stopped: {run['stopped_by'].replace('|', ' ')[:90]} |")
            continue
        ratio = f"{run['cpu_s_per_100k'] / ours[run['data']]:.1f}" if ours.get(run["data"]) else ""
        complete = "yes" if run["complete"] else "no"
        lines.append(f"{place}| {run['cpu_s_per_100k']} | {ratio} | {run['objects_per_s']:,} | {run['peak_mb']:,} | {complete} |")
    return "\n".join(lines) + "\n"


def _place(run):
    return run["contender"], run["data"], run["objects"]


def _plot(results):
    runs = [run for run in results["runs"] if run["data"] == "clean" and run["objects"] < 1_000_000 and "cpu_s_per_100k" in run][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(runs) + 1.2))
    bars = axes.barh(
        [run["contender"] for run in runs], [run["cpu_s_per_100k"] for run in runs], color=["#0b6" if run["contender"] == OURS else "#889" for run in runs]
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xscale("log")
    axes.set_xlabel("CPU seconds per 100,000 messages (clean data, logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=120)
