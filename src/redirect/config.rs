//! What is redirected where: the flags, and `struct redirect_config` of bpf/redirect/config.h.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::abi::Layout;

/// What becomes of connections while the proxy does not listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[repr(u32)]
pub enum Fallback {
    /// They go where they would go without us.
    #[default]
    Pass = 0,
    /// They wait: their first segments are dropped, and sent again after a second, and so on.
    Drop = 1,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        })
    }
}

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

/// `10.0.0.0/8`, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Bits of the prefix as in the kernel: of 128, with IPv4 as ::ffff:a.b.c.d.
    pub bits: u32,
    pub address: [u8; 16],
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it is no subnet such as 10.0.0.0/8 or fd00::/8".to_owned();
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let (address, width) = match address.parse().map_err(|_| wrong())? {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), 32),
            IpAddr::V6(address) => (address, 128),
        };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
        if bits > width {
            return Err(wrong());
        }
        let bits = 128 - width + bits;
        // What the mask leaves out says nothing.
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let address = (address.to_bits() & mask).to_be_bytes();
        Ok(Self { bits, address })
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

    /// The user that the proxy runs as: its own outbound connections go straight
    #[arg(long, env = "METRICD_PROXY_UID", value_name = "UID")]
    proxy_uid: Option<u32>,

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

    /// What is asked for; `None` if nothing is.
    ///
    /// # Errors
    /// If there are more subnets than there is room for.
    pub fn wanted(&self) -> Result<Option<RedirectConfig>> {
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
                proxy_uid: self.proxy_uid.unwrap_or(u32::MAX),
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

impl Subnet {
    fn contains(&self, other: &Self) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
        let of = |subnet: &Self| u128::from_be_bytes(subnet.address) & mask;
        self.bits <= other.bits && of(self) == of(other)
    }
}

/// A bit for each port.
pub type PortBits = [u64; 1024];

/// The bits of `enum way` of bpf/redirect/config.h.
pub const INBOUND: u32 = 1;
pub const OUTBOUND: u32 = 2;
const SUBNETS: usize = 1024;

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

/// `struct redirect_config`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub object: u64,
    pub proxy_uid: u32,
    /// Where the proxy listens; 0 if inbound connections are not redirected.
    pub inbound_port: u16,
    /// Where the proxy listens; 0 if outbound connections are not redirected.
    pub outbound_port: u16,
    pub fallback: u32,
    pub pad: u32,
    pub inbound: PortBits,
    pub outbound: PortBits,
}

const _: () = assert!(size_of::<Kernel>() == Kernel::SIZE, "padding");
const _: () = {
    use crate::redirect_skel::types::redirect_config;
    use std::mem::offset_of;

    assert!(size_of::<Kernel>() == size_of::<redirect_config>());
    assert!(offset_of!(Kernel, proxy_uid) == offset_of!(redirect_config, proxy_uid));
    assert!(offset_of!(Kernel, inbound_port) == offset_of!(redirect_config, inbound_port));
    assert!(offset_of!(Kernel, outbound_port) == offset_of!(redirect_config, outbound_port));
    assert!(offset_of!(Kernel, fallback) == offset_of!(redirect_config, fallback));
    assert!(offset_of!(Kernel, inbound) == offset_of!(redirect_config, inbound));
    assert!(offset_of!(Kernel, outbound) == offset_of!(redirect_config, outbound));
};

impl Layout for Kernel {
    const SIZE: usize = 24 + 2 * 8192;

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            object: Layout::read(bytes)?,
            proxy_uid: Layout::read(bytes)?,
            inbound_port: Layout::read(bytes)?,
            outbound_port: Layout::read(bytes)?,
            fallback: Layout::read(bytes)?,
            pad: Layout::read(bytes)?,
            inbound: Layout::read(bytes)?,
            outbound: Layout::read(bytes)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.object.write(out);
        self.proxy_uid.write(out);
        self.inbound_port.write(out);
        self.outbound_port.write(out);
        self.fallback.write(out);
        self.pad.write(out);
        self.inbound.write(out);
        self.outbound.write(out);
    }
}

/// Everything that programs are loaded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectConfig {
    pub kernel: Kernel,
    /// Peers whose connections are not redirected, and which way: [`INBOUND`] and [`OUTBOUND`].
    pub subnets: Vec<(Subnet, u32)>,
    /// The cgroup where SO_ORIGINAL_DST is to be answered. Where it is answered already, that stays
    /// so.
    pub cgroup: Option<PathBuf>,
}

impl RedirectConfig {
    /// Whether two configurations have one effect, whatever the order of their subnets is.
    pub fn is(&self, other: &Self) -> bool {
        let has = |subnet| other.subnets.contains(subnet);
        self.kernel == other.kernel
            && self.subnets.len() == other.subnets.len()
            && self.subnets.iter().all(has)
    }

    pub fn fallback(&self) -> Fallback {
        match self.kernel.fallback {
            0 => Fallback::Pass,
            _ => Fallback::Drop,
        }
    }
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
        }
        Cli::try_parse_from(["test"].into_iter().chain(text.split_whitespace()))?
            .flags
            .wanted()
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

    #[test]
    fn what_is_read_is_what_was_written() {
        let config = wanted("--redirect-outbound 4140 --proxy-uid 2102")
            .unwrap()
            .unwrap();
        let bytes = config.kernel.to_bytes();
        assert_eq!(bytes.len(), Kernel::SIZE);
        assert_eq!(Kernel::read(&mut bytes.as_slice()), Some(config.kernel));
    }
}
