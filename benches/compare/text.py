"""What docs/benchmarks.md says around its tables."""

HEAD = """# Benchmarks

What it costs to count a pod's requests, by several ways of counting them. The workloads are those of
[an article](https://dev.to/johalputt/internals-how-linkerd-215-sidecar-uses-ebpf-for-low-overhead-service-mesh-metrics-3joo)
that claims less than 2% of overhead, 82% less CPU and 40% less memory for a design of that kind, with nothing
to run them again by. Every table and plot here is
made by `benches/compare` from the rows in [docs/benchmarks](benchmarks/).

    make bench PAIRS=20       # measures what is missing there, then writes this page (hours; can be stopped, and goes on)
    make bench-short          # whether the harness works, and who counts right (two minutes)
    rm docs/benchmarks/*.csv  # to begin again

To look at one part: `sudo target/python/bin/python benches/compare pairs|programs|growth|peers|report`, and
`--pairs`, `--seconds`, `--only http,open`, `--out FOLDER`.

{machine}
## How

- A pod's network namespace and a client's, a veth pair between them. All that is in the pod runs on one
  CPU: the server and the contestant's user space. The client has the other.
- Each figure is one of a pair: {seconds} s with nothing attached, then {seconds} s with the contestant. What is
  shown is the median of the pairs' ratios, and in brackets what a tenth of them is below and above. The
  first row of each table compares nothing with nothing in the same way: a ratio within its spread says
  nothing.
- Open loop: requests start at their rate, whether those before were answered or not, and latencies
  count from when a request was to start. What waits in a queue is seen
  ([benches/load](../benches/load/pace.rs)). Closed loop: as many as there can be.
- In each run everyone who has metrics is asked for them once, which is more often than Prometheus does.
- CPU is what the kernel's scheduler says of every process (`clock_getcpuclockid`), in nanoseconds. A
  program in the kernel is charged to the task that it interrupts: to the client for what comes into
  the pod, to the server for what leaves it, so their sum is what compares. *CPU* is that sum, the
  contestant and the kernel's threads included. *machine* is what `/proc/stat` says was not idle, less
  the processes that nobody here has started; its unit is 10 ms, so it is the coarser of the two.
- Program time is measured in runs of its own (`kernel.bpf_stats_enabled`), since measuring adds to it; an
  empty program on the same hooks tells how much, and that is taken off.

The contestants:

- **empty programs**: a clsact filter on each hook that returns at once.
- **metricd**: `metricd-init` with its defaults (TCX here), and `metricd` as nobody.
- **the article's design** ([benches/article](../benches/article/article.bpf.c)): each packet is added to its
  5-tuple in a hash, and sent to user space as a perf event. The reader copies the hash into a registry
  every 5 s. What it takes for a request is a packet with a payload that comes in.
- **HAProxy**: a sidecar, with its Prometheus exporter on, on one thread. iptables redirects the port to it and
  leaves its own connections alone, by its user id, as a mesh does.

"""

READING = """## Results

A ratio of 1.02 means 2% more than without. Throughput is better when higher, all else when lower.

"""

CLAIMS = {
    "percent": """## What a percentage is one of

The same microsecond is much to an application that spends 30 µs on a request (nginx on a file of 1 KB,
with its client) and little to one that spends 0.4 ms. Here is what was measured above nothing, for all
parts together, and what it is of either. Where the spread has zero in it, the machine's noise is larger
than what was measured; program time, which has no such noise, is then what there is to go by: it leaves
out metricd's answers to scrapes and what an instruction of ours pushes out of the caches of others.
""",
    "generator": """## The load generator

What [benches/load](../benches/load/) makes of the same server as tools that everyone knows. It is there
since wrk has no open loop, and no tool does all three workloads.
""",
    "not": """## What is not claimed

- Absolute figures are those of this machine: two virtual CPUs whose host has other guests. Ratios are what to
  take elsewhere, and other kernels, processors and sizes of packets have others.
- A veth pair is not a network: latencies here have no wire in them, so that a ratio of latencies is
  larger than it would be between machines.
- Client and server have one CPU each. With more of them a proxy gets CPUs of its own, and takes less
  of the server's throughput; what it spends stays.
- HAProxy does more than count: it balances and could retry and encrypt. So does Linkerd's own proxy,
  which is not measured here, since no package of Debian has it. What is compared is the price of the
  metrics by that way.
- The article's design is rebuilt from its description, at its sizes (16,384 entries, 4,096 bytes of events a
  CPU). Its authors may have done better.
- What the article's reader calls a request is not one: with HTTP/2 a packet has parts of several.
- p99.9 of a run at 1,000 requests a second is that of a few requests; the median over the pairs is what makes
  it worth a look.
""",
}

AIMS = """### What was aimed at

With `--detail service`, the default. Of the resident memory all but 0.5 MB are pages of files, which the pods of a
node share. The limit of CPU is a hundredth of the {proxy} µs that linkerd2-proxy was measured to take for a
request at that rate on such a machine.

"""

FLEET = """## A fleet, on paper

10,000 nodes with 30 pods each, scraped every 15 s. Not measured: multiplied, from HTTP in an open loop. Of
metricd it is program time, and a scrape in 15 s; of the others all CPU above nothing's.
"""

# By section: title, words, the columns shown with their names, and which of them is plotted.
GROWTH = {
    "rate": (
        "Against the request rate",
        "HTTP/1.1 in an open loop over 10 connections. User space of metricd works when it is scraped, once "
        "in each run, whatever the rate is; a proxy works for each request.",
        {"contestant_ms": "its user space, ms a second", "cpu_us": "CPU of all parts, µs a request", "p99_ms": "p99, ms"},
        "contestant_ms",
    ),
    "connections": (
        "Against connections that are open, and series",
        "HTTP/1.1 in a closed loop over 32 of them at a time; all take turns, so that with many of them nothing "
        "about a connection is in a cache any more. With `--detail full` each is a series of its own. The maps are made for as many.",
        {
            "per_second": "requests/s",
            "program_ns": "program time, ns a request",
            "scrape_ms": "a scrape, ms",
            "scrape_cpu_ms": "CPU of a scrape, ms",
            "scrape_kb": "its text, KB",
            "resident_mb": "resident, MB",
            "map_mb": "maps, MB",
        },
        "program_ns",
    ),
    "cores": (
        "Against cores",
        "HTTP/1.1 in a closed loop, server and client on one CPU together, and on both, unpinned. This machine has no more.",
        {"per_second": "requests/s", "program_ns": "program time, ns a request"},
        None,
    ),
}
