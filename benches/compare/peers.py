"""The load generator beside others that everyone knows: wrk for HTTP, h2load for gRPC, closed loop."""

import re

from measure import Load
from pod import ADDRESS, CLIENT_CPU
from table import Table
from turns import Progress
from workloads import GRPC, HTTP, Server

KEY = ("workload", "tool", "run")


def bench_load(pod, load, workload, seconds):
    with Load(pod, load, workload, seconds) as client:
        client.go()
        report = client.report()
    return report["requests"] / report["elapsed"]


def wrk(pod, _, workload, seconds):
    url = f"http://{ADDRESS}:{workload.port}/file"
    flags = ("-t1", f"-c{workload.connections}", f"-d{seconds:.0f}")
    return said(r"Requests/sec:\s+(\S+)", pod, "wrk", *flags, url)


def h2load(pod, _, workload, seconds):
    """Bytes as many as in bench-load's calls; what is in them is nothing to the server."""
    body = pod.tmp / "body"
    body.write_bytes(b"x" * (workload.request + 5))
    url = f"http://{ADDRESS}:{workload.port}/bench.Bench/Get"
    flags = (f"-c{workload.connections}", f"-m{workload.streams}", f"-D{seconds:.0f}", "-d", body)
    headers = ("-H", "content-type: application/grpc+proto", "-H", "te: trailers")
    return said(r"finished in \S+, (\S+) req/s", pod, "h2load", *flags, *headers, url)


def said(pattern, pod, *command):
    output = pod.client_run("taskset", "-c", CLIENT_CPU, *command)
    found = re.search(pattern, output)
    if not found:
        raise RuntimeError(f"{command[0]} did not say how many requests it made:\n{output}")
    return float(found[1])


TOOLS = {HTTP.closed(): (bench_load, wrk), GRPC.closed(): (bench_load, h2load)}


def peers(pod, bin, out, count, seconds):
    table = Table(out / "peers.csv", KEY, {"seconds": seconds})
    load = bin / "examples" / "bench-load"
    todo = [
        (workload, tool, {"workload": workload.name, "tool": tool.__name__, "run": number})
        for number in range(count)
        for workload, tools in TOOLS.items()
        for tool in tools
    ]
    todo = [each for each in todo if not table.has(**each[2])]
    progress = Progress(len(todo))
    for workload, tool, row in todo:
        with Server(pod, load, workload):
            row |= {"per_second": tool(pod, load, workload, seconds)}
        table.add(row)
        progress.say(f"{workload.name} by {row['tool']}: {row['per_second']:,.0f} a second")
