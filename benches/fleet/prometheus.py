"""Debian's Prometheus over a fleet, with the jobs, rules and alerts that are shipped."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

MANIFESTS = Path(__file__).parents[2] / "manifests/prometheus"
CLUSTER = "  kubernetes_sd_configs:\n  - role: pod\n"
HERE = "  http_sd_configs:\n  - url: http://127.0.0.1:8080/pods\n    refresh_interval: {interval}\n"


def rules():
    """All files of rules that are shipped."""
    return [path for path in sorted(MANIFESTS.glob("*.yaml")) if re.search(r"^groups:", path.read_text(), re.MULTILINE)]


def configuration(job, interval, with_rules):
    """The shipped file `job` as it is, but that pods are found by what the simulator says of them; without a
    job, they are scraped as anybody's."""
    text = f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n"
    found = HERE.format(interval=interval)
    if job is None:
        scrape = f"scrape_configs:\n- job_name: pages\n{found}" + (
            "  relabel_configs:\n"
            "  - {source_labels: [__meta_kubernetes_pod_container_port_name], action: keep, regex: metricd-admin}\n")
    else:
        if with_rules:
            text += "rule_files:\n" + "".join(f"- {path}\n" for path in rules())
        shipped = (MANIFESTS / job).read_text()
        if CLUSTER not in shipped:
            raise SystemExit(f"benches/fleet: {job} has no kubernetes_sd_configs of the role pod, as scrape.yaml has them")
        scrape = shipped.replace(CLUSTER, found) + (
            "- job_name: kube-state-metrics\n"
            "  honor_labels: true\n"
            "  static_configs: [{targets: ['127.0.0.1:8080']}]\n")
    return text + scrape


class Prometheus:
    """One that runs until it is left, with its data below `folder`."""

    def __init__(self, folder, job, interval, with_rules=True, port=9090):
        self.log, self.address = Path(folder, "prometheus.log"), f"127.0.0.1:{port}"
        config = Path(folder, "prometheus.yml")
        config.write_text(configuration(job, interval, with_rules))
        self.command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                        f"--web.listen-address={self.address}"]

    def __enter__(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self.wait(lambda: self.text("/-/ready") is not None, 60, "it is ready")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def wait(self, is_so, seconds, what):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"benches/fleet: Prometheus has ended:\n{self.log.read_text()[-2000:]}")
            try:
                if is_so():
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise SystemExit(f"benches/fleet: waited {seconds} s for Prometheus until {what}")

    def text(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=120) as answer:
            return answer.read().decode()

    def own(self):
        """Its own metrics, each added up over its labels; of quantiles there is no such sum."""
        sums = {}
        for line in self.text("/metrics").splitlines():
            if not line.startswith("#") and "quantile=" not in line:
                name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
                sums[name] = sums.get(name, 0) + float(value)
        return sums

    def query(self, expression):
        """The value of an expression that is one number; 0, if nothing is there to add up."""
        [value] = self.by(expression).values() or [0.0]
        return value

    def by(self, expression, label=None):
        """The values of an expression by a label."""
        answer = json.loads(self.text("/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        return {one["metric"].get(label): float(one["value"][1]) for one in answer["data"]["result"]}

    def groups(self):
        """The groups of rules, with how long their last evaluation took, and what went wrong in any."""
        groups = json.loads(self.text("/api/v1/rules"))["data"]["groups"]
        wrong = [f"{rule['name']}: {rule['lastError']}" for group in groups for rule in group["rules"] if rule.get("lastError")]
        return groups, wrong
