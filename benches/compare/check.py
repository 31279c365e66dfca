"""A short run of everything: whether the harness works, and whether everyone's count is right."""

from contestants import DETAILS, attached, contestants
from measure import measure
from workloads import ALL, Server

SECONDS = 1


def check(pod, bin):
    load = bin / "examples" / "bench-load"
    wrong = []
    for workload in ALL:
        for contestant in contestants(pod, bin).values():
            with Server(pod, load, workload) as server, attached(contestant):
                row = measure(pod, load, server, contestant, workload, SECONDS)
            said = [f"{workload.name} {workload.mode}, {contestant.name}:"]
            for what in ("requests", "connections"):
                counted, sent = row[f"counted_{what}"], row[f"sent_{what}"]
                said.append(f"{what} {'-' if counted is None else counted} / {sent}")
                # metricd tells requests of protocols that it knows, and connections of all.
                known = what == "connections" or workload.protocol != "tcp"
                if contestant.name in DETAILS and known and counted != sent:
                    wrong.append(" ".join(said))
            print(*said, flush=True)
    if wrong:
        raise SystemExit("metricd has counted wrong:\n" + "\n".join(wrong))
