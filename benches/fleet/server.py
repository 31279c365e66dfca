"""What a Prometheus in a cluster asks: each pod's page at its own address, the API server's list of pods, here
in the form that http_sd_configs read, and kube-state-metrics. One process, which serves prepared text."""

import asyncio
import json
import time

from pods import service

METRICS, DISCOVERY = 4191, 8080
# A Prometheus sees a pod's addresses and its container's ports; metricd's is one of them.
PORTS = {"http": 80, "metricd-admin": METRICS}
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


def discovered(fleet):
    """The pods as kubernetes_sd_configs find them (role: pod): one target for each container's port."""
    return json.dumps([{
        "targets": [f"{pod.address}:{port}"],
        "labels": {
            "__meta_kubernetes_namespace": pod.namespace,
            "__meta_kubernetes_pod_name": pod.name,
            "__meta_kubernetes_pod_node_name": pod.node,
            "__meta_kubernetes_pod_phase": "Running",
            "__meta_kubernetes_pod_ip": pod.address,
            "__meta_kubernetes_pod_container_port_name": name,
        },
    } for pod in fleet.pods for name, port in PORTS.items()])


def kube_state(fleet):
    """What rules.yaml needs of kube-state-metrics. The real one has much more, which costs with and without metricd."""
    lines = []
    for pod in fleet.pods:
        of = f'namespace="{pod.namespace}",pod="{pod.name}",uid="{pod.number:08x}-{pod.generation:04x}"'
        lines.append(f'kube_pod_info{{{of},host_ip="10.1.0.1",pod_ip="{pod.address}",node="{pod.node}",'
                     f'created_by_kind="ReplicaSet",created_by_name="{pod.replica_set}",host_network="false"}} 1')
        lines += [f'kube_pod_status_phase{{{of},phase="{phase}"}} {int(phase == "Running")}' for phase in PHASES]
    for workload in {pod.workload: pod for pod in fleet.pods}.values():
        of = f'namespace="{workload.namespace}"'
        lines.append(f'kube_replicaset_owner{{{of},replicaset="{workload.replica_set}",owner_kind="Deployment",'
                     f'owner_name="{workload.deployment}",owner_is_controller="true"}} 1')
        lines.append(f'kube_service_info{{{of},service="{workload.deployment}",cluster_ip="{service(workload.workload)}"}} 1')
    return "\n".join(lines) + "\n"


class Answers(asyncio.Protocol):
    def __init__(self, fleet):
        self.fleet, self.asked = fleet, b""

    def connection_made(self, transport):
        self.transport = transport
        self.address, self.port = transport.get_extra_info("sockname")

    def data_received(self, data):
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            head, self.asked = self.asked.split(b"\r\n\r\n", 1)
            now = time.time()
            self.fleet.move(now)
            body, kind = self.answer(head.split(b" ")[1], now)
            if body is None:
                return self.transport.close()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body))

    def answer(self, path, now):
        text = b"text/plain; version=0.0.4"
        if self.port == METRICS:
            # Nobody answers for a pod that is gone.
            pod = self.fleet.by_address.get(self.address)
            return pod and self.fleet.page.write(pod, pod.rounds(now)).encode(), text
        if path == b"/pods":
            return discovered(self.fleet).encode(), b"application/json"
        if path == b"/still":
            # Nobody comes or goes any more; how many series there are.
            self.fleet.still()
            return str(self.fleet.series(now)).encode(), text
        return kube_state(self.fleet).encode(), text


async def serve(fleet, ready):
    loop = asyncio.get_running_loop()
    for port in (METRICS, DISCOVERY):
        await loop.create_server(lambda: Answers(fleet), "0.0.0.0", port, backlog=4096)
    ready.send(True)
    await asyncio.Future()
