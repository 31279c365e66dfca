"""A fleet of pods: who talks to whom, who is replaced when, and what each one's page says by now.

Time is counted in rounds of the template's traffic. A counter is the template's times the rounds that a pod
or a peer has had, so all sums stay right, as on the page of a real pod: a peer that is gone keeps its
counts until it has been silent for as long as `metricd --show-idle` says.
"""

import random
import re

import template

# As `metricd --show-idle` has it by default.
SHOW_IDLE = 3600
PODS_PER_WORKLOAD = 20
WORKLOADS_PER_NAMESPACE = 10
PODS_PER_NODE = 50
# The Services that all pods ask, in place of the template's.
SERVICES = {template.NAMESERVER: "10.96.0.10", template.DATABASE: "10.96.0.20"}

LINE = re.compile(r"^(\w+)(\{.*\})? (\S+)$")
PEER = re.compile(r'"10\.99\.([12])\.(\d+)"')
PORT = re.compile(r'src_port="(\d+)"')
# Their value is of the pod, however much traffic there was.
STILL = {"linkerd_ebpf_map_capacity", "linkerd_ebpf_map_entries"}


class Line:
    """A line of the template. Its text has {pod}, {peer} and {port} in place of what differs from pod to pod."""

    def __init__(self, line, is_counter):
        name, labels, value = LINE.match(line).groups()
        labels = labels or ""
        peer = PEER.search(labels)
        self.slot = None
        if peer:
            port = PORT.search(labels)
            self.slot = (peer[1] == "2", int(peer[2]) - 1, port and port[1])
            labels = PEER.sub('"\1"', labels)
            labels = PORT.sub('src_port="\2"', labels)
        for there, here in SERVICES.items():
            labels = labels.replace(f'"{there}"', f'"{here}"')
        self.before, *rest = (name + labels).split(f'"{template.POD}"')
        self.after = rest[0] if rest else None
        self.is_counter = is_counter and name not in STILL
        self.value = int(value) if value.isdecimal() else float(value)


class Page:
    """The template as its lines."""

    def __init__(self, text):
        self.lines, kinds = [], {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, family, kind = line.split(" ")
                kinds[family] = kind
            if line.startswith("#"):
                self.lines.append(line)
                continue
            family = re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split(" ")[0])
            kind = kinds.get(family) or kinds[line.split("{")[0].split(" ")[0]]
            self.lines.append(Line(line, kind != "gauge"))
        self.slots = sorted({line.slot for line in self.lines if isinstance(line, Line) and line.slot}, key=str)
        self.clients, self.servers = (1 + max([which for is_server, which, _ in self.slots if is_server == of], default=-1)
                                      for of in (False, True))

    def series(self):
        return sum(isinstance(line, Line) for line in self.lines)

    def write(self, pod, rounds):
        """The text of a pod's page after so many rounds."""
        address = f'"{pod.address}"'
        out = []
        for line in self.lines:
            if line.__class__ is str:
                out.append(line)
                continue
            text = line.before if line.after is None else line.before + address + line.after
            if line.slot is None:
                out.append(f"{text} {line.value * rounds if line.is_counter else line.value}")
                continue
            for peer, port, first, last in pod.peers[line.slot]:
                had = (rounds if last is None else last) - first
                if had > 0:
                    value = line.value * had if line.is_counter else line.value
                    out.append(f"{text} {value}".replace("\1", peer).replace("\2", port))
        return "\n".join(out) + "\n"


class Pod:
    """Its peers are kept by slot, which is a peer of the template: for each slot those that have had it, in turn."""

    def __init__(self, fleet, number, generation, born):
        self.number, self.born = number, born
        self.address = fleet.addresses[number]
        self.workload = number // PODS_PER_WORKLOAD
        self.namespace = f"team-{self.workload // WORKLOADS_PER_NAMESPACE}"
        self.deployment = f"app-{self.workload}"
        self.replica_set = f"{self.deployment}-5d8f7c9b4"
        self.name = f"{self.replica_set}-{number:05x}-{generation}"
        self.generation = generation
        self.node = f"node-{number // PODS_PER_NODE}"
        # A pod asks and is asked by those that the one before it has asked, as fast.
        dice = random.Random(number)
        self.rate = dice.uniform(0.2, 2)
        self.clients = dice.sample(range(fleet.size), fleet.page.clients)
        servers = dice.sample(range(max(fleet.workloads, fleet.page.servers)), fleet.page.servers)
        self.peers = {}
        for slot in fleet.page.slots:
            is_server, which, port = slot
            address = service(servers[which]) if is_server else fleet.addresses[self.clients[which]]
            self.peers[slot] = [(address, fleet.new_port() if port else "", 0, None)]

    def rounds(self, now):
        return int((now - self.born) * self.rate)

    def change(self, slot, address, port, rounds):
        """Another peer has the slot from now on; those that are silent for too long are left off the page."""
        before, now_silent = self.peers[slot][-1], rounds - int(SHOW_IDLE * self.rate)
        gone = self.peers[slot][:-1] + [(*before[:3], rounds)]
        self.peers[slot] = [peer for peer in gone if peer[3] >= now_silent] + [(address, port, rounds, None)]


class Fleet:
    """Each hour a share of the pods is replaced, and each connection so many times by another one, with another port."""

    def __init__(self, page, size, churn, reconnect, now):
        self.page, self.size, self.churn, self.reconnect = page, size, churn, reconnect
        self.workloads = -(-size // PODS_PER_WORKLOAD)
        self.ports, self.replaced, self.reconnected = 0, 0, 0
        self.dice = random.Random(1)
        self.addresses = [address(number) for number in range(size)]
        # All are as old as a peer that is silent is shown, and have seen as many go as that takes.
        self.pods = [Pod(self, number, 0, now - SHOW_IDLE) for number in range(size)]
        self.asked_by = {}
        for pod in self.pods:
            for which, client in enumerate(pod.clients):
                self.asked_by.setdefault(client, []).append((pod.number, which))
            self.had_before(pod, now)
        self.by_address = {pod.address: pod for pod in self.pods}
        self.began = now

    def had_before(self, pod, now):
        rounds, gone = pod.rounds(now), 0
        for slot, [peer] in list(pod.peers.items()):
            is_server, _, port = slot
            expected = (0 if is_server else self.churn) + (self.reconnect if port else 0)
            for _ in range(int(expected) + (self.dice.random() < expected % 1)):
                gone += 1
                other = peer[0] if port else address(1 << 22 | pod.number << 6 | gone % 64)
                before = pod.peers[slot][-1]
                since = self.dice.randrange(before[2], rounds + 1)
                pod.peers[slot][-1:] = [(other, self.new_port() if port else "", before[2], since), (*peer[:2], since, None)]

    def new_port(self):
        self.ports += 1
        return str(32768 + self.ports % 28232)

    def move(self, now):
        """Replaces what is to be replaced by now."""
        hours = (now - self.began) / 3600
        while self.replaced < int(hours * self.churn * self.size):
            self.replaced += 1
            self.replace(self.dice.randrange(self.size), now)
        ports = [slot for slot in self.page.slots if slot[2]]
        while self.reconnected < int(hours * self.reconnect * self.size * len(ports)):
            self.reconnected += 1
            pod, slot = self.dice.choice(self.pods), self.dice.choice(ports)
            pod.change(slot, pod.peers[slot][-1][0], self.new_port(), pod.rounds(now))

    def replace(self, number, now):
        """A pod goes, another one comes in its place, and whoever it asks has a peer more."""
        old = self.pods[number]
        del self.by_address[old.address]
        self.addresses[number] = address(self.size + self.replaced)
        new = self.pods[number] = Pod(self, number, old.generation + 1, now)
        self.by_address[new.address] = new
        for asked, which in self.asked_by.get(number, ()):
            pod = self.pods[asked]
            for slot in self.page.slots:
                if slot[:2] == (False, which) and pod is not new:
                    pod.change(slot, new.address, self.new_port() if slot[2] else "", pod.rounds(now))

    def still(self):
        self.churn = self.reconnect = 0

    def series(self, now):
        """How many series the pods' pages have, all in all."""
        a_slot = {slot: sum(isinstance(line, Line) and line.slot == slot for line in self.page.lines) for slot in self.page.slots}
        of_pod = self.page.series() - sum(a_slot.values())
        seen = lambda pod, peers: sum((pod.rounds(now) if last is None else last) > first for _, _, first, last in peers)
        return sum(of_pod + sum(a_slot[slot] * seen(pod, peers) for slot, peers in pod.peers.items()) for pod in self.pods)


def address(number):
    """127.1.0.1 and on: the pods' addresses are of the loopback, so that each is there without being made."""
    number += (1 << 16) + 1
    return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def service(workload):
    """The address of a workload's Service, which those that ask it see."""
    return f"10.96.{1 + workload // 250}.{1 + workload % 250}"
