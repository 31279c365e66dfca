//! Redirection in a pod, as its annotations, or its namespace's, ask for it. Where Linkerd has an
//! annotation for something, that is the one that is read.

use super::values;
use crate::redirect::config::{Fallback, Subnet};
use crate::redirect::flags::Ports;

/// `enabled` or `disabled`.
pub const REDIRECT: &str = "metricd.linkerd.io/redirect";
/// `pass` or `drop`.
pub const FALLBACK: &str = "metricd.linkerd.io/redirect-fallback";

/// Linkerd's own. Source: linkerd.io/2/reference/proxy-configuration.
pub const INBOUND_PORT: &str = "config.linkerd.io/inbound-port";
pub const OUTBOUND_PORT: &str = "config.linkerd.io/outbound-port";
pub const PROXY_UID: &str = "config.linkerd.io/proxy-uid";
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
pub const SKIP_SUBNETS: &str = "config.linkerd.io/skip-subnets";

/// What the proxy serves to others than its clients, which Linkerd does not redirect either: its
/// control and admin ports. Source: charts/linkerd-control-plane/values.yaml.
const PROXY_OWN: &str = "4190,4191";

/// What metricd-init is told; the defaults are Linkerd's. Source:
/// charts/linkerd-control-plane/values.yaml.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub enabled: bool,
    fallback: Fallback,
    inbound_port: u16,
    outbound_port: u16,
    /// Linkerd's annotation, if there is one. It is read beside a linkerd-proxy, too.
    pub proxy_uid: Option<u32>,
    skip_inbound_ports: Option<String>,
    skip_outbound_ports: Option<String>,
    /// Subnets of clients: Linkerd's annotation does nothing for connections to them.
    skip_subnets: Option<String>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            enabled: false,
            fallback: Fallback::Pass,
            inbound_port: 4143,
            outbound_port: 4140,
            proxy_uid: None,
            skip_inbound_ports: None,
            skip_outbound_ports: None,
            skip_subnets: None,
        }
    }
}

impl Redirect {
    /// The variables of metricd-init, beside the one for the proxy's user. metricd is always reached,
    /// at `port`.
    pub fn flags(&self, port: u16) -> Vec<(&'static str, String)> {
        if !self.enabled {
            return Vec::new();
        }
        let inbound = self.skip_inbound_ports.iter();
        let mut skipped = format!("{port},{PROXY_OWN}");
        inbound.for_each(|ports| skipped += &format!(",{ports}"));
        let mut flags = vec![
            ("REDIRECT_INBOUND", self.inbound_port.to_string()),
            ("REDIRECT_OUTBOUND", self.outbound_port.to_string()),
            ("SKIP_INBOUND_PORTS", skipped),
        ];
        let outbound = self.skip_outbound_ports.clone();
        flags.extend(outbound.map(|ports| ("SKIP_OUTBOUND_PORTS", ports)));
        let subnets = self.skip_subnets.clone();
        flags.extend(subnets.map(|subnets| ("SKIP_INBOUND_SUBNETS", subnets)));
        if self.fallback != Fallback::default() {
            flags.push(("REDIRECT_FALLBACK", self.fallback.to_string()));
        }
        flags
    }
}

/// Takes an annotation's value for what metricd-init is told.
pub type Take = fn(&mut Redirect, &str) -> Result<(), String>;

/// Linkerd's annotation for the user of its proxy.
pub const LINKERD_UID: (&str, Take) = (PROXY_UID, |redirect, value| {
    redirect.proxy_uid = Some(values::uid(value)?);
    Ok(())
});

/// Linkerd's annotations for redirection, which mean something to us only where we redirect.
pub const LINKERD: [(&str, Take); 6] = [
    (INBOUND_PORT, |redirect, value| {
        redirect.inbound_port = proxy_port(value)?;
        Ok(())
    }),
    (OUTBOUND_PORT, |redirect, value| {
        redirect.outbound_port = proxy_port(value)?;
        Ok(())
    }),
    LINKERD_UID,
    (SKIP_INBOUND_PORTS, |redirect, value| {
        redirect.skip_inbound_ports = Some(ports(value)?);
        Ok(())
    }),
    (SKIP_OUTBOUND_PORTS, |redirect, value| {
        redirect.skip_outbound_ports = Some(ports(value)?);
        Ok(())
    }),
    (SKIP_SUBNETS, |redirect, value| {
        redirect.skip_subnets = Some(list::<Subnet>(value, "subnets such as 10.0.0.0/8")?);
        Ok(())
    }),
];

impl Redirect {
    /// Takes the value of [`REDIRECT`].
    pub fn enable(&mut self, value: &str) -> Result<(), String> {
        self.enabled = values::enabled(value)?;
        Ok(())
    }

    /// Takes the value of [`FALLBACK`].
    pub fn fall_back(&mut self, value: &str) -> Result<(), String> {
        self.fallback = match value {
            "pass" => Fallback::Pass,
            "drop" => Fallback::Drop,
            _ => return Err("is neither pass nor drop".into()),
        };
        Ok(())
    }
}

fn proxy_port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("is not a port from 1 to 65535".into()),
    }
}

fn ports(value: &str) -> Result<String, String> {
    list::<Ports>(value, "ports and ranges of them such as 80,8000-8080")
}

/// The elements of a list, with commas between them, as metricd-init takes them.
fn list<T: std::str::FromStr>(value: &str, what: &str) -> Result<String, String> {
    let items: Vec<&str> = value.split(',').map(str::trim).collect();
    match items.iter().all(|item| item.parse::<T>().is_ok()) {
        true => Ok(items.join(",")),
        false => Err(format!("is not a list of {what} with commas between them")),
    }
}
