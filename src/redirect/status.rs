//! What redirects connections in a network namespace.

use anyhow::{Context, Result};

use super::config::Kernel;
use super::iptables;
use super::programs::{Programs, hooks};
use crate::kernel::pin_dir::PinDir;
use crate::kernel::pinned::Installed;

/// Says what redirects in the network namespace that the thread is in. Ours is told by what is
/// pinned in `dir`. The first line is one of `none`, `ebpf`, `iptables` and `ebpf and iptables`;
/// others say more.
///
/// # Errors
/// If that can't be found out.
pub fn status(dir: &PinDir) -> Result<Vec<String>> {
    let mut lines = vec![String::new()];
    let mut active = Vec::new();
    if let (Some(observers), Some(programs)) = (Installed::open(dir)?, Programs::newest(dir)?) {
        let running = hooks(&observers)?.all();
        if !running.is_empty() {
            active.push("ebpf");
            let config = programs.config()?;
            lines.extend(describe(&config.kernel));
            lines.push(format!(
                "ebpf: {} subnets skipped; without the proxy: {}",
                config.subnets.len(),
                config.fallback()
            ));
            lines.extend(running.iter().map(|at| {
                let (index, hook) = (at.ifindex, at.hook.name());
                format!("ebpf: interface {index} {hook} ({})", at.attached)
            }));
        }
    }
    let kinds = iptables::that_redirect().context("ask for the rules of iptables")?;
    if !kinds.is_empty() {
        active.push("iptables");
        lines.extend(kinds.iter().map(|kind| format!("iptables: {kind}")));
    }
    lines[0] = match active.is_empty() {
        true => "none".into(),
        false => active.join(" and "),
    };
    Ok(lines)
}

fn describe(config: &Kernel) -> Vec<String> {
    let mut lines = Vec::new();
    for (way, port, bits) in [
        ("inbound", config.inbound_port, &config.inbound),
        ("outbound", config.outbound_port, &config.outbound),
    ] {
        if port != 0 {
            let ports: u32 = bits.iter().map(|word| word.count_ones()).sum();
            let of = match ports {
                65536 => "all ports".into(),
                _ => format!("{ports} of 65536 ports"),
            };
            lines.push(format!("ebpf: {way} connections to {of} go to port {port}"));
        }
    }
    if config.outbound_port != 0 {
        let uid = config.proxy_uid;
        lines.push(format!("ebpf: but those that user {uid} makes"));
    }
    lines
}
