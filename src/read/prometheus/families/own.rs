//! What metricd says about itself, the machine and the pod.

use std::time::Duration;

use prometheus::proto::MetricType::{COUNTER, GAUGE};

use crate::read::prometheus::family::{Family, Rows};
use crate::read::prometheus::process;

pub const UP: Family = Family {
    name: "linkerd_ebpf_up",
    help: "Whether the pinned maps can be read. If it is 0, the label says the \
           reason, and nothing of this pod is counted: see docs/checks.md.",
    kind: GAUGE,
    rows: Rows::Once(&["reason"], |scrape, lines| match &scrape.reading {
        Ok(_) => {
            lines.no_labels();
            lines.value(1.0);
        }
        Err(reason) => {
            lines.label(0, reason);
            lines.value(0.0);
        }
    }),
};

pub const FAMILIES: &[Family] = &[
    Family {
        name: "linkerd_ebpf_interface_observed",
        help: "Whether the programs are attached to an interface. If it is 0, the interface has come \
               up after metricd-init, and what passes it is not counted until metricd-init runs again.",
        kind: GAUGE,
        rows: Rows::Snapshot(&["interface"], |snapshot, lines| {
            for (name, is_observed) in &snapshot.interfaces {
                lines.label(0, name);
                lines.value(f64::from(u8::from(*is_observed)));
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_build_info",
        help: "The versions of metricd and of the metricd-init that pinned the maps.",
        kind: GAUGE,
        rows: Rows::Once(&["version", "init_version"], |scrape, lines| {
            lines.label(0, env!("CARGO_PKG_VERSION"));
            if let Ok(snapshot) = &scrape.reading {
                lines.label(1, &snapshot.info.version());
            }
            lines.value(1.0);
        }),
    },
    Family {
        name: "linkerd_ebpf_kernel_info",
        help: "The kernel that counts, and how metricd reads its maps: by iterator or as text.",
        kind: GAUGE,
        rows: Rows::Once(&["release", "read"], |scrape, lines| {
            if let Some(release) = process::kernel_release() {
                lines.label(0, &release);
                if let Ok(snapshot) = &scrape.reading {
                    lines.label(1, snapshot.way.label());
                }
                lines.value(1.0);
            }
        }),
    },
    Family {
        name: "linkerd_ebpf_pod_info",
        help: "The pod that is observed, and who made it.",
        kind: GAUGE,
        rows: Rows::Once(&["pod_name", "pod_namespace", "pod_owner"], |_, lines| {
            if let Some(pod) = process::pod() {
                for (i, value) in pod.iter().enumerate() {
                    lines.label(i, value);
                }
                lines.value(1.0);
            }
        }),
    },
    Family {
        name: "process_cpu_seconds_total",
        help: "CPU time of metricd, in user space and in the kernel.",
        kind: COUNTER,
        rows: Rows::Once(&[], |_, lines| {
            if let Some(time) = process::cpu_time() {
                lines.value(time.as_secs_f64());
            }
        }),
    },
    Family {
        name: "process_resident_memory_bytes",
        help: "Resident memory of metricd.",
        kind: GAUGE,
        rows: Rows::Once(&[], |_, lines| {
            if let Some(bytes) = process::resident_memory() {
                lines.value(bytes as f64);
            }
        }),
    },
    // The last one, so that it has seen all others.
    Family {
        name: "linkerd_ebpf_scrape_duration_seconds",
        help: "How long this scrape took: reading the maps and writing all lines above, without \
               waiting for who takes them.",
        kind: GAUGE,
        rows: Rows::Once(&[], |scrape, lines| {
            let reading = match &scrape.reading {
                Ok(snapshot) => snapshot.took,
                Err(_) => Duration::ZERO,
            };
            let writing = scrape.written + scrape.piece.elapsed();
            lines.value((reading + writing).as_secs_f64());
        }),
    },
];
