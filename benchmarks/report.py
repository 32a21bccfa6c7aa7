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
PROBE_S = 0.1
"""Seconds of the probe on the machine to whose speed figures are brought for comparison."""

BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
MEMORY_BEGIN, MEMORY_END = "<!-- memory: written by make bench -->", "<!-- end of memory -->"
BATCHES_BEGIN, BATCHES_END = "<!-- batches: written by make bench -->", "<!-- end of batches -->"
HOSTILE_BEGIN, HOSTILE_END = "<!-- hostile: written by make bench -->", "<!-- end of hostile -->"
OURS = "fleet_pipeline"


def write(results):
    """Renew the three. Runs of contenders that did not race this time are kept."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    raced = {_place(run): run for run in (*kept["runs"], *results["runs"])}
    results = (
        kept
        | results
        | {
            "runs": sorted(
                raced.values(), key=lambda run: (run["data"], run["objects"], run.get("cpu_s_per_100k", 1e9))
            )
        }
    )
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _plot(results)
    _replace(BEGIN, table(results), END)


def write_memory(peaks):
    """Renew the list of memory peaks and their table. Kinds that were not measured this time are kept."""
    results = json.loads(RESULTS.read_text())
    measured = {(peak["kind"], peak["objects"], peak["action"]): peak for peak in (*results.get("memory", []), *peaks)}
    results["memory"] = list(measured.values())
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _replace(MEMORY_BEGIN, memory_table(results["memory"]), MEMORY_END)


def write_batches(runs):
    """Renew the list of races on batches, and their table. Runs of others are kept."""
    results = json.loads(RESULTS.read_text())
    raced = {(*_place(run), run["megabytes"]): run for run in (*results.get("batches", []), *runs)}
    results["batches"] = sorted(raced.values(), key=lambda run: (run["objects"], run["data"], run["contender"]))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _replace(BATCHES_BEGIN, batches_table(results["batches"]), BATCHES_END)


def batches_table(runs):
    """Return the table of races on batches."""
    lines = ["| contender | messages | data | MB of records an object | CPU s / 100k | peak MB | every message once |"]
    lines.append("|---|--:|---|--:|--:|--:|---|")
    for run in runs:
        figures = (run.get("cpu_s_per_100k", "-"), run.get("peak_mb", "-"))
        said = "yes" if run["complete"] else run.get("stopped_by", "no")
        lines.append(
            f"| {run['contender']} | {run['objects']:,} | {run['data']} | {run['megabytes']} | {figures[0]} | "
            f"{figures[1]} | {said} |"
        )
    return "\n".join(lines) + "\n"


def write_hostile(costs):
    """Renew the list of what payloads made to be dear cost, and their table.

    Kinds that were not measured this time are kept.
    """
    results = json.loads(RESULTS.read_text())
    measured = {cost["kind"]: cost for cost in (*results.get("hostile", []), *costs)}
    results["hostile"] = list(measured.values())
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _replace(HOSTILE_BEGIN, hostile_table(results["hostile"]), HOSTILE_END)


def hostile_table(costs):
    """The costs as Markdown, the dearest first."""
    lines = [
        (
            "| messages | bytes of one | bytes a row | CPU s / MB, compaction | CPU s / MB, rewrite "
            "| CPU µs / row, compaction |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for cost in sorted(costs, key=lambda cost: -cost["compaction_s_per_mb"] / cost["probe_s"]):
        compaction, rewrite = (
            cost[f"{action}_s_per_mb"] * PROBE_S / cost["probe_s"] for action in ("compaction", "rewrite")
        )
        size, of_a_row = cost["bytes"] // cost["objects"], cost["bytes"] / cost["rows"]
        kind = cost["kind"].replace("|", " ")
        lines.append(
            f"| {kind} | {size:,} | {of_a_row:,.0f} | {compaction:.2f} | {rewrite:.2f} | {compaction * of_a_row:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def write_iceberg(deed, figures):
    """Renew what a year or a thousand commits of Iceberg tables cost, and its table in docs/iceberg.md."""
    results = json.loads(RESULTS.read_text())
    results["iceberg"] = results.get("iceberg", {}) | {deed: figures}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    begin, end = f"<!-- {deed}: written by benchmarks/iceberg.py -->", f"<!-- end of {deed} -->"
    _replace(begin, ICEBERG_TABLES[deed](figures), end, DOCS / "iceberg.md")


def year_table(figures):
    """The costs of a run and of readers at a year of hours, as Markdown."""
    versions = ", ".join(f"{name} {of}" for name, of in figures["versions"].items())
    lines = [f"{figures['date']}, {figures['parts']:,} parts of three rules; {versions}.", ""]
    lines += ["| all three tables | s | CPU s | LIST | GET | PUT | bytes written |", "|---|--:|--:|--:|--:|--:|--:|"]
    names = ("the first run", "a run with nothing to do", "a run with a new part of each rule", "a check of every file")
    for name in names:
        cost = figures[name]
        counts = (f"{round(cost.get(kind, 0)):,}" for kind in ("LIST", "GET", "PUT", "bytes written"))
        lines.append(f"| {name} | {cost['s']:.2f} | {cost['CPU s']:.2f} | {' | '.join(counts)} |")
    first, last = figures["metadata after it"], figures["metadata after maintenance"]
    lines += [
        "",
        (
            f"Metadata: {first['bytes']:,} bytes in {first['objects']} objects after the first run, {last['bytes']:,} "
            f"in {last['objects']} with {last['manifests']} manifests after those with new parts and maintenance."
        ),
        "",
        "| reader | question | rows | planning, s | answer, s | answer, CPU s | requests |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for each in figures["readers"]:
        planned, answered = each["planned"], each["answered"]
        requests = sum(answered.get(kind, 0) for kind in ("LIST", "GET", "HEAD"))
        lines.append(
            f"| {each['reader']} | {each['question']} | {each['rows']} | {planned['s']:.3f} | {answered['s']:.3f} | "
            f"{answered['CPU s']:.3f} | {requests:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def growth_table(figures):
    """How metadata grow with commits, as Markdown."""
    lines = [f"{figures['date']}, {figures['commits']:,} commits of one table.", ""]
    lines += ["| after commits | objects | bytes | manifests | snapshots |", "|--:|--:|--:|--:|--:|"]
    for each in figures["after maintenance"][4::5]:
        lines.append(
            f"| {each['commits']} | {each['objects']} | {each['bytes']:,} | {each['manifests']} | {each['snapshots']} |"
        )
    lines += ["", "| a run, p50 | s | CPU s | LIST | GET | PUT | bytes written |", "|---|--:|--:|--:|--:|--:|--:|"]
    for each in figures["a run"]:
        counts = (f"{round(each.get(kind, 0)):,}" for kind in ("LIST", "GET", "PUT", "bytes written"))
        lines.append(f"| commits {each['commits']} | {each['s']:.2f} | {each['CPU s']:.2f} | {' | '.join(counts)} |")
    return "\n".join(lines) + "\n"


ICEBERG_TABLES = {"year": year_table, "growth": growth_table}


def memory_table(peaks):
    """The peaks as Markdown: a row for each hour, a column for each action."""
    actions = list(dict.fromkeys(peak["action"] for peak in peaks))
    lines = ["| messages | objects | MB | " + " | ".join(actions) + " |", "|---" * (len(actions) + 3) + "|"]
    for kind, objects in dict.fromkeys((peak["kind"], peak["objects"]) for peak in peaks):
        hour = {peak["action"]: peak for peak in peaks if (peak["kind"], peak["objects"]) == (kind, objects)}
        size = next(iter(hour.values()))["bytes"] / 1e6
        figures = " | ".join(_peak(hour.get(action)) for action in actions)
        lines.append(f"| {kind} | {objects:,} | {size:,.0f} | {figures} |")
    return "\n".join(lines) + "\n"


def _peak(peak):
    if peak is None:
        return ""
    return f"{peak['peak_mb']:,}" if peak["right"] else "failed"


def _replace(begin, text, end, page=PAGE):
    before, rest = page.read_text().split(begin)
    page.write_text(before + begin + "\n" + text + end + rest.split(end)[1])


def table(results):
    """The figures as Markdown."""
    ours = {
        run["data"]: _evened(run) for run in results["runs"] if run["contender"] == OURS and run["objects"] < 1_000_000
    }
    lines = [
        f"{results['date']}, {results['machine']}; "
        + ", ".join(f"{name} {of}" for name, of in results["versions"].items())
        + ".",
        "",
        "| data | objects | contender | CPU s / 100,000 | at even speed | ratio | objects/s | peak MB | complete |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in results["runs"]:
        place = f"| {run['data']} | {run['objects']:,} | {run['contender']} "
        if "cpu_s_per_100k" not in run:
            lines.append(f"{place}| | | | | | stopped: {run['stopped_by'].replace('|', ' ')[:90]} |")
            continue
        ratio = f"{_evened(run) / ours[run['data']]:.1f}" if run["data"] in ours else ""
        complete = "yes" if run["complete"] else "no"
        lines.append(
            f"{place}| {run['cpu_s_per_100k']} | {_evened(run):.1f} | {ratio} | {run['objects_per_s']:,} | "
            f"{run['peak_mb']:,} | {complete} |"
        )
    return "\n".join(lines) + "\n"


def _evened(run):
    """CPU seconds for 100,000 messages, had the machine been as fast as the one of PROBE_S."""
    return run["cpu_s_per_100k"] * PROBE_S / run["probe_s"]


def _place(run):
    return run["contender"], run["data"], run["objects"]


def _plot(results):
    runs = [
        run
        for run in results["runs"]
        if run["data"] == "clean" and run["objects"] < 1_000_000 and "cpu_s_per_100k" in run
    ]
    runs.sort(key=_evened, reverse=True)
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(runs) + 1.2))
    colours = ["#00aa66" if run["contender"] == OURS else "#888899" for run in runs]
    bars = axes.barh([run["contender"] for run in runs], [_evened(run) for run in runs], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xscale("log")
    axes.set_xlim(1, 1000)
    axes.set_xlabel("CPU seconds per 100,000 messages at even machine speed (clean data, logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=120)
