"""The plots, as SVG."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from figures import CONTESTANTS, LABELS, PARTS, Pairs, per_request

# The same file from the same rows.
plt.rcParams["svg.hashsalt"] = "metricd"
plt.rcParams["svg.fonttype"] = "none"
NAMES = {"contestant": "contestant's user space", "kernel": "kernel threads"}


def plain(name):
    return LABELS[name].replace("`", "").replace("--detail ", "")


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def grid(title, workloads, draw, path):
    """One plot a workload."""
    if not workloads:
        return
    columns = min(2, len(workloads))
    lines = -(-len(workloads) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(6 * columns, 2.6 * lines), squeeze=False)
    figure.suptitle(title)
    for axis in axes.flat[len(workloads) :]:
        axis.remove()
    for axis, (workload, mode) in zip(axes.flat, workloads):
        axis.set_title(f"{workload}, {mode} loop", fontsize="medium")
        draw(axis, workload, mode)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize="small", bbox_to_anchor=(0.5, -0.05))
    save(figure, path)


def cpu(rows, workloads, path):
    def draw(axis, workload, mode):
        measured = [(name, pairs) for name in CONTESTANTS if (pairs := Pairs(rows, workload, mode, name))]
        left = [0] * len(measured)
        for part in PARTS:
            width = [pairs.median(lambda row: per_request(row, part)) for _, pairs in measured]
            axis.barh([plain(name) for name, _ in measured], width, left=left, label=NAMES.get(part, part))
            left = [a + b for a, b in zip(left, width)]

    grid("CPU of every part, µs a request, medians", workloads, draw, path)


def ratios(rows, workloads, figure, path):
    def draw(axis, workload, mode):
        measured = [(name, pairs) for name in CONTESTANTS if (pairs := Pairs(rows, workload, mode, name))]
        for name, pairs in measured:
            spread = pairs.ratio(figure)
            error = [[spread.median - spread.low], [spread.high - spread.median]]
            axis.errorbar(spread.median, plain(name), xerr=error, fmt="o", capsize=3, color="C0")
            if name == "again":
                axis.axvspan(spread.low, spread.high, alpha=0.15, color="gray")
        if figure != "throughput":
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())

    grid(f"{figure}, with / without: median, 10% and 90%; gray: A/A", workloads, draw, path)


def lines(title, series, x, y, path):
    """`series`: by label, the points."""
    figure, axis = plt.subplots(figsize=(6, 3.5))
    for label, points in series.items():
        axis.plot(*zip(*sorted(points)), "o-", label=label.replace("`", ""))
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small")
    save(figure, path)
