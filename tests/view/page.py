"""The sidecar's page, in headless Chromium."""

import json
import pathlib
import re
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

from pod import Pod, eventually

# Without these it asks for hosts of its maker, which this is not about.
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
URL = "http://localhost:4191/"


@contextmanager
def browser(pod):
    """Chromium in the pod's namespace, as if by kubectl port-forward."""
    wrapper = pod.tmp / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{pod.netns} /usr/bin/chromium "$@"\n')
    wrapper.chmod(0o755)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(wrapper), args=ARGS)
        try:
            yield chromium
        finally:
            chromium.close()


class Page:
    """One that is looked at, with what it asked for and complained of."""

    def __init__(self, chromium, url=URL, scheme="light", width=1100):
        self.page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.response = self.page.goto(url)

    def text(self, selector):
        return self.page.inner_text(selector)

    def tile(self, name):
        return self.text(f'dd[data-name="{name}"]')

    def rows(self, table):
        rows = self.page.query_selector_all(f"#{table} tbody tr")
        return [[cell.inner_text() for cell in row.query_selector_all("td")] for row in rows]

    def choose(self, text):
        self.page.click(f"form >> text={text}")

    def shows(self, is_so, what):
        return eventually(lambda: is_so(self), f"the page shows {what}")


def empty(pod, chromium):
    page = Page(chromium)
    page.shows(lambda p: p.text("#state") == "counting", "that it counts")
    page.choose("all the time")
    page.shows(lambda p: p.tile("requests") == "0" and p.tile("p50") == "–", "no requests")
    assert page.rows("servers") == [["no requests so far"]], page.rows("servers")
    page.page.close()


def numbers(pod, chromium):
    """What the page shows is what curl reads."""
    page = Page(chromium)
    page.choose("all the time")
    pod.ask("/", 60)
    pod.ask("/users/7", 40, source=Pod.OTHER_CLIENT)
    pod.ask("/missing", 10)
    pod.ask("/fail", 5)
    eventually(lambda: pod.sum("linkerd_ebpf_responses_total") == 115, "all is counted")
    page.shows(lambda p: p.tile("requests") == "115", "115 requests")
    failures = pod.sum("linkerd_ebpf_responses_total", status="503")
    assert page.tile("success") == f"{100 * (115 - failures) / 115:.2f}%" == "95.65%", page.tile("success")
    stat = pod.stat()

    shown = {(port, protocol, route): rest for port, protocol, route, *rest in page.rows("servers")}
    assert len(shown) == len(stat["servers"]) == 4, shown
    for server in stat["servers"]:
        key = server["port"], server["protocol"], server["route"]
        requests = pod.sum("linkerd_ebpf_requests_total", route=server["route"])
        success, count, aborted, *latencies = shown[key]
        assert (success, count, aborted) == (f"{100 * server['success']:.2f}%", f"{requests:.0f}", "0"), shown[key]
        for latency, p in zip(latencies, (50, 95, 99), strict=True):
            assert is_rounded(latency, server[f"latency_ms_p{p}"]), (key, p, latency, server)
    peers = {row[0]: row for row in page.rows("peers") if row[2] == "tcp"}
    for ip in (Pod.CLIENT, Pod.OTHER_CLIENT):
        assert peers[ip][4] == f"{pod.sum('linkerd_ebpf_requests_total', src_ip=ip):.0f}", peers
    for tile, metric, labels in (("opened", "opened", {}), ("closed", "closed", {"reason": "fin"})):
        count = pod.sum(f"linkerd_ebpf_connections_{metric}_total", direction="inbound", proto="tcp", **labels)
        assert page.tile(tile) == f"{count:.0f}" == "115", page.tile(tile)
    # Packets of the network itself make series, too.
    entries = lambda p: all(row[1] == f"{pod.sum('linkerd_ebpf_map_entries', map=row[0]):.0f}" for row in p.rows("maps"))
    page.shows(entries, "as many entries as there are")
    assert page.text("#verdict") and "whole" in page.text("#verdict")
    page.choose("go out")
    page.shows(lambda p: p.tile("requests") == "0", "that none went out")
    page.choose("come in")
    page.choose("10 s")
    page.shows(lambda p: p.page.query_selector("#rate svg"), "a chart")
    pod.ask("/", 50)
    page.shows(lambda p: float(p.tile("requests/s")) > 0, "a rate")
    assert "up to" in page.page.get_attribute("#latency svg", "aria-label")
    keeps_to_itself(page)
    page.page.close()


def definition(pod, chromium):
    """A success is what the cases say, as in the CLI's unit tests."""
    page = Page(chromium)
    for case in json.loads((pathlib.Path(__file__).parent / "success.json").read_text()):
        found = page.page.evaluate("""([text, of]) => {
            const t = read(text), first = rows => [...rows.values()][0];
            const rows = { total: totalOf(t, null, "inbound"), server: first(t.servers), peer: first(t.peers) };
            return of.map(name => [successRate(rows[name]), rows[name].aborted]);
        }""", ["\n".join(case["metrics"]), case["of"]])
        for success, aborted in found:
            is_close = success == case["success"] or abs(success - case["success"]) < 1e-9
            assert is_close and aborted == case["aborted"], (case, found)
    page.page.close()


def is_rounded(shown, ms):
    """Whether a latency as it is shown is that many milliseconds."""
    number, unit = shown.split()
    scale = {"µs": 1e-3, "ms": 1, "s": 1e3}[unit]
    digit = 0.1 if "." in number else 1
    return abs(float(number) * scale - ms) <= 0.501 * digit * scale


def keeps_to_itself(page):
    """Nothing but its own server is asked, and nothing else may be."""
    assert page.asked and all(url.startswith(URL) for url in page.asked), page.asked
    assert page.complaints == [], page.complaints
    policy = page.response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "connect-src 'self'" in policy, policy
    tried = page.page.evaluate("fetch('http://127.0.0.1:80/').then(() => 'went out', () => 'refused')")
    assert tried == "refused", tried
    inline = page.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s); return window.foreign }"
    )
    assert inline is None, "a script that is not its own runs"


def down(pod, chromium):
    """A sidecar that has nothing to read says so, with the reason; one that is gone is not shown as well."""
    nothing = pod.tmp / "nothing"
    nothing.mkdir()
    sidecar = pod.serve(nothing, 4195)
    page = Page(chromium, "http://localhost:4195/")
    page.shows(lambda p: p.text("#state") == "not counting", "that nothing is counted")
    assert "waiting for metricd-init" in page.text("#problem"), page.text("#problem")
    page.shows(lambda p: "not whole: nothing is counted" in p.text("#verdict"), "the same as its verdict")
    sidecar.kill()
    page.shows(lambda p: p.text("#state") == "no answer", "that nobody answers")
    page.page.close()


def narrow(pod, chromium):
    """On a telephone, and zoomed in, nothing is beyond the edge."""
    for width in (320, 700, 1600):
        page = Page(chromium, width=width)
        page.shows(lambda p: p.tile("in flight") != "", "its tiles")
        wide = page.page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{wide} pixels on {width}"
        page.page.close()


def pictures(pod, chromium, folder):
    """For the README: some traffic, and what there is to see of it."""
    pages = {scheme: Page(chromium, scheme=scheme, width=1060) for scheme in ("light", "dark")}
    for i in range(260):
        pod.ask("/", 1 + i // 20 % 3)
        pod.ask(f"/users/{i}", source=Pod.OTHER_CLIENT)
        if i % 9 == 0:
            pod.ask("/fail")
        if i % 60 == 0:
            pod.ask("/slow")
    for scheme, page in pages.items():
        page.shows(lambda p: re.search("whole", p.text("#verdict")), "its verdict")
        page.page.screenshot(path=folder / f"page-{scheme}.png", full_page=True)
