"""A short run of everything, in a folder of its own: whether the harness works, and who counts right."""

import tempfile
from pathlib import Path

import report
from contestants import DETAILS
from growth import growth
from peers import peers
from table import read
from turns import pairs, programs
from workloads import GRPC, HTTP, TCP

SECONDS = 0.5


def check(pod, bin, about):
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
