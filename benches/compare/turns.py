"""The workloads, with each contestant in turn with nothing (A B A B …); then the programs' time."""

import time

from contestants import Contestant, attached, contestants
from measure import Load, measure, program_time
from table import Table
from workloads import ALL, Server

KEY = ("workload", "mode", "pair", "contestant", "side")


class Progress:
    def __init__(self, steps):
        self.steps, self.done, self.start = steps, 0, time.monotonic()

    def say(self, text):
        self.done += 1
        left = (time.monotonic() - self.start) / self.done * (self.steps - self.done)
        print(f"[{self.done}/{self.steps}, {left / 60:.0f} min left] {text}", flush=True)


def pairs(pod, bin, out, count, seconds, only=ALL):
    table = Table(out / "pairs.csv", KEY, {"seconds": seconds})
    nothing = Contestant("nothing", pod, bin)
    load = bin / "examples" / "bench-load"
    todo = [
        (workload, number, name)
        for number in range(count)
        for workload in only
        for name in contestants(pod, bin)
        if not table.has(workload=workload.name, mode=workload.mode, pair=number, contestant=name, side="with")
    ]
    progress = Progress(len(todo))
    for workload, number, name in todo:
        contestant = contestants(pod, bin)[name]
        rows = []
        with Server(pod, load, workload) as server:
            for side, who in (("without", nothing), ("with", contestant)):
                key = (workload.name, workload.mode, number, name, side)
                with attached(who):
                    rows.append(dict(zip(KEY, key)) | measure(pod, load, server, who, workload, seconds))
        table.add(*rows)
        without, measured = rows
        sent, counted = measured["sent_requests"], measured["counted_requests"]
        progress.say(
            f"{workload.name} {workload.mode}, pair {number + 1}, {name}: "
            f"throughput × {measured['requests'] / measured['elapsed'] * without['elapsed'] / without['requests']:.3f}, "
            f"p99 {without['p99_ns'] / 1e6:.2f} → {measured['p99_ns'] / 1e6:.2f} ms, "
            f"counted {counted} of {sent}"
        )


def programs(pod, bin, out, count, seconds, only=ALL):
    key = ("workload", "mode", "contestant", "run")
    table = Table(out / "programs.csv", key, {"seconds": seconds})
    load = bin / "examples" / "bench-load"
    everyone = contestants(pod, bin)
    empty = everyone["empty"]
    todo = [
        dict(zip(key, (workload.name, workload.mode, name, number))) | {"with": workload}
        for number in range(count)
        for workload in only
        for name in ("pod", "service", "full", "article")
    ]
    todo = [each for each in todo if not table.has(**each)]
    progress = Progress(len(todo))
    for row in todo:
        workload = row.pop("with")
        contestant = everyone[row["contestant"]]
        with (
            Server(pod, load, workload),
            attached(contestant),
            attached(empty),
            Load(pod, load, workload, seconds) as client,
        ):
            row |= program_time(contestant, empty, [client])
        table.add(row)
        progress.say(
            f"{workload.name} {workload.mode}, {row['contestant']}: "
            f"{row['program_ns']:.0f} ns of program time a request, in {row['runs']:.2f} runs"
        )
