"""benches/compare: what it costs to count requests, by several ways, each in turn with nothing.

Needs root, two CPUs, and what `make bench-short` installs and builds.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import report
from check import check
from growth import growth
from peers import peers
from pod import Pod
from turns import pairs, programs
from workloads import ALL

STEPS = ("check", "pairs", "programs", "growth", "peers", "report")


def machine():
    """What the figures are of."""
    first = lambda text, key: next(line for line in text.splitlines() if line.startswith(key)).partition(":")[2].strip()
    said = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.strip()
    memory = int(first(Path("/proc/meminfo").read_text(), "MemTotal").split()[0]) / 1e6
    packages = said("dpkg-query", "-W", "-f", "${Package} ${Version}, ", "nginx-light", "haproxy").strip(", ")
    return {
        "processor": f"{first(Path('/proc/cpuinfo').read_text(), 'model name')}, {said('nproc')} virtual CPUs",
        "memory": f"{memory:.0f} GB",
        "kernel": platform.release(),
        "packages": packages,
        "revision": said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"),
        "begun": time.strftime("%Y-%m-%d"),
    }


def missing(bin):
    """What can't be found of what is run."""
    ours = [bin / name for name in ("metricd-init", "metricd", "examples/bench-load", "examples/bench-article")]
    others = ("nginx", "haproxy", "iptables", "bpftool", "clang", "tc", "wrk", "h2load", "setpriv", "taskset", "nsenter")
    return [str(path) for path in ours if not path.exists()] + [name for name in others if not shutil.which(name)]


def main():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} [default: all but check]")
    parser.add_argument("--bin", type=Path, default="target/release", help="the folder of the binaries")
    parser.add_argument("--out", type=Path, default="docs/benchmarks", help="where the rows are; runs go on there")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of each workload and contestant")
    parser.add_argument("--seconds", type=float, default=3, help="seconds of each run")
    parser.add_argument("--only", help="one workload, for example http,open")
    args = parser.parse_args()
    steps = args.steps or STEPS[1:]
    if unknown := set(steps) - set(STEPS):
        parser.error(f"no step is called {', '.join(unknown)}: choose from {', '.join(STEPS)}")
    only = [w for w in ALL if args.only in (None, f"{w.name},{w.mode}")]
    if not only:
        parser.error(f"no workload is called {args.only}: choose from {' '.join(f'{w.name},{w.mode}' for w in ALL)}")
    bin = args.bin.resolve()
    if measured := [step for step in steps if step != "report"]:
        if gone := missing(bin):
            parser.error(f"not found: {', '.join(gone)}; `make bench-short` installs and builds them")
        if os.geteuid() or os.cpu_count() < 2:
            parser.error("needs root, for namespaces and BPF, and two CPUs")
        about = json.dumps(machine(), indent=2) + "\n"
        if steps != ["check"]:
            args.out.mkdir(parents=True, exist_ok=True)
            if not (args.out / "pairs.csv").exists():
                (args.out / "machine.json").write_text(about)
        with Pod() as pod:
            few = max(1, args.pairs // 4)
            for step in measured:
                if step == "check":
                    check(pod, bin, about)
                elif step == "pairs":
                    pairs(pod, bin, args.out, args.pairs, args.seconds, only)
                elif step == "programs":
                    programs(pod, bin, args.out, few, args.seconds, only)
                elif step == "growth":
                    growth(pod, bin, args.out, few, args.seconds)
                elif step == "peers":
                    peers(pod, bin, args.out, few, args.seconds)
    if "report" in steps:
        report.write(args.out)


if __name__ == "__main__":
    main()
