
"use strict";

const EVERY = 2000;
const DIAGNOSE_EVERY = 10000;
const KEEP = 120;
const ROWS = 50;
const $ = id => document.getElementById(id);

// --- Prometheus' text format ---

const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?/gy;
const unescape = text => text.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);

function* samples(text) {
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const end = line.search(/[{ ]/), labels = {};
    let rest = line.slice(end);
    if (rest[0] === "{") {
      LABEL.lastIndex = 1;
      let at = 1;
      for (let m; (m = LABEL.exec(rest)); at = LABEL.lastIndex) labels[m[1]] = unescape(m[2]);
      rest = rest.slice(at + 1);
    }
    yield { name: line.slice(0, end), labels, value: Number(rest.trim().split(" ")[0].replace("Inf", "Infinity")) };
  }
}

// --- what a success is: docs/looking.md defines it, and src/cli/view/success.rs goes by it, too ---

const GRPC_FAILURES = new Set(["2", "4", "13", "14", "15"]);

// How the requests of a sample ended.
function ended(name, l) {
  switch (name) {
    case "linkerd_ebpf_responses_total":
      if (/^5..$/.test(l.status)) return "failure";
      if (l.protocol !== "grpc") return /^[1-4]..$/.test(l.status) ? "success" : "unclassified";
      if (GRPC_FAILURES.has(l.grpc_status)) return "failure";
      return /^\d+$/.test(l.grpc_status) ? "success" : "unclassified";
    case "linkerd_ebpf_pod_responses_total":
      if (/^([1-4]xx|ok)$/.test(l.status_class)) return "success";
      return /^(5xx|error)$/.test(l.status_class) ? "failure" : "unclassified";
    // Of linkerd_ebpf_requests_aborted_total, and its total.
    default:
      if (l.direction === "other") return "unclassified";
      return { stopped: "stopped", evicted: "unclassified" }[l.reason] ?? "aborted";
  }
}

// Which share was answered without error among all that was answered with a known status or was aborted.
function successRate({ success, failure, aborted }) {
  const all = success + failure + aborted;
  return all ? success / all : null;
}

// --- what a scrape says, added up ---

const COUNTS = ["requests", "success", "failure", "aborted", "unclassified", "stopped", "recv", "sent"];

const counts = () => ({ ...Object.fromEntries(COUNTS.map(name => [name, 0])), active: 0, buckets: new Map() });
const add = (map, key, value) => map.set(key, (map.get(key) ?? 0) + value);
const other = l => l.direction === "outbound" ? l.dst_ip : l.src_ip;

function entry(map, key) {
  const text = JSON.stringify(key);
  if (!map.has(text)) map.set(text, { key, ...counts() });
  return map.get(text);
}

// Those of the pod's proxy with others carry what the application's carry, too: they are never added up.
function connections(t, direction, origin) {
  const key = `${direction}|${origin}`;
  if (!t.l4.has(key)) t.l4.set(key, { counts: new Map(), rtt: new Map() });
  return t.l4.get(key);
}

function read(text) {
  const t = {
    at: performance.now() / 1000, up: null, reason: "", info: {}, byPeer: false,
    // The pod's totals by direction, which an older metricd does not have.
    totals: new Map(), servers: new Map(), peers: new Map(),
    // Of connections, by direction and origin: counters by name, and the buckets of the RTT.
    l4: new Map(), inFlight: new Map(),
    maps: {}, own: {},
  };
  const total = l => entry(t.totals, [l.direction]);
  const server = l => entry(t.servers, [l.direction, l.dst_port, l.protocol, l.route]);
  const peer = l => entry(t.peers, [l.direction, other(l), l.dst_port, l.proto ?? "tcp", l.origin ?? ""]);
  const l4 = l => connections(t, l.direction, l.origin ?? "");
  for (const { name, labels: l, value } of samples(text)) {
    switch (name) {
      case "linkerd_ebpf_up": t.up = value === 1; t.reason = l.reason ?? ""; break;
      case "linkerd_ebpf_requests_total": server(l).requests += value; peer(l).requests += value; break;
      case "linkerd_ebpf_responses_total": server(l)[ended(name, l)] += value; peer(l)[ended(name, l)] += value; break;
      case "linkerd_ebpf_requests_aborted_total":
        peer(l)[ended(name, l)] += value;
        // An older metricd does not say of which protocol and route they were.
        if (l.protocol) server(l)[ended(name, l)] += value;
        break;
      case "linkerd_ebpf_pod_requests_total": total(l).requests += value; break;
      case "linkerd_ebpf_pod_responses_total": case "linkerd_ebpf_pod_requests_aborted_total": total(l)[ended(name, l)] += value; break;
      case "linkerd_ebpf_requests_in_flight": add(t.inFlight, l.direction, value); break;
      case "linkerd_ebpf_bytes_total": peer(l)[l.io] += value; break;
      case "linkerd_ebpf_connections_active":
        if (l.proto === "tcp") { peer(l).active += value; add(l4(l).counts, "active", value); }
        break;
      case "linkerd_ebpf_connections_opened_total": if (l.proto === "tcp") add(l4(l).counts, "opened", value); break;
      case "linkerd_ebpf_connections_closed_total": if (l.proto === "tcp") add(l4(l).counts, l.reason, value); break;
      case "linkerd_ebpf_tcp_retransmits_total": add(l4(l).counts, `retransmits ${l.io}`, value); break;
      case "linkerd_ebpf_tls_connections_total": add(l4(l).counts, "tls", value); break;
      case "linkerd_ebpf_tcp_rtt_seconds_bucket": add(l4(l).rtt, bound(l.le), value); break;
      case "linkerd_ebpf_request_duration_seconds_bucket":
        add(server(l).buckets, bound(l.le), value);
        if (other(l)) { t.byPeer = true; add(peer(l).buckets, bound(l.le), value); }
        break;
      case "linkerd_proxy_ebpf_map_overflow_total": (t.maps[l.map] ??= {}).overflow = value; break;
      case "linkerd_ebpf_map_entries": (t.maps[l.map] ??= {}).entries = value; break;
      case "linkerd_ebpf_map_capacity": (t.maps[l.map] ??= {}).capacity = value; break;
      case "linkerd_ebpf_pod_info": case "linkerd_ebpf_build_info": case "linkerd_ebpf_kernel_info": Object.assign(t.info, l); break;
      case "process_cpu_seconds_total": case "process_resident_memory_bytes": case "linkerd_ebpf_scrape_duration_seconds":
        t.own[name] = value;
    }
  }
  return t;
}

const bound = le => le === "+Inf" ? Infinity : Number(le);

// A counter that is less than it was began anew.
const less = (now, before = 0) => now < before ? now : now - before;

function lessBuckets(now, before) {
  if (!before || (now.get(Infinity) ?? 0) < (before.get(Infinity) ?? 0)) return now;
  return new Map([...now].map(([le, n]) => [le, n - (before.get(le) ?? 0)]));
}

function since(now, before) {
  const rows = [];
  for (const [text, row] of now) {
    const old = before?.get(text);
    const diff = { ...row, buckets: lessBuckets(row.buckets, old?.buckets) };
    for (const name of COUNTS) diff[name] = less(row[name], old?.[name]);
    if (COUNTS.some(name => diff[name]) || diff.active) rows.push(diff);
  }
  return rows.sort((a, b) => b.requests - a.requests || (b.recv + b.sent) - (a.recv + a.sent));
}

// The requests of a direction between two readings: by the pod's totals, else by what all peers add up to.
function totalOf(now, before, direction) {
  const by = now.totals.size ? "totals" : "peers";
  const rows = since(now[by], before?.[by]).filter(row => row.key[0] === direction);
  return Object.fromEntries(COUNTS.map(name => [name, sum(rows, name)]));
}

const sum = (rows, name) => rows.reduce((all, row) => all + row[name], 0);

function merged(all) {
  const to = new Map();
  for (const buckets of all) for (const [le, n] of buckets) add(to, le, n);
  return to;
}

// As histogram_quantile of Prometheus.
function quantile(buckets, q) {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1];
  if (!total || sorted.length < 2) return null;
  const rank = q * total, at = sorted.findIndex(([, n]) => n >= rank);
  if (at === sorted.length - 1) return sorted[at - 1][0];
  const [start, below] = at ? sorted[at - 1] : [0, 0], [end, n] = sorted[at];
  return start + (end - start) * ((rank - below) / (n - below));
}

// --- numbers and elements ---

const time = s => s === null ? "–" : s < 0.0009995 ? `${(s * 1e6).toFixed()} µs` : s < 0.00995 ? `${(s * 1e3).toFixed(1)} ms`
  : s < 9.9995 ? `${(s * 1e3).toFixed()} ms` : `${s.toFixed(1)} s`;
const bytes = n => n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : n >= 1e3 ? `${(n / 1e3).toFixed(1)} kB` : `${n.toFixed()} B`;
const whole = n => n.toLocaleString("en", { maximumFractionDigits: 0 });
const percent = share => share === null ? "–" : `${(100 * share).toFixed(2)}%`;
const share = row => percent(successRate(row));
const le = s => s === Infinity ? "∞" : s < 0.001 ? `${+(s * 1e6).toPrecision(3)}µs` : s < 1 ? `${+(s * 1e3).toPrecision(3)}ms` : `${s}s`;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// What is told by [name, value, class]; each value can be found by its name.
function tiles(id, list) {
  $(id).replaceChildren(...list.map(([name, value, className]) => {
    const tile = element("div"), dd = element("dd", value, className);
    dd.dataset.name = name;
    tile.append(element("dt", name), dd);
    return tile;
  }));
}

function table(id, headings, left, rows, empty) {
  const head = element("tr");
  headings.forEach((h, i) => head.append(Object.assign(element("th", h, i < left ? "text" : ""), { scope: "col" })));
  const body = rows.slice(0, ROWS).map(cells => {
    const tr = element("tr");
    cells.forEach((cell, i) => {
      const td = element("td", cell || "–", i < left ? "text" : "");
      if (headings[i] === "route") { td.classList.add("route"); td.title = cell; }
      tr.append(td);
    });
    return tr;
  });
  const more = rows.length > ROWS ? `and ${rows.length - ROWS} more` : rows.length ? "" : empty;
  if (more) {
    const tr = element("tr"), td = element("td", more, "text");
    td.colSpan = headings.length;
    tr.append(td);
    body.push(tr);
  }
  const thead = element("thead"), tbody = element("tbody");
  thead.append(head);
  tbody.append(...body);
  $(id).replaceChildren(thead, tbody);
}

// --- charts ---

const W = 480, H = 180, LEFT = 46, BOTTOM = 22;

function frame(label, top) {
  const chart = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    const y = 8 + (H - BOTTOM - 8) * (1 - part);
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: W, y1: y, y2: y }),
      svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, top(part)));
  }
  return chart;
}

function drawRate(points) {
  if (points.length < 2) return $("rate").replaceChildren(element("p", "…", "empty"));
  const top = Math.max(1, ...points.map(p => p.rps)) * 1.1, from = points[0].at, to = points.at(-1).at;
  const x = at => LEFT + (W - LEFT) * (at - from) / (to - from), y = v => 8 + (H - BOTTOM - 8) * (1 - v / top);
  const path = name => points.map((p, i) => `${i ? "L" : "M"}${x(p.at).toFixed(1)} ${y(p[name]).toFixed(1)}`).join("");
  const last = points.at(-1);
  const chart = frame(`${last.rps.toFixed(1)} requests a second, ${last.fails.toFixed(1)} of them failures`, part => (top * part).toFixed(top < 20 ? 1 : 0));
  chart.append(
    svg("path", { class: "area", d: `${path("rps")}L${W} ${H - BOTTOM}L${LEFT} ${H - BOTTOM}Z` }),
    svg("path", { class: "line", d: path("rps") }),
    svg("text", { x: LEFT, y: H - 6 }, `${(to - from).toFixed()} s ago`),
    svg("text", { x: W, y: H - 6, "text-anchor": "end" }, points.some(p => p.fails) ? "now; failures in red" : "now"));
  if (points.some(p => p.fails)) chart.append(svg("path", { class: "failures", d: path("fails") }));
  $("rate").replaceChildren(chart);
}

function drawLatency(buckets) {
  let below = 0;
  let bars = [...buckets].sort(([a], [b]) => a - b).map(([bound, n]) => {
    const bar = { bound, n: Math.max(0, n - below) };
    below = n;
    return bar;
  });
  const first = bars.findIndex(bar => bar.n), last = bars.findLastIndex(bar => bar.n);
  if (first < 0) return $("latency").replaceChildren(element("p", "no request has ended in this time", "empty"));
  bars = bars.slice(Math.max(0, first - 1), last + 2);
  const top = Math.max(...bars.map(bar => bar.n)), step = (W - LEFT) / bars.length;
  const chart = frame(bars.filter(bar => bar.n).map(bar => `${bar.n} up to ${le(bar.bound)}`).join(", "), part => `${(100 * part * top / below).toFixed()}%`);
  bars.forEach((bar, i) => {
    const height = (H - BOTTOM - 8) * bar.n / top;
    const rect = svg("rect", { class: "bar", x: LEFT + i * step + 1, width: step - 2, y: H - BOTTOM - height, height });
    rect.append(svg("title", {}, `${bar.n} up to ${le(bar.bound)}`));
    chart.append(rect, svg("text", { x: LEFT + (i + 1) * step - 2, y: H - 6, "text-anchor": "end" }, bars.length > 8 && i % 2 ? "" : le(bar.bound)));
  });
  $("latency").replaceChildren(chart);
}

// --- the page ---

const readings = [];

function show() {
  const now = readings.at(-1), choice = new FormData($("choices"));
  const direction = choice.get("direction"), seconds = Number(choice.get("window"));
  const before = seconds ? readings.find(r => r.at >= now.at - seconds - 0.5) : null;
  const span = seconds ? now.at - before.at : null;
  const rate = n => span === null ? whole(n) : span ? (n / span).toFixed(1) : "…";
  const amount = n => span === null ? bytes(n) : span ? `${bytes(n / span)}/s` : "…";
  const ours = row => row.key[0] === direction;
  const servers = since(now.servers, before?.servers).filter(ours), peers = since(now.peers, before?.peers).filter(ours);
  const all = totalOf(now, before, direction);
  const buckets = merged(servers.map(row => row.buckets));

  tiles("signals", [
    [span === null ? "requests" : "requests/s", rate(all.requests)],
    ["success", share(all), all.failure + all.aborted ? "bad" : all.success ? "good" : ""],
    ...[0.5, 0.95, 0.99].map(q => [`p${100 * q}`, time(quantile(buckets, q))]),
    [span === null ? "aborted" : "aborted/s", rate(all.aborted)],
    ["in flight", whole(now.inFlight.get(direction) ?? 0)],
  ]);
  drawRate(readings.slice(1).map((r, i) => {
    const last = readings[i], passed = r.at - last.at;
    const all = totalOf(r, last, direction);
    return { at: r.at, rps: all.requests / passed, fails: (all.failure + all.aborted) / passed };
  }));
  drawLatency(buckets);

  const latencies = row => [0.5, 0.95, 0.99].map(q => time(quantile(row.buckets, q)));
  const requests = row => row.requests ? rate(row.requests) : "–";
  const routes = servers.some(row => row.key[3]);
  const asked = servers.filter(row => row.requests || row.success || row.failure || row.aborted);
  table("servers", ["port", "protocol", ...(routes ? ["route"] : []), "success", span === null ? "requests" : "requests/s", "aborted", "p50", "p95", "p99"],
    routes ? 3 : 2, asked.map(row => [row.key[1], row.key[2], ...(routes ? [row.key[3]] : []), share(row), requests(row), whole(row.aborted), ...latencies(row)]),
    `no requests ${span === null ? "so far" : "in this time"}`);
  const origins = peers.some(row => row.key[4]);
  table("peers", ["peer", "port", "proto", ...(origins ? ["origin"] : []), "success", span === null ? "requests" : "requests/s", "aborted", "TCP", "received", "sent", ...(now.byPeer ? ["p50", "p95", "p99"] : [])],
    origins ? 4 : 3, peers.map(row => [row.key[1], row.key[2], row.key[3], ...(origins ? [row.key[4]] : []), share(row), requests(row), whole(row.aborted), whole(row.active), amount(row.recv), amount(row.sent), ...(now.byPeer ? latencies(row) : [])]),
    "nobody");
  $("peers-note").textContent = now.byPeer ? "" : "Latencies are kept by server port, not by peer.";
  showConnections("connections", connections(now, direction, ""), before && connections(before, direction, ""));
  $("proxys").hidden = !now.l4.has(`${direction}|proxy`);
  if (!$("proxys").hidden) showConnections("proxys-connections", connections(now, direction, "proxy"), before && connections(before, direction, "proxy"));
  $("local").hidden = direction !== "local" && ![...now.peers.values()].some(row => row.key[0] === "local");
  showOwn(now);
}

function showConnections(id, now, before) {
  const since = name => less(now.counts.get(name) ?? 0, before?.counts.get(name));
  const rtt = lessBuckets(now.rtt, before?.rtt);
  const count = name => [name, whole(since(name))];
  tiles(id, [
    ["open now", whole(now.counts.get("active") ?? 0)], count("opened"),
    ["closed", whole(since("fin"))], ["reset", whole(since("rst"))], count("refused"), count("idle"), count("evicted"), count("tls"),
    count("retransmits recv"), count("retransmits sent"), ["RTT p50", time(quantile(rtt, 0.5))], ["RTT p99", time(quantile(rtt, 0.99))],
  ]);
}

function showOwn(now) {
  const i = now.info;
  $("pod").textContent = [i.pod_namespace && `${i.pod_namespace}/${i.pod_name}`, i.version && `version ${i.version}`, i.release && `Linux ${i.release}`].filter(Boolean).join(" · ");
  $("state").textContent = now.up ? "counting" : "not counting";
  $("state").className = now.up ? "good" : "bad";
  $("problem").hidden = now.up;
  $("problem").textContent = now.up ? "" : `Nothing is counted: ${now.reason || "linkerd_ebpf_up is missing"}`;
  table("maps", ["map", "entries", "room for", "did not fit"], 1,
    Object.entries(now.maps).map(([name, map]) => [name, whole(map.entries ?? 0), whole(map.capacity ?? 0), whole(map.overflow ?? 0)]), "none can be read");
  const own = now.own;
  tiles("cost", [
    ["the last scrape took", time(own.linkerd_ebpf_scrape_duration_seconds ?? null)],
    ["resident memory", bytes(own.process_resident_memory_bytes ?? 0)],
    ["CPU so far", `${(own.process_cpu_seconds_total ?? 0).toFixed(2)} s`],
  ]);
}

async function fetched(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path} answers ${response.status}`);
  return response;
}

async function poll() {
  if (!document.hidden) try {
    readings.push(read(await (await fetched("metrics?show-idle=0")).text()));
    if (readings.length > KEEP) readings.shift();
    show();
  } catch (error) {
    $("state").textContent = "no answer";
    $("state").className = "bad";
    $("problem").hidden = false;
    $("problem").textContent = `The sidecar does not answer: ${error.message}. What is shown is older.`;
  }
  setTimeout(poll, EVERY);
}

async function diagnose() {
  if (!document.hidden) try {
    const said = await (await fetched("diagnose")).json();
    $("verdict").textContent = said.verdict;
    $("verdict").className = said.whole ? "good" : "bad";
    $("findings").replaceChildren(...said.findings.map(({ level, text }) => element("li", text, { lost: "bad", unsure: "bad", note: "warn" }[level])));
  } catch {
    // The other loop says so.
  }
  setTimeout(diagnose, DIAGNOSE_EVERY);
}

$("choices").addEventListener("change", () => readings.length && show());
poll();
diagnose();
