//! What is to be redirected where, as flags.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;

use super::config::{
    Fallback, INBOUND, Kernel, OUTBOUND, PortBits, RedirectConfig, SUBNETS, Subnet,
};

/// A port, or a range of them: `80` or `8000-8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self(first..=last)),
            _ => Err("it is neither a port, 1 to 65535, nor a range such as 8000-8080".into()),
        }
    }
}

/// The flags, all of which are said anew if any is.
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Give inbound connections to the proxy that listens at this port
    #[arg(
        long = "redirect-inbound",
        env = "METRICD_REDIRECT_INBOUND",
        value_name = "PORT"
    )]
    inbound: Option<NonZeroU16>,

    /// Give outbound connections to the proxy that listens at this port, with IP_TRANSPARENT
    #[arg(
        long = "redirect-outbound",
        env = "METRICD_REDIRECT_OUTBOUND",
        value_name = "PORT",
        requires = "proxy_uid"
    )]
    outbound: Option<NonZeroU16>,

    /// Of the inbound ports, only these, for instance 80,8000-8080 [default: all]
    #[arg(
        long = "redirect-inbound-ports",
        env = "METRICD_REDIRECT_INBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    inbound_ports: Vec<Ports>,

    /// The same of the outbound ones
    #[arg(
        long = "redirect-outbound-ports",
        env = "METRICD_REDIRECT_OUTBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    outbound_ports: Vec<Ports>,

    /// Inbound ports that are not redirected
    #[arg(
        long,
        env = "METRICD_SKIP_INBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    skip_inbound_ports: Vec<Ports>,

    /// Outbound ports that are not redirected
    #[arg(
        long,
        env = "METRICD_SKIP_OUTBOUND_PORTS",
        value_name = "PORTS",
        value_delimiter = ','
    )]
    skip_outbound_ports: Vec<Ports>,

    /// Connections from these are not redirected, for instance 10.0.0.0/8,fd00::/8
    #[arg(
        long,
        env = "METRICD_SKIP_INBOUND_SUBNETS",
        value_name = "SUBNETS",
        value_delimiter = ','
    )]
    skip_inbound_subnets: Vec<Subnet>,

    /// Connections to these are not redirected
    #[arg(
        long,
        env = "METRICD_SKIP_OUTBOUND_SUBNETS",
        value_name = "SUBNETS",
        value_delimiter = ','
    )]
    skip_outbound_subnets: Vec<Subnet>,

    /// Answer SO_ORIGINAL_DST in this cgroup (of a cgroup2 file system), for a proxy that asks for
    /// nothing else
    #[arg(
        long = "redirect-cgroup",
        env = "METRICD_REDIRECT_CGROUP",
        value_name = "DIR"
    )]
    pub cgroup: Option<PathBuf>,

    /// What becomes of connections while the proxy does not listen: they pass it by, or are dropped
    /// until it does
    #[arg(
        long = "redirect-fallback",
        env = "METRICD_REDIRECT_FALLBACK",
        value_enum,
        default_value_t
    )]
    fallback: Fallback,
}

impl Flags {
    /// Whether nothing is to go past the proxy.
    pub fn drops(&self) -> bool {
        self.fallback == Fallback::Drop && (self.inbound.is_some() || self.outbound.is_some())
    }

    /// What is asked for; `None` if nothing is. The outbound connections of the user `proxy_uid` go
    /// straight.
    ///
    /// # Errors
    /// If there are more subnets than there is room for.
    pub fn wanted(&self, proxy_uid: Option<u32>) -> Result<Option<RedirectConfig>> {
        if self.inbound.is_none() && self.outbound.is_none() {
            return Ok(None);
        }
        let mut subnets: Vec<(Subnet, u32)> = Vec::new();
        let listed = [
            (&self.skip_inbound_subnets, INBOUND),
            (&self.skip_outbound_subnets, OUTBOUND),
        ];
        for (subnet, way) in listed
            .into_iter()
            .flat_map(|(list, way)| list.iter().map(move |subnet| (*subnet, way)))
        {
            match subnets.iter_mut().find(|(known, _)| *known == subnet) {
                Some((_, ways)) => *ways |= way,
                None => subnets.push((subnet, way)),
            }
        }
        if subnets.len() > SUBNETS {
            bail!(
                "{} subnets are to be skipped, {SUBNETS} is the limit",
                subnets.len()
            );
        }
        // The longest that matches is what the kernel finds, so it says what those around it do.
        let around = subnets.clone();
        for (subnet, ways) in &mut subnets {
            let outer = around.iter().filter(|(outer, _)| outer.contains(subnet));
            outer.for_each(|(_, outer)| *ways |= outer);
        }
        Ok(Some(RedirectConfig {
            kernel: Kernel {
                object: 0,
                proxy_uid: proxy_uid.unwrap_or(u32::MAX),
                inbound_port: self.inbound.map_or(0, u16::from),
                outbound_port: self.outbound.map_or(0, u16::from),
                fallback: self.fallback as u32,
                pad: 0,
                inbound: bits(&self.inbound_ports, &self.skip_inbound_ports),
                outbound: bits(&self.outbound_ports, &self.skip_outbound_ports),
            },
            subnets,
            cgroup: self.cgroup.clone(),
        }))
    }
}

fn bits(chosen: &[Ports], skipped: &[Ports]) -> PortBits {
    let mut bits = if chosen.is_empty() {
        [u64::MAX; 1024]
    } else {
        [0; 1024]
    };
    let mut set = |ports: &[Ports], on: bool| {
        for port in ports.iter().flat_map(|ports| ports.0.clone()) {
            let (word, bit) = (usize::from(port / 64), 1 << (port % 64));
            if on {
                bits[word] |= bit;
            } else {
                bits[word] &= !bit;
            }
        }
    };
    set(chosen, true);
    set(skipped, false);
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Option<RedirectConfig>> {
        use clap::Parser;
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            flags: Flags,
            #[command(flatten)]
            wanted: crate::kernel::settings::Wanted,
        }
        let cli = Cli::try_parse_from(["test"].into_iter().chain(text.split_whitespace()))?;
        cli.flags.wanted(cli.wanted.proxy_uid)
    }

    fn has(bits: &PortBits, port: u16) -> bool {
        bits[usize::from(port / 64)] >> (port % 64) & 1 == 1
    }

    #[test]
    fn ports_are_chosen_and_skipped() {
        let all = wanted("--redirect-inbound 4143").unwrap().unwrap();
        assert!(
            [1, 80, 65535]
                .iter()
                .all(|&port| has(&all.kernel.inbound, port))
        );
        let some = wanted(
            "--redirect-inbound 4143 --redirect-inbound-ports 80,8000-8080 \
             --skip-inbound-ports 8001-8002",
        );
        let bits = some.unwrap().unwrap().kernel.inbound;
        let chosen: Vec<u16> = (0..=u16::MAX).filter(|&port| has(&bits, port)).collect();
        let expected: Vec<u16> = [80, 8000].into_iter().chain(8003..=8080).collect();
        assert_eq!(chosen, expected);
        for bad in ["0", "8080-80", "http", "65536", "1-", ""] {
            let flags = format!("--redirect-inbound 1 --skip-inbound-ports={bad}");
            assert!(wanted(&flags).is_err(), "{bad}");
        }
    }

    #[test]
    fn subnets_say_what_those_around_them_do() {
        let config = wanted(
            "--redirect-inbound 1 --skip-inbound-subnets 10.1.2.3/8,fd00::/8 \
             --skip-outbound-subnets 10.1.0.0/16",
        );
        let subnets = config.unwrap().unwrap().subnets;
        let find = |text: &str| {
            let subnet: Subnet = text.parse().unwrap();
            subnets
                .iter()
                .find(|(known, _)| *known == subnet)
                .unwrap()
                .1
        };
        assert_eq!(find("10.0.0.0/8"), INBOUND);
        assert_eq!(find("10.1.0.0/16"), INBOUND | OUTBOUND);
        assert_eq!(find("fd00::/8"), INBOUND);
        let all: Subnet = "0.0.0.0/0".parse().unwrap();
        assert_eq!((all.bits, all.address[11], all.address[12]), (96, 0xff, 0));
        for bad in ["10.0.0.0/33", "10.0.0", "fd00::/129", "/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        assert!(wanted("").unwrap().is_none());
        // The proxy's own connections would come back to it.
        assert!(wanted("--redirect-outbound 4140").is_err());
    }
}
