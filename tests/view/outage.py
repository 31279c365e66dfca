"""An outage: a server that answers one request in ten, while the clients of the others give up. All who look
at it see as much."""

import subprocess
from contextlib import contextmanager

import dashboard
from page import Page
from pod import Pod, eventually
from prometheus import Prometheus
from top import Terminal

PORT = 8080
# Answers the tenth request, and each tenth after it. It keeps the others waiting until their clients close.
SERVER = f"""
import itertools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    numbers = itertools.count(1)

    def do_GET(self):
        if next(self.numbers) % 10 == 0:
            self.send_response(200)
            self.end_headers()
        else:
            self.connection.recv(1)

ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""
# Between two bounds of the histogram, half a second and a second.
PATIENCE = 0.7
# By the rule of histogram_quantile: of 20 requests, two lie below half a second, the others in that bucket.
P99_MS = 1000 * (0.5 + 0.5 * (0.99 * 20 - 2) / 18)


def strike(pod):
    """20 requests, of which 18 are given up."""
    pod.start_inside("python3", "-c", SERVER)
    eventually(lambda: pod.can("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"), "the server listens")
    answers = [
        subprocess.run(["nsenter", f"--net=/run/netns/{pod.client_netns}", "curl", "-s", "--max-time", str(PATIENCE), f"http://{pod.ADDRESS}:{PORT}/"]).returncode
        for _ in range(20)
    ]
    # 28: curl's for a time-out.
    assert answers == 2 * [*9 * [28], 0], answers
    eventually(lambda: pod.sum("linkerd_ebpf_requests_aborted_total") == 18, "18 are aborted")


def stat(pod):
    shown = pod.stat()
    [inbound] = [row for row in shown["directions"] if row["direction"] == "inbound"]
    [server], [peer] = shown["servers"], [row for row in shown["peers"] if row["port"] == str(PORT)]
    for row in (inbound, server, peer):
        counts = [row[name] for name in ("success", "requests", "requests_aborted", "requests_stopped", "responses_unclassified")]
        assert counts == [0.1, 20, 18, 0, 0], row
    for row in (inbound, server):
        assert abs(row["latency_ms_p99"] - P99_MS) < 1e-6, row
    lines = pod.cli("stat", "--total").splitlines()
    [line] = [line.split() for line in lines if line.split()[1:3] == [str(PORT), "http1"]]
    assert line[3:6] == ["10.00%", "20", "18"] and line[-1] == f"{P99_MS:.0f}ms", lines


@contextmanager
def top(pod):
    """To be used with `with` around the outage: what was before top was started is not in its window."""
    terminal = Terminal(pod.inside(pod.bin / "linkerd-metricd", "top", "--window", "1h", "--every", "100ms"))
    try:
        terminal.shows(lambda text: "counting" in text, "that it counts")
        yield
        terminal.shows(lambda text: "10.00% 18 aborted" in text, "the outage")
        rows = [line.split() for line in terminal.text().splitlines() if f" {PORT} " in line]
        assert len(rows) == 2 and all("10.00%" in row and "18" in row for row in rows), terminal.text()
        assert f"{P99_MS:.0f}ms" in rows[0], rows
    finally:
        terminal.close()


def page(chromium):
    shown = Page(chromium)
    shown.choose("all the time")
    shown.shows(lambda p: p.tile("requests") == "20", "20 requests")
    tiles = [shown.tile(name) for name in ("success", "aborted", "in flight", "p99")]
    assert tiles == ["10.00%", "18", "0", f"{P99_MS:.0f} ms"], tiles
    [server] = shown.rows("servers")
    assert server[:2] + server[-6:] == [str(PORT), "http1", "10.00%", "20", "18", *server[-3:-1], f"{P99_MS:.0f} ms"], server
    [peer] = [row for row in shown.rows("peers") if row[:2] == [Pod.CLIENT, str(PORT)]]
    assert peer[3:6] == ["10.00%", "20", "18"], peer
    shown.page.close()


def prometheus(scraper):
    """What the rules, the dashboard and the alerts make of it."""
    inbound = {"namespace": "shop", "workload": "web", "direction": "inbound"}

    def is_near(samples, expected):
        found = [value for labels, value in samples if inbound.items() <= labels.items()]
        return len(found) == 1 and abs(found[0] - expected) < 1e-9

    eventually(lambda: is_near(scraper.query("metricd:workload_success:ratio_rate5m"), 0.1), "a success of a tenth by the rules")
    [success] = dashboard.of_panel("Success")
    assert is_near(scraper.query(success), 0.1), scraper.query(success)
    [*_, p99] = dashboard.of_panel("Latency of what comes in")
    [(_, seconds)] = scraper.query(p99)
    assert 0.5 < seconds <= 1, seconds
    # The long window of the alert is told of at each full minute.
    firing = eventually(lambda: scraper.query('ALERTS{alertname="MetricdWorkloadErrors", alertstate="firing", severity="critical"}'), "an alert", patience=90)
    assert [inbound.items() <= labels.items() for labels, _ in firing] == [True], firing


def seen(pod, chromium):
    scraper = Prometheus(pod)
    # A rate takes two scrapes before.
    eventually(lambda: scraper.query('metricd:workload_pod_requests:rate5m{direction="inbound"}'), "the rules have a rate")
    with top(pod):
        strike(pod)
    stat(pod)
    page(chromium)
    prometheus(scraper)
