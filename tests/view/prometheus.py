"""A Prometheus in the pod's namespace, which scrapes the pod by the rules and alerts that are shipped."""

import json
import pathlib
import subprocess
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]

# As kube-state-metrics has it.
CLUSTER = """
kube_pod_info{namespace="shop",pod="web-1",pod_ip="10.99.0.1",host_ip="10.0.0.1",host_network="false",created_by_kind="ReplicaSet",created_by_name="web-abc"} 1
kube_pod_status_phase{namespace="shop",pod="web-1",phase="Running"} 1
kube_replicaset_owner{namespace="shop",replicaset="web-abc",owner_kind="Deployment",owner_name="web",owner_is_controller="true"} 1
kube_service_info{namespace="shop",service="api",cluster_ip="10.99.0.2"} 1
""".lstrip()

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{root}/manifests/prometheus/rules.yaml", "{root}/manifests/prometheus/alerts.yaml", "{root}/manifests/prometheus/workload-alerts.yaml"]
scrape_configs:
- job_name: metricd
  static_configs: [{{targets: ["127.0.0.1:4191"], labels: {{namespace: shop, pod: web-1}}}}]
- job_name: cluster
  honor_labels: true
  metrics_path: /cluster
  static_configs: [{{targets: ["127.0.0.1:80"]}}]
"""


class Prometheus:
    """One that ends with the pod."""

    def __init__(self, pod):
        self.pod = pod
        (pod.tmp / "cluster").write_text(CLUSTER)
        (pod.tmp / "prometheus.yml").write_text(CONFIG.format(root=ROOT))
        pod.start_inside("prometheus", f"--config.file={pod.tmp}/prometheus.yml", f"--storage.tsdb.path={pod.tmp}/tsdb", "--web.listen-address=127.0.0.1:9090")

    def ask(self, path, **parameters):
        """What the API has to say; none, while it is not there."""
        url = f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        answer = subprocess.run(self.pod.inside("curl", "-s", url), capture_output=True, text=True).stdout
        return json.loads(answer).get("data") if answer.startswith("{") else None

    def query(self, expression):
        """The samples now: labels and value."""
        data = self.ask("query", query=expression) or {}
        return [(sample["metric"], float(sample["value"][1])) for sample in data.get("result", [])]
