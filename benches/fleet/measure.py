"""What a Prometheus takes to scrape a fleet, by what it says of itself."""

import asyncio
import multiprocessing
import signal
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager

import server
from prometheus import Prometheus


@contextmanager
def served(fleet):
    """The fleet's pages, by a process of their own."""
    listening, ready = multiprocessing.Pipe(duplex=False)
    serving = multiprocessing.Process(target=serve, args=(fleet, ready), daemon=True)
    serving.start()
    try:
        if not listening.poll(60):
            sys.exit("benches/fleet: the pages are not served within 60 s")
        yield
    finally:
        serving.terminate()
        serving.join()


def serve(fleet, ready):
    # What the main process does on this signal is its own.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(server.serve(fleet, ready))


def run(fleet, args, job, with_rules=False):
    """The figures of a Prometheus that has scraped a fleet by a job, once all is steady."""
    with served(fleet), tempfile.TemporaryDirectory(prefix="metricd-fleet-") as folder, \
            Prometheus(folder, job, f"{args.interval}s", with_rules) as prometheus:
        return measure(prometheus, fleet, args)


def still():
    """Stops the coming and going in the fleet that is served. Returns how many series its pages have."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.DISCOVERY}/still", timeout=60) as answer:
        return int(answer.read())


PODS = "{job!='kube-state-metrics'}"
UP = f"count(up{PODS} == 1)"
SCRAPED = f"sum(scrape_samples_scraped{PODS})"
KEPT = f"avg(scrape_samples_post_metric_relabeling{PODS})"


def measure(prometheus, fleet, args):
    prometheus.wait(lambda: prometheus.query(UP) >= 0.98 * fleet.size, 20 * args.interval + 60,
                    "targets have been scraped, but those of pods that have just come")
    # Two more scrapes of each, so that rates are there for the rules.
    time.sleep(2 * args.interval)
    before, began = prometheus.own(), time.monotonic()
    time.sleep(args.scrapes * args.interval)
    after, seconds = prometheus.own(), time.monotonic() - began
    more = lambda name: after.get(name, 0) - before.get(name, 0)
    groups, wrong = prometheus.groups()
    figures = {
        "targets": prometheus.query(UP),
        "of a pod": prometheus.query(SCRAPED) / fleet.size,
        "kept of a pod": prometheus.query(KEPT),
        "series": after["prometheus_tsdb_head_series"],
        "samples": more("prometheus_tsdb_head_samples_appended_total") / seconds,
        "cpu": more("process_cpu_seconds_total") / seconds * 60,
        "resident": after["process_resident_memory_bytes"],
        "heap": after["go_memstats_heap_inuse_bytes"],
        # What was in use when the garbage was last collected: the next time is when that has doubled.
        "live": after["go_memstats_next_gc_bytes"] / 2,
        # How often all rules were evaluated: on a machine that is busy, less often than they are to be.
        "rounds": more("prometheus_rule_evaluations_total") / max(1, sum(len(group["rules"]) for group in groups)),
        "groups": groups,
        "wrong": wrong,
        "recorded": prometheus.query('count({__name__=~"metricd:.+"})'),
        "of workloads": prometheus.query('count({__name__=~"metricd:workload_.+"})'),
    }
    spent = more("process_cpu_seconds_total")
    figures["cpu of a sample"] = spent / seconds / figures["samples"]
    figures["spent"], figures["taken"] = spent, figures["samples"] * seconds
    return figures


def of_rules(figures, scraped):
    """What one evaluation of all rules takes, in scrapes of all pods: what is beyond the CPU of the samples, by a run without
    rules."""
    of_samples = figures["taken"] * scraped["cpu of a sample"]
    return (figures["spent"] - of_samples) / figures["rounds"] / (scraped["cpu of a sample"] * figures["kept of a pod"] * figures["targets"])


def text(figures, base=None, scraped=None):
    """The figures as lines; CPU as how many times that of `base`, and of rules by the run without them, `scraped`."""
    f, mega = figures, 1e6
    yield f"{f['targets']:.0f} targets up, {f['of a pod']:.1f} series on a page, {f['kept of a pod']:.1f} kept"
    yield (f"{f['series']:.0f} series in the head, {f['resident'] / mega:.0f} MB resident, {f['heap'] / mega:.0f} MB heap, "
           f"{f['live'] / mega:.0f} MB live: {f['resident'] / f['series']:.0f}, {f['heap'] / f['series']:.0f} and "
           f"{f['live'] / f['series']:.0f} bytes a series")
    compared = "" if base is None else (
        f", {f['cpu of a sample'] / base['cpu of a sample']:.2f} times as much a sample as of Prometheus' own page")
    yield f"{f['samples']:.0f} samples/s, {f['cpu']:.1f} CPU seconds a minute{compared}"
    if f["groups"]:
        compared = "" if scraped is None else f", each at the CPU of {of_rules(f, scraped):.2f} scrapes of all pods"
        yield (f"{f['recorded']:.0f} series recorded, {f['of workloads']:.0f} of workloads, by {f['rounds']:.1f} evaluations"
               f" of all rules{compared}")
        rules = [rule for group in f["groups"] for rule in group["rules"]]
        all_of_them = sum(rule["evaluationTime"] for rule in rules)
        slowest = sorted(rules, key=lambda rule: -rule["evaluationTime"])[:6]
        yield f"evaluated in {all_of_them:.2f} s, of which " + ", ".join(
            f"{rule['evaluationTime'] / all_of_them:.0%} {rule['name']}" for rule in slowest)
    for wrong in f["wrong"]:
        yield f"not evaluated: {wrong}"
