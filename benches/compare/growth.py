"""How the cost grows: with the request rate, with connections and series, with cores."""

import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from contestants import Empty, Metricd, attached, contestants
from figures import PARTS, per_request
from measure import Load, Times, map_memory, measure, program_time, resident, spent, together
from pod import POD_CPU
from table import Table
from turns import Progress
from workloads import HTTP, Server

KEY = ("section", "contestant", "x", "run")
COLUMNS = ("per_second", "cpu_us", "contestant_ms", "p99_ms", "program_ns", "scrape_ms", "scrape_cpu_ms", "scrape_kb")
COLUMNS += ("resident_mb", "map_mb")

POINTS = {
    "rate": (100, 300, 1_000, 3_000, 10_000),
    "connections": (100, 1_000, 10_000, 100_000),
    "cores": (1, 2),
}
# Of one process, which may have no more than 20,000 files here and there.
AT_ONCE = 12_500


def rate(pod, bin, name, x, seconds):
    """At x requests a second."""
    load = bin / "examples" / "bench-load"
    workload, contestant = replace(HTTP, rate=x), contestants(pod, bin)[name]
    with Server(pod, load, workload) as server, attached(contestant):
        row = measure(pod, load, server, contestant, workload, seconds)
    return {
        "per_second": row["requests"] / row["elapsed"],
        "cpu_us": per_request(row, *PARTS),
        "contestant_ms": row["contestant_ns"] / 1e6 / row["elapsed"],
        "p99_ms": row["p99_ns"] / 1e6,
    }


def connections(pod, bin, name, x, seconds):
    """With x connections open, of which 32 at a time make a request."""
    processes = -(-x // AT_ONCE)
    workload = replace(
        HTTP.closed(), connections=x // processes, busy=max(1, 32 // processes), ports=Server.PORTS
    )
    flags = ("--connections", max(8_192, x * 5 // 4), "--map-size", max(16_384, x * 5 // 4))
    contestant = Metricd(name, pod, bin, flags)
    loads = [workload] * processes
    return with_programs(pod, bin, contestant, loads, seconds, workers=max(1, processes * 3 // 2))


def cores(pod, bin, name, x, seconds):
    """On x CPUs, client and server together."""
    pod.cpus = cpus = ",".join(map(str, range(x)))
    try:
        contestant = contestants(pod, bin)[name]
        return with_programs(pod, bin, contestant, [replace(HTTP.closed(), connections=32)], seconds, workers=x, cpus=cpus)
    finally:
        pod.cpus = POD_CPU


def with_programs(pod, bin, contestant, workloads, seconds, workers, **where):
    load = bin / "examples" / "bench-load"
    empty = Empty("empty", pod, bin)
    with ExitStack() as stack:
        stack.enter_context(Server(pod, load, workloads[0], workers))
        stack.enter_context(attached(contestant))
        loads = [stack.enter_context(Load(pod, load, workload, seconds, **where)) for workload in workloads]
        row = {}
        reports = together(loads)
        row["per_second"] = sum(report["requests"] / report["elapsed"] for report in reports)
        if contestant.programs:
            with attached(empty):
                row["program_ns"] = program_time(contestant, empty, loads)["program_ns"]
        return row | scraped(contestant)


def scraped(contestant):
    """What being asked for its metrics takes it."""
    if not contestant.metrics_url:
        return {}
    took, cpu = [], []
    for _ in range(3):
        before, start = Times.now(), time.monotonic()
        text = contestant.metrics()
        took.append((time.monotonic() - start) * 1e3)
        cpu.append(spent(before, Times.now(), {"contestant": contestant.process})["contestant"] / 1e6)
    return {
        "scrape_ms": median(took),
        "scrape_cpu_ms": median(cpu),
        "scrape_kb": len(text) / 1e3,
        "resident_mb": resident(contestant.process) / 1e3,
        "map_mb": map_memory(contestant.maps()) / 1e6,
    }


SECTIONS = {
    "rate": (rate, ("again", "service", "article", "haproxy")),
    "connections": (connections, ("service", "full")),
    "cores": (cores, ("again", "service", "full")),
}


def growth(pod, bin, out, count, seconds, points=POINTS):
    table = Table(out / "growth.csv", KEY, {"seconds": seconds})
    todo = [
        dict(zip(KEY, (section, name, x, number)))
        for number in range(count)
        for section, (_, names) in SECTIONS.items()
        for x in points.get(section, ())
        for name in names
    ]
    todo = [key for key in todo if not table.has(**key)]
    progress = Progress(len(todo))
    for key in todo:
        run, _ = SECTIONS[key["section"]]
        row = run(pod, bin, key["contestant"], key["x"], seconds)
        table.add(key | {column: row.get(column) for column in COLUMNS})
        shown = ", ".join(f"{name} {value:.1f}" for name, value in row.items())
        progress.say(f"{key['section']} {key['x']}, {key['contestant']}: {shown}")
