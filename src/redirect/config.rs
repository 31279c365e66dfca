//! What programs are loaded for: `struct redirect_config` of bpf/redirect/config.h, and subnets.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;

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

impl Subnet {
    /// Whether the other subnet is within this one.
    pub fn contains(&self, other: &Self) -> bool {
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
/// How many subnets there is room for.
pub const SUBNETS: usize = 1024;

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

    #[test]
    fn what_is_read_is_what_was_written() {
        let kernel = Kernel {
            object: 1,
            proxy_uid: 2102,
            inbound_port: 4143,
            outbound_port: 4140,
            fallback: Fallback::Drop as u32,
            pad: 0,
            inbound: std::array::from_fn(|i| i as u64),
            outbound: [u64::MAX; 1024],
        };
        let bytes = kernel.to_bytes();
        assert_eq!(bytes.len(), Kernel::SIZE);
        assert_eq!(Kernel::read(&mut bytes.as_slice()), Some(kernel));
    }
}
