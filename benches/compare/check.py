"""A short run of everything, in a folder of its own: whether the harness works, and who counts right."""

import os
import signal
import tempfile
import time
from pathlib import Path

import report
from contestants import DETAILS
from growth import growth
from measure import Load
from peers import peers
from pod import run
from table import read
from turns import pairs, programs
from workloads import GRPC, HTTP, TCP, Server

SECONDS = 0.5


def check(pod, bin, about):
    stall(pod, bin / "examples" / "bench-load")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        out.mkdir()
        (out / "machine.json").write_text(about)
        pairs(pod, bin, out, 1, SECONDS, (HTTP, GRPC.closed(), TCP))
        programs(pod, bin, out, 1, SECONDS, (HTTP,))
        growth(pod, bin, out, 1, SECONDS, {"connections": (1_000,)})
        peers(pod, bin, out, 1, 1)
        report.write(out)
        wrong = counts(read(out / "pairs.csv"))
    if wrong:
        raise SystemExit("metricd has counted wrong:\n" + "\n".join(wrong))


def stall(pod, load):
    """A server that stops for 0.3 of 1 s holds up 300 of 1,000 requests of an open loop. A client that
    waits with its next requests until it goes on would see 10 of 700 that are slow."""
    with Server(pod, load, HTTP) as server, Load(pod, load, HTTP, seconds=1) as client:
        workers = [int(pid) for pid in run("pgrep", "-P", server.process.pid).split()]
        client.go()
        time.sleep(0.3)
        for what in (signal.SIGSTOP, signal.SIGCONT):
            for worker in workers:
                os.kill(worker, what)
            time.sleep(0.3)
        p90 = client.report()["p90_ns"] / 1e6
    print(f"nginx stopped for 300 ms of 1 s: p90 {p90:.0f} ms")
    if p90 < 150:
        raise SystemExit("the load generator hides what waits: p90 should be some 200 ms")


def counts(rows):
    """Prints who has counted how many of what was sent; returns what metricd has counted wrong."""
    wrong = []
    for row in rows:
        for what in ("requests", "connections"):
            counted, sent = row[f"counted_{what}"], row[f"sent_{what}"]
            ours = row["contestant"] in DETAILS and row["side"] == "with"
            # Requests of a protocol that nobody knows are not told apart.
            expected = ours and (row["workload"], what) != ("tcp", "requests")
            line = f"{row['workload']} {row['mode']}, {row['contestant']}: {counted} of {sent} {what}"
            if counted:
                print(line)
            if expected and counted != sent:
                wrong.append(line)
    return wrong
