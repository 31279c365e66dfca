//! What values may be, of annotations and of the installation's settings. A value that Kubernetes
//! or `metricd-init` would refuse must not get into a pod, for then it would not start.
//!
//! The errors go on after the value: `"0" is not …`.

use std::ops::RangeInclusive;

use clap::ValueEnum;

use super::quantity;
use crate::abi::route;
use crate::kernel::settings::{Detail, MAX_MAP, Wanted};
use crate::read::history;

pub const MAP_SIZE: RangeInclusive<u32> = 1..=MAX_MAP;
/// About 0.7 GB of maps.
pub const CONNECTIONS: RangeInclusive<u32> = 1..=1 << 20;
/// About 0.3 GB of maps.
pub const HTTP2: RangeInclusive<u32> = 1..=1 << 16;
pub const ROUTES: RangeInclusive<u32> = 0..=route::MAX;
/// What the kernel takes for a ring buffer: a power of two of whole pages.
pub const PERF_BUFFER: RangeInclusive<u32> = 4096..=1 << 30;

/// A whole number within a range.
pub fn whole(value: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "is not a whole number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

/// Bytes of a ring buffer.
pub fn perf_buffer(value: &str) -> Result<u32, String> {
    match whole(value, PERF_BUFFER)? {
        bytes if bytes.is_power_of_two() => Ok(bytes),
        _ => Err("is not a power of two".into()),
    }
}

/// A user's number. The last one stands for nobody at all.
pub fn uid(value: &str) -> Result<u32, String> {
    whole(value, 0..=u32::MAX - 1)
}

/// A port that needs no capability to listen on.
pub fn port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(port) if port >= 1024 => Ok(port),
        _ => Err("is not a port from 1024 to 65535".into()),
    }
}

/// Whether something is switched on.
pub fn enabled(value: &str) -> Result<bool, String> {
    match value {
        "enabled" => Ok(true),
        "disabled" => Ok(false),
        _ => Err("is neither enabled nor disabled".into()),
    }
}

pub fn detail(value: &str) -> Result<Detail, String> {
    Detail::from_str(value, false).map_err(|_| "is not one of pod, service, full".into())
}

pub fn boolean(value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| "is neither true nor false".into())
}

pub fn pull_policy(value: &str) -> Result<String, String> {
    match value {
        "Always" | "IfNotPresent" | "Never" => Ok(value.into()),
        _ => Err("is not one of Always, IfNotPresent, Never".into()),
    }
}

/// Names of interfaces, with commas between them.
pub fn interfaces(value: &str) -> Result<Vec<String>, String> {
    // dev_valid_name() in the kernel's net/core/dev.c; the comma is ours.
    let is_name = |name: &str| {
        (1..16).contains(&name.len())
            && name != "."
            && name != ".."
            && !name.contains(['/', ':'])
            && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let names: Vec<String> = value.split(',').map(|name| name.trim().into()).collect();
    match names.iter().find(|name| !is_name(name)) {
        None => Ok(names),
        Some(_) => Err("is not a list of interfaces' names with commas between them".into()),
    }
}

/// A container's name: a label by RFC 1123, as Kubernetes wants it.
pub fn container(value: &str) -> Result<String, String> {
    let is_name = (1..=63).contains(&value.len())
        && !value.starts_with('-')
        && !value.ends_with('-')
        && value
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    match is_name {
        true => Ok(value.into()),
        false => Err("is not a container's name".into()),
    }
}

/// Bounds of buckets in seconds, with commas between them.
pub fn buckets(value: &str) -> Result<Vec<f64>, String> {
    let bounds: Result<Vec<f64>, _> = value.split(',').map(|bound| bound.trim().parse()).collect();
    let bounds = bounds.map_err(|_| "is not a list of seconds with commas between them")?;
    let wanted = Wanted {
        buckets: Some(bounds.clone()),
        ..Wanted::default()
    };
    match wanted.settle(None) {
        Ok(_) => Ok(bounds),
        Err(_) => Err("is not 1 to 31 numbers of seconds that ascend".into()),
    }
}

/// Ports of servers of DNS, with commas between them.
pub fn dns_ports(value: &str) -> Result<Vec<u16>, String> {
    let ports: Result<Vec<u16>, _> = value.split(',').map(|port| port.trim().parse()).collect();
    let wanted = Wanted {
        dns_ports: Some(ports.unwrap_or_default()),
        ..Wanted::default()
    };
    match wanted.settle(None) {
        Ok(_) => Ok(wanted.dns_ports.unwrap_or_default()),
        Err(_) => Err("is not 1 to 4 ports with commas between them".into()),
    }
}

/// For how long a series is shown that does not change.
pub fn show_idle(value: &str) -> Result<String, String> {
    match history::show_idle(value) {
        Ok(_) => Ok(value.into()),
        Err(_) => Err("is not a duration such as 1h, nor 0".into()),
    }
}

/// Numbers in a text as [`buckets`] and [`dns_ports`] take it.
pub fn join(numbers: &[impl ToString]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

/// CPUs, in thousandths.
pub fn cpu(value: &str) -> Result<u128, String> {
    quantity::thousandths(value)
        .filter(|&thousandths| thousandths > 0)
        .ok_or_else(|| "is not an amount of CPUs such as 100m or 0.5".into())
}

/// Memory, in thousandths of a byte.
pub fn memory(value: &str) -> Result<u128, String> {
    quantity::thousandths(value)
        .filter(|&thousandths| thousandths >= 1000)
        .ok_or_else(|| "is not an amount of memory such as 64Mi".into())
}

/// The name of an image, by the grammar of github.com/distribution/reference: kubelet would never
/// start a pod whose image has another.
pub fn image(value: &str) -> Result<String, String> {
    match is_image(value) {
        true => Ok(value.into()),
        false => Err("is not an image's name such as example.org/metricd:1.0".into()),
    }
}

fn is_image(value: &str) -> bool {
    let (value, digest) = match value.split_once('@') {
        Some((value, digest)) => (value, Some(digest)),
        None => (value, None),
    };
    // A colon before a slash is a port's.
    let (name, tag) = match value.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (value, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((domain, path))
            if domain.contains(['.', ':']) || domain == "localhost" || has_capitals(domain) =>
        {
            (Some(domain), path)
        }
        _ => (None, name),
    };
    name.len() <= 255
        && domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    (is_ipv6 || host.split('.').all(is_label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Small letters and digits, between which may be a dot, one or two underscores, or dashes.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = [bytes.first(), bytes.last()]
        .into_iter()
        .all(|end| end.is_some_and(|&byte| is_word(byte)));
    let separators = component.split(|c: char| c.is_ascii() && is_word(c as u8));
    ends_well
        && separators
            .filter(|separator| !separator.is_empty())
            .all(|separator| {
                matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
            })
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_digest(digest: &str) -> bool {
    // Those that registries use; others would have to be known to the runtime.
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == length
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}
