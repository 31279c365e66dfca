"""One run of a workload, and all that is measured of it."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pod import CLIENT_CPU, run

JIFFY = 1e9 / os.sysconf("SC_CLK_TCK")
KTHREADD = 2
WARM_UP = 0.5  # seconds, of what is counted, too


@dataclass
class Times:
    """CPU time in nanoseconds so far."""

    processes: dict  # by its number and when it began: (parent's number, time)
    busy: float  # all CPUs, whatever they did

    @classmethod
    def now(cls):
        processes = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            pid = int(folder.name)
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                processes[pid, int(fields[19])] = int(fields[1]), time.clock_gettime_ns(cpu_clock(pid))
            except OSError:
                continue  # It has just ended.
        # A CPU that sleeps without a tick is idle to the microsecond; what it does is only sampled.
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        idle = int(fields[3]) + int(fields[4]) + int(fields[7])
        return cls(processes, time.monotonic_ns() * os.cpu_count() - idle * JIFFY)


def cpu_clock(pid):
    """The clock of a process' CPU time, its ended threads included, as clock_getcpuclockid(3) makes it."""
    return ~pid << 3 | 2


def spent(before, after, parts):
    """Nanoseconds between the two, by part: `parts` are processes by name. The kernel's threads are
    "kernel", "foreign" is what nobody here has started, "machine" all that is not foreign."""
    roots = {process.pid: name for name, process in parts.items() if process}
    roots |= {KTHREADD: "kernel", os.getpid(): "harness"}
    parents = {pid: parent for (pid, _), (parent, _) in after.processes.items()}

    def part(pid):
        while pid and pid not in roots:
            pid = parents.get(pid)
        return roots.get(pid, "foreign")

    took = dict.fromkeys([*parts, "kernel", "harness", "foreign"], 0)
    for process, (_, spent) in after.processes.items():
        took[part(process[0])] += spent - before.processes.get(process, (0, 0))[1]
    took["machine"] = int(after.busy - before.busy) - took["foreign"] - took["harness"]
    return took


def resident(process):
    """KB, of the process and those it has started."""
    if not process:
        return 0
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def map_memory(pins):
    """Bytes of kernel memory."""
    shown = (json.loads(run("bpftool", "-j", "map", "show", "pinned", pin)) for pin in pins)
    # Some have several pins.
    return sum({each["id"]: int(each["bytes_memlock"]) for each in shown}.values())


class Load:
    """bench-load, ready to make its requests."""

    def __init__(self, pod, load, workload, seconds, cpus=CLIENT_CPU):
        self.pod, self.workload, self.seconds = pod, workload, seconds
        self.process = pod.start_client(load, *workload.flags(seconds, WARM_UP), cpus=cpus)
        self._line()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.workload.name}, {self.workload.mode} loop: the load failed:\n{self.pod.log()}")
        return line

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def report(self):
        """Waits for the end of what was begun."""
        return json.loads(self._line())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.pod.stop(self.process)


def measure(pod, load, server, contestant, workload, seconds):
    """A row: one run with what is attached now. In the middle of it the metrics are scraped once."""
    counted_before = contestant.counted(contestant.metrics(), workload.port)
    with Load(pod, load, workload, seconds) as client:
        parts = {"server": server.process, "contestant": contestant.process, "client": client.process}
        scrape = threading.Timer(seconds / 2, contestant.metrics)
        before = Times.now()
        scrape.start()
        client.go()
        row = client.report()
        after = Times.now()
        scrape.join()
        took = spent(before, after, parts)
        row |= {f"{part}_ns": time for part, time in took.items()}
        row |= {"resident_kb": resident(contestant.process), "map_bytes": map_memory(contestant.maps())}
    if contestant.metrics_url:
        contestant.settle()
    counted = contestant.counted(contestant.metrics(), workload.port)
    sent = row["requests"] + row["warm_up"], row["connections"]
    for what, before, after, sent in zip(("requests", "connections"), counted_before, counted, sent):
        row[f"sent_{what}"] = sent
        row[f"counted_{what}"] = None if after is None else after - (before or 0)
    return row


def together(loads):
    """Their reports."""
    for load in loads:
        load.go()
    return [load.report() for load in loads]


def program_time(contestant, empty, loads):
    """Nanoseconds of its programs for each request, and how many times they ran for it. An empty
    program on the same hooks tells what measuring costs: that is taken off."""

    def times(pins):
        shown = [json.loads(run("bpftool", "-j", "prog", "show", "pinned", pin)) for pin in pins]
        return [sum(each.get(field, 0) for each in shown) for field in ("run_time_ns", "run_cnt")]

    run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
    try:
        before = times(contestant.programs), times(empty.programs)
        requests = sum(report["requests"] for report in together(loads))
        after = times(contestant.programs), times(empty.programs)
    finally:
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=0")
    (ns, runs), (empty_ns, empty_runs) = ([a - b for a, b in zip(*pair)] for pair in zip(after, before))
    return {"requests": requests, "program_ns": (ns - runs * empty_ns / empty_runs) / requests, "runs": runs / requests}
