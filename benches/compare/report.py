"""docs/benchmarks.md and its plots, from the rows alone."""

import json

import plots
from figures import CONTESTANTS, FIGURES, LABELS, PARTS, WORKLOADS, Pairs, memory, per_request, program_time, throughput
from table import read
from text import AIMS, CLAIMS, FLEET, GROWTH, HEAD, READING

TITLES = {
    ("http", "open"): "HTTP/1.1, 1,000 requests a second, 10 connections, responses of 1 KB (nginx)",
    ("http", "closed"): "HTTP/1.1, as many as there can be, 10 connections",
    ("grpc", "open"): "gRPC, 5,000 calls a second, 100 streams, messages of 4 KB each way",
    ("grpc", "closed"): "gRPC, as many as there can be, 100 streams",
    ("tcp", "open"): "TCP, 10,000 request-responses a second, 500 connections, 64 bytes and 64 KB",
    ("tcp", "closed"): "TCP, as many as there can be, 500 connections",
}
# What linkerd2-proxy took for a request at 1,000 a second on such a machine, in µs of CPU.
PROXY = 146
# What an application spends on a request, in µs: nginx on a file of 1 KB, and one that does something.
APPLICATIONS = (30, 400)


def table(head, lines):
    lines = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def summary(rows, programs):
    """What to look at first."""
    head = ["", "CPU above nothing's at 1,000 requests/s, µs a request", "p99 there, with / without"]
    head += ["throughput at saturation, with / without", "program time a packet there, ns", "resident and maps, MB"]
    lines = []
    for name in ("again", "service", "article", "haproxy"):
        paced, full = (Pairs(rows, "http", mode, name) for mode in ("open", "closed"))
        if not paced or not full:
            continue
        extra, took = paced.extra(*PARTS), program_time(programs, "http", "closed", name)
        lines.append(
            [LABELS[name], f"{extra.median:.1f} ({extra.low:.1f} to {extra.high:.1f})", paced.ratio("p99")]
            + [full.ratio("throughput"), f"{took[0] / took[1]:.0f}" if took else "", f"{paced.median(memory) / 1e6:.1f}"]
        )
    return "HTTP/1.1 in short:\n\n" + table(head, lines) + "\n" if lines else ""


def aims(rows, programs):
    """What the project set out to reach, and whether it did."""
    lines = []

    def aim(what, value, limit, form, at_least=False):
        met = value >= limit if at_least else value <= limit
        lines.append([what, form.format(limit), form.format(value), "yes" if met else "**no**"])

    if took := program_time(programs, "http", "closed", "service"):
        aim("program time of a request and response of 1 KB at saturation", took[0], 640, "{:.0f} ns")
    paced, took = Pairs(rows, "http", "open", "service"), program_time(programs, "http", "open", "service")
    if paced and took:
        # Its scrape is one of a run, and is one of 15 s where Prometheus asks.
        scrape = paced.median(lambda row: per_request(row, "contestant") * float(row["requests"])) / 15 / 1_000
        spent = took[0] / 1e3 + scrape
        aim("CPU of it all at 1,000 requests/s, with a scrape in 15 s", spent, PROXY / 100, "{:.2f} µs a request")
        aim("memory: resident, and maps at their default size", paced.median(memory) / 1e6, 10, "{:.1f} MB")
    for workload in (workload for workload, mode in WORKLOADS if mode == "open"):
        again, ours = Pairs(rows, workload, "open", "again"), Pairs(rows, workload, "open", "service")
        for figure in ("p50", "p99", "CPU") if again and ours else ():
            noise, ratio = again.ratio(figure), ours.ratio(figure)
            aim(f"{workload}, open loop: {figure} within nothing's own spread", ratio.median, noise.high, "{:.3f}")
    for workload, mode in WORKLOADS:
        mine, theirs = (program_time(programs, workload, mode, name) for name in ("service", "article"))
        if mine and theirs:
            times = theirs[0] / theirs[1] / (mine[0] / mine[1])
            what = f"{workload}, {mode} loop: the article's time for a packet, of ours"
            aim(what, times, 3, "{:.1f} times", at_least=True)
    return AIMS.format(proxy=PROXY) + table(["aim", "limit", "measured", "met"], lines) + "\n" if lines else ""


def ratios(rows, workload, mode):
    lines = []
    for name in CONTESTANTS:
        if pairs := Pairs(rows, workload, mode, name):
            lines.append([LABELS[name], *(pairs.ratio(figure) for figure in FIGURES), len(pairs)])
    return table(["with / without", *FIGURES, "pairs"], lines)


def absolute(rows, programs, workload, mode):
    head = ["medians", "requests/s", "p50, ms", "p99, ms", "p99.9, ms"]
    head += [f"CPU: {part}, µs" for part in PARTS] + ["program time, ns", "resident, MB", "maps, MB", "counted / sent"]
    lines = []
    for name in CONTESTANTS:
        pairs = Pairs(rows, workload, mode, name)
        if not pairs:
            continue
        line = [LABELS[name], f"{pairs.median(throughput):,.0f}"]
        line += [f"{pairs.median(FIGURES[p]) / 1e6:.2f}" for p in ("p50", "p99", "p99.9")]
        line += [f"{pairs.median(lambda row: per_request(row, part)):.1f}" for part in PARTS]
        took = program_time(programs, workload, mode, name)
        line.append(f"{took[0]:.0f} ({took[1]:.1f} packets)" if took else "")
        line.append(f"{pairs.median(lambda row: float(row['resident_kb'])) / 1e3:.1f}")
        line.append(f"{pairs.median(lambda row: float(row['map_bytes'])) / 1e6:.1f}")
        lines.append(line + [counts(pairs)])
    return table(head, lines)


def counts(pairs):
    found = []
    for what in ("requests", "connections"):
        if counted := pairs.counted(what):
            found.append(f"{what} {counted[0]:,} / {counted[1]:,}")
    return "; ".join(found)


def percent(rows, programs):
    """What a percentage is one of."""
    head = ["CPU a request above nothing's, µs", "measured", *(f"of {a} µs" for a in APPLICATIONS), "program time alone"]
    lines = []
    for workload, mode in WORKLOADS:
        for name in CONTESTANTS:
            if pairs := Pairs(rows, workload, mode, name):
                extra = pairs.extra(*PARTS)
                took = program_time(programs, workload, mode, name)
                lines.append(
                    [f"{workload}, {mode} loop: {LABELS[name]}", f"{extra.median:.1f} ({extra.low:.1f} to {extra.high:.1f})"]
                    + [f"{extra.median / a:.1%}" for a in APPLICATIONS]
                    + ([f"{took[0] / 1e3:.2f}: " + ", ".join(f"{took[0] / 1e3 / a:.2%}" for a in APPLICATIONS)] if took else [""])
                )
    return table(head, lines)


def fleet(rows, programs):
    """10,000 nodes with 30 pods each, from the open loop of HTTP: what is spent to count, in cores and memory."""
    pods = 10_000 * 30
    head = ["300,000 pods", "100 requests/s each, cores", "1,000 requests/s each, cores", "memory, TB"]
    lines = []
    for name in ("service", "article", "haproxy"):
        pairs = Pairs(rows, "http", "open", name)
        if not pairs:
            continue
        own = pairs.median(lambda row: per_request(row, "contestant"))
        took = program_time(programs, "http", "open", name)
        if name == "service" and took:
            # Its user space does nothing but answer scrapes: here one in a run, there one in 15 s.
            scrape = own * 1e-6 * pairs.median(lambda row: float(row["requests"]))
            cores = [pods * (rate * took[0] * 1e-9 + scrape / 15) for rate in (100, 1_000)]
        else:
            extra = pairs.extra(*PARTS).median
            cores = [pods * rate * extra * 1e-6 for rate in (100, 1_000)]
        lines.append([LABELS[name], *(f"{c:,.0f}" for c in cores), f"{pods * pairs.median(memory) / 1e12:.1f}"])
    return table(head, lines)


def growth(out):
    """Sections for what there are rows of."""
    rows = read(out / "growth.csv")
    labels = LABELS | {"again": LABELS["nothing"]}
    text = ""
    for section, (title, words, columns, plot) in GROWTH.items():
        mine = [row for row in rows if row["section"] == section]
        if not mine:
            continue
        text += f"### {title}\n\n{words}\n"
        keys = list(dict.fromkeys((row["contestant"], int(row["x"])) for row in mine))
        medians = {}
        for key in keys:
            same = [row for row in mine if (row["contestant"], int(row["x"])) == key]
            medians[key] = {c: middle(row[c] for row in same) for c in columns}
        lines = [
            [labels[name], f"{x:,}", *("" if v is None else f"{v:,.1f}" for v in medians[name, x].values())]
            for name, x in keys
        ]
        text += "\n" + table(["contestant", section, *columns.values()], lines)
        if plot:
            series = {}
            for (name, x), values in medians.items():
                if values[plot] is not None:
                    series.setdefault(labels[name], []).append((x, values[plot]))
            plots.lines(title, series, section, columns[plot], out / f"growth-{section}.svg")
            text += f"\n![{title}](benchmarks/growth-{section}.svg)\n"
        text += "\n"
    return text


def generator(out):
    rows = read(out / "peers.csv")
    lines = []
    for workload, tool in dict.fromkeys((row["workload"], row["tool"]) for row in rows):
        same = (row["per_second"] for row in rows if (row["workload"], row["tool"]) == (workload, tool))
        lines.append([workload, tool.replace("_", "-"), f"{middle(same):,.0f}"])
    return CLAIMS["generator"] + "\n" + table(["closed loop", "by", "requests/s, median"], lines) + "\n" if rows else ""


def middle(values):
    values = sorted(float(v) for v in values if v)
    return values[len(values) // 2] if values else None


def write(out):
    rows, programs = read(out / "pairs.csv"), read(out / "programs.csv")
    if not rows:
        raise SystemExit(f"{out}/pairs.csv has no rows: measure first")
    about = json.loads((out / "machine.json").read_text())
    measured = [w for w in WORKLOADS if any((row["workload"], row["mode"]) == w for row in rows)]
    plots.cpu(rows, measured, out / "cpu.svg")
    plots.ratios(rows, [w for w in measured if w[1] == "closed"], "throughput", out / "throughput.svg")
    plots.ratios(rows, measured, "p99", out / "p99.svg")
    seconds = rows[0]["seconds"]
    text = HEAD.format(seconds=seconds, machine=table(["", ""], about.items()))
    text += READING.format(seconds=seconds) + summary(rows, programs) + aims(rows, programs)
    for name in ("cpu", "throughput", "p99"):
        text += f"![{name}](benchmarks/{name}.svg)\n\n"
    for workload, mode in measured:
        text += f"### {TITLES[workload, mode]}\n\n{ratios(rows, workload, mode)}\n"
        text += absolute(rows, programs, workload, mode) + "\n"
    text += CLAIMS["percent"] + "\n" + percent(rows, programs) + "\n"
    if grown := growth(out):
        text += "## Growth\n\n" + grown
    text += FLEET + "\n" + fleet(rows, programs) + "\n" + generator(out) + CLAIMS["not"]
    path = out.parent / f"{out.name}.md"
    path.write_text(text.rstrip() + "\n")
    print(f"wrote {path}")
