"""The Grafana dashboard: each of its queries has an answer, from a Prometheus that scrapes a pod."""

import json
import math
import re
import signal
import subprocess
import threading
import time

from pod import Pod, run
from prometheus import ROOT, Prometheus

DASHBOARD = json.loads((ROOT / "manifests/grafana/linkerd-metricd.json").read_text())
# What Grafana puts in, with all of everything chosen.
VARIABLES = {"$namespace": ".*", "$workload": ".*", "$pod": ".*", "$__rate_interval": "1m"}

# A query for the address of a.test, RFC 1035 section 4, as printf takes it.
QUERY = r"\0\7\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1"


def panels():
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", [])


def is_well_made():
    """What Grafana takes for granted, by the model of its version 11."""
    assert DASHBOARD["schemaVersion"] >= 39 and DASHBOARD["uid"] and DASHBOARD["title"]
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)), "ids are there twice"
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, f"{panel['title']} lies upon another"
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            refs = [target["refId"] for target in panel["targets"]]
            assert refs and len(refs) == len(set(refs)), panel["title"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) - {"__rate_interval"}
    assert used == variables, (used, variables)


class Traffic:
    """Of all kinds that there are metrics of, until it is stopped."""

    def __init__(self, pod):
        self.pod = pod
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.resolver = subprocess.Popen([
            "nsenter", f"--net=/run/netns/{self.pod.client_netns}", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
            "--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={self.pod.CLIENT}", "--address=/test/10.0.0.1"])
        self.thread.start()

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self.resolver.terminate()
        self.resolver.wait()

    def client(self, *command):
        subprocess.run(["nsenter", f"--net=/run/netns/{self.pod.client_netns}", *command], capture_output=True)

    def run(self):
        pod, tries = self.pod, 0
        while not self.stopped.is_set():
            tries += 1
            pod.ask("/users/1")
            pod.ask("/fail")
            self.client("curl", "-sk", "-o", "/dev/null", f"https://{pod.ADDRESS}:8443/")
            # Given up, TLS where there is none, and no HTTP after a request.
            self.client("curl", "-s", "-o", "/dev/null", "--max-time", "0.1", f"http://{pod.ADDRESS}/slow")
            self.client("curl", "-sk", f"https://{pod.ADDRESS}/")
            self.client("bash", "-c", f"exec 3<>/dev/tcp/{pod.ADDRESS}/80; printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; sleep 0.1; printf '\\1\\2\\3 no\\r\\n\\r\\n' >&3; sleep 0.1")
            subprocess.run(pod.inside("curl", "-s", "-o", "/dev/null", f"http://{pod.CLIENT}:8000/"), capture_output=True)
            subprocess.run(pod.inside("dig", "+tries=1", "+time=1", f"@{pod.CLIENT}", "a.test"), capture_output=True)
            if tries == 1:
                # A query that is sent again, since nobody answers.
                self.resolver.send_signal(signal.SIGSTOP)
                again = f"printf '{QUERY}' >&3; printf '{QUERY}' >&3"
                subprocess.run(pod.inside("bash", "-c", f"exec 3<>/dev/udp/{pod.CLIENT}/53; {again}"))
                self.resolver.send_signal(signal.SIGCONT)
                # A SYN that nobody answers is sent again after a second.
                self.client("ip", "route", "add", "blackhole", f"{pod.ADDRESS}/32")
                subprocess.run(pod.inside("curl", "-s", "--max-time", "1.5", f"http://{pod.CLIENT}:8000/"), capture_output=True)
                self.client("ip", "route", "del", "blackhole", f"{pod.ADDRESS}/32")
            self.stopped.wait(0.2)


def filled_in(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def of_panel(title):
    """The queries of a panel."""
    [panel] = [panel for panel in panels() if panel["title"] == title]
    return [filled_in(target["expr"]) for target in panel["targets"]]


def queries(binaries, proxy):
    with Pod(binaries, "--routes", "20", "--interface", "eth0,lo", l7=True) as pod:
        tmp = pod.tmp
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=pod", "-days", "2", "-keyout", tmp / "key.pem", "-out", tmp / "cert.pem")
        pod.start_inside("env", f"METRICD_L7_FILE={tmp}/l7", proxy, "--listen", "[::]:8443", "--cert", tmp / "cert.pem", "--key", tmp / "key.pem", "--upstream", "127.0.0.1:80")
        pod.processes.append(subprocess.Popen(["nsenter", f"--net=/run/netns/{pod.client_netns}", "python3", "-m", "http.server", "-d", tmp, "8000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        prometheus = Prometheus(pod)

        def answered(expression):
            return any(math.isfinite(value) for _, value in prometheus.query(filled_in(expression)))

        with Traffic(pod):
            missing = {}
            deadline = time.monotonic() + 120
            for panel in panels():
                for target in panel.get("targets", []):
                    missing[panel["title"], target["expr"]] = target["expr"]
            count = len(missing)
            while missing and time.monotonic() < deadline:
                missing = {key: expression for key, expression in missing.items() if not answered(expression)}
                time.sleep(1)
            assert not missing, "no data for " + json.dumps(sorted(map(list, missing)), indent=2)
        for variable in DASHBOARD["templating"]["list"]:
            if match := re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", "")):
                series = prometheus.ask("series", **{"match[]": match[1].replace("$namespace", ".*")})
                assert any(one.get(match[2]) for one in series), variable
        return count
