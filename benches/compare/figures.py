"""From rows to figures: ratios of each pair, and their spread."""

from statistics import median

WORKLOADS = [(name, mode) for name in ("http", "grpc", "tcp") for mode in ("open", "closed")]
CONTESTANTS = ("again", "empty", "pod", "service", "full", "article", "haproxy")
LABELS = {
    "nothing": "nothing",
    "again": "nothing, again (A/A)",
    "empty": "empty programs",
    "pod": "metricd, `--detail pod`",
    "service": "metricd, `--detail service`",
    "full": "metricd, `--detail full`",
    "article": "the article's design",
    "haproxy": "HAProxy",
}
# The client too: what comes in is looked at while it sends.
PARTS = ("server", "contestant", "client", "kernel")


def number(text):
    return float(text) if text else None


def per_request(row, *parts):
    """Microseconds of CPU."""
    return sum(float(row[f"{part}_ns"]) for part in parts) / float(row["requests"]) / 1e3


def throughput(row):
    return float(row["requests"]) / float(row["elapsed"])


def memory(row):
    """Bytes, resident and in maps."""
    return float(row["resident_kb"]) * 1e3 + float(row["map_bytes"])


FIGURES = {
    "throughput": throughput,
    "p50": lambda row: float(row["p50_ns"]),
    "p99": lambda row: float(row["p99_ns"]),
    "p99.9": lambda row: float(row["p999_ns"]),
    "CPU": lambda row: per_request(row, *PARTS),
    "machine": lambda row: per_request(row, "machine"),
}


class Spread:
    """The median of some values, and what a tenth of them is below and above."""

    def __init__(self, values):
        values = sorted(values)
        at = lambda q: values[round(q * (len(values) - 1))]
        self.median, self.low, self.high = median(values), at(0.1), at(0.9)

    def __str__(self):
        return f"{self.median:.3f} ({self.low:.3f}–{self.high:.3f})"


class Pairs:
    """The pairs of a workload and a contestant."""

    def __init__(self, rows, workload, mode, contestant):
        mine = [r for r in rows if (r["workload"], r["mode"], r["contestant"]) == (workload, mode, contestant)]
        self.without = [row for row in mine if row["side"] == "without"]
        self.having = [row for row in mine if row["side"] == "with"]

    def __len__(self):
        return len(self.having)

    def ratio(self, figure):
        of = FIGURES[figure]
        return Spread(of(b) / of(a) for a, b in zip(self.without, self.having))

    def extra(self, *parts):
        """Microseconds of CPU a request, above nothing's."""
        return Spread(per_request(b, *parts) - per_request(a, *parts) for a, b in zip(self.without, self.having))

    def median(self, of):
        return median(of(row) for row in self.having)

    def counted(self, what):
        """How many, and of how many; None if it doesn't tell."""
        rows = [row for row in self.having if row[f"counted_{what}"]]
        total = lambda kind: sum(int(row[f"{kind}_{what}"]) for row in rows)
        return (total("counted"), total("sent")) if rows else None


def program_time(rows, workload, mode, contestant):
    """Nanoseconds a request and runs a request, medians; None if that was not measured."""
    mine = [r for r in rows if (r["workload"], r["mode"], r["contestant"]) == (workload, mode, contestant)]
    if not mine:
        return None
    return tuple(median(float(row[figure]) for row in mine) for figure in ("program_ns", "runs"))
