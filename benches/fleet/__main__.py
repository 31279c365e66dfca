"""What a fleet of pods costs the Prometheus that scrapes them. docs/scale.md has what it has shown.

As root: the page that all pods have is what metricd writes of real traffic in a network namespace. Then so many
pods' pages are served at addresses of the loopback, in a namespace of their own, and Prometheus scrapes them with
the shipped job, without and with the shipped rules and alerts. What it takes for a sample is compared with what one
of its own page takes, which is served and scraped before.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import template
from measure import run, text
from pods import Fleet, Page
from prometheus import Prometheus


def main():
    parser = argparse.ArgumentParser(prog="benches/fleet", description=__doc__)
    parser.add_argument("pods", type=int)
    parser.add_argument("detail", choices=("pod", "service", "full"))
    parser.add_argument("--bin", type=Path, default="target/release", help="the folder of the binaries [target/release]")
    parser.add_argument("--job", default="scrape.yaml", help="a file in manifests/prometheus [scrape.yaml]")
    parser.add_argument("--without-baseline", action="store_true", help="not Prometheus' own page")
    parser.add_argument("--without-scraping", action="store_true", help="not the run without rules")
    parser.add_argument("--without-rules", action="store_true", help="not the run with rules")
    parser.add_argument("--clients", type=int, default=3, help="who ask a pod [3]")
    parser.add_argument("--servers", type=int, default=2, help="whom a pod asks [2]")
    parser.add_argument("--churn", type=float, default=0.1, help="share of the pods that is replaced in an hour [0.1]")
    parser.add_argument("--reconnect", type=float, default=1, help="how often a connection is replaced in an hour, for --detail full [1]")
    parser.add_argument("--interval", type=int, default=30, help="seconds between two scrapes of a pod [30]")
    parser.add_argument("--scrapes", type=int, default=3, help="how many of each pod are measured [3]")
    args = parser.parse_args()
    # So that what was begun is ended, and what was written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benches/fleet: stopped"))
    page = Page(template.page(args.bin.resolve(), args.detail, args.clients, args.servers))
    template.leave()
    fleet = lambda: Fleet(page, args.pods, args.churn, args.reconnect if args.detail == "full" else 0, time.time())
    base = None
    if not args.without_baseline:
        own = own_page()
        # A quarter of the samples of a large fleet tells what one costs, too.
        few = max(1, args.pods * page.series() // own.series() // (4 if args.pods > 500 else 1))
        base = run(Fleet(own, few, 0, 0, time.time()), args, None)
        print(f"Prometheus' own page of {own.series()} series, {few} times", *text(base), sep="\n  ", flush=True)
    print(f"{args.pods} pods, --detail {args.detail}, {args.clients} clients and {args.servers} servers each, by {args.job}")
    scraped = None
    if not args.without_scraping:
        scraped = run(fleet(), args, args.job)
        print("without rules", *text(scraped, base), sep="\n  ", flush=True)
    if not args.without_rules:
        print("with rules", *text(run(fleet(), args, args.job, with_rules=True), base, scraped), sep="\n  ", flush=True)


def own_page():
    """What Prometheus writes of itself, a page as many programs have one."""
    with tempfile.TemporaryDirectory(prefix="metricd-fleet-") as folder, Prometheus(folder, None, "5s") as prometheus:
        return Page(prometheus.text("/metrics"))


main()
