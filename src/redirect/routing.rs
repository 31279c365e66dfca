//! What lets packets that are led to the loopback be local, whatever address they are for: for each
//! family a rule and a route, and the loopback's leave to accept our own addresses as a source.

use std::fs;
use std::io::{self, ErrorKind};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc::{AF_INET, AF_INET6};

use crate::kernel::hook::LOOPBACK;
use crate::kernel::netlink::{CREATE, Message};

/// The mark of packets that are led to the loopback: REDIRECT_MARK of bpf/redirect/mark.h.
const MARK: u32 = 0x6d74;
/// The number of our routing table: as good as any that nobody else has.
const TABLE: u32 = MARK;
/// The priority of our rule: only the rule for the local table comes before, which knows the
/// addresses that are local in any case.
const PRIORITY: u32 = 1;

/// linux/rtnetlink.h and linux/fib_rules.h.
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_SETLINK: u16 = 19;

const ACCEPT_LOCAL: &str = "/proc/sys/net/ipv4/conf/lo/accept_local";

/// `ip rule add pref 1 fwmark 0x6d74 lookup 0x6d74`
fn rule(kind: u16, flags: u16, family: i32) -> Message {
    const FR_ACT_TO_TBL: u8 = 1;
    const FRA_PRIORITY: u16 = 6;
    const FRA_FWMARK: u16 = 10;
    const FRA_TABLE: u16 = 15;
    const FRA_FWMASK: u16 = 16;
    let header = [family as u8, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    Message::new(kind, flags, &header)
        .number(FRA_PRIORITY, PRIORITY)
        .number(FRA_FWMARK, MARK)
        .number(FRA_FWMASK, u32::MAX)
        .number(FRA_TABLE, TABLE)
}

/// `ip route add local default dev lo table 0x6d74`
fn route(kind: u16, flags: u16, family: i32) -> Message {
    const RTPROT_STATIC: u8 = 4;
    const RT_SCOPE_HOST: u8 = 254;
    const RTN_LOCAL: u8 = 2;
    const RTA_OIF: u16 = 4;
    const RTA_TABLE: u16 = 15;
    let scope = if family == AF_INET { RT_SCOPE_HOST } else { 0 };
    let header = [family as u8, 0, 0, 0, 0, RTPROT_STATIC, scope, RTN_LOCAL];
    Message::new(kind, flags, &[header, [0; 8]].concat()[..12])
        .number(RTA_TABLE, TABLE)
        .number(RTA_OIF, LOOPBACK)
}

/// `sysctl net.ipv4.conf.lo.accept_local=…`, which a container, whose /proc/sys is read-only, can
/// only do this way.
fn accept_local(value: u32) -> Message {
    const IFLA_AF_SPEC: u16 = 26;
    const IFLA_INET_CONF: u16 = 1;
    const IPV4_DEVCONF_ACCEPT_LOCAL: u16 = 23;
    // struct ifinfomsg
    let index = LOOPBACK.to_ne_bytes();
    let header = [[0; 4], index, [0; 4], [0; 4]].concat();
    Message::new(RTM_SETLINK, 0, &header).nested(IFLA_AF_SPEC, |message| {
        message.nested(AF_INET as u16, |message| {
            message.nested(IFLA_INET_CONF, |message| {
                message.number(IPV4_DEVCONF_ACCEPT_LOCAL, value)
            })
        })
    })
}

/// Whether the loopback accepts our own addresses as a source already.
///
/// # Errors
/// If /proc is not mounted.
pub fn accepts_local() -> Result<bool> {
    let text = fs::read_to_string(ACCEPT_LOCAL).context("read net.ipv4.conf.lo.accept_local")?;
    Ok(text.trim() != "0")
}

/// Makes the rules and routes that are not there yet, and gives the loopback its leave.
///
/// # Errors
/// With what was tried.
pub fn add() -> Result<()> {
    for family in families() {
        let name = name(family);
        unless(
            ErrorKind::AlreadyExists,
            rule(RTM_NEWRULE, CREATE, family).send(),
        )
        .with_context(|| format!("add an {name} rule for what is redirected"))?;
        unless(
            ErrorKind::AlreadyExists,
            route(RTM_NEWROUTE, CREATE, family).send(),
        )
        .with_context(|| format!("add an {name} route for what is redirected"))?;
    }
    accept_local(1)
        .send()
        .context("set net.ipv4.conf.lo.accept_local")
}

/// Removes what [`add`] has made.
///
/// # Errors
/// With what was tried.
pub fn remove(keep_accept_local: bool) -> Result<()> {
    for family in [AF_INET, AF_INET6] {
        let name = name(family);
        for message in [rule(RTM_DELRULE, 0, family), route(RTM_DELROUTE, 0, family)] {
            match message.send() {
                Err(error) if !is_absence(&error) => {
                    return Err(error)
                        .with_context(|| format!("remove {name} routing of what was redirected"));
                }
                _ => {}
            }
        }
    }
    if !keep_accept_local {
        accept_local(0)
            .send()
            .context("take back net.ipv4.conf.lo.accept_local")?;
    }
    Ok(())
}

/// Whether there is no such rule or route, or no such family.
fn is_absence(error: &io::Error) -> bool {
    use Errno::{EAFNOSUPPORT, ENOENT, EOPNOTSUPP, ESRCH};
    [ENOENT, ESRCH, EAFNOSUPPORT, EOPNOTSUPP]
        .iter()
        .any(|&errno| error.raw_os_error() == Some(errno as i32))
}

/// The address families that this network namespace has.
fn families() -> impl Iterator<Item = i32> {
    // Empty where IPv6 is disabled, and not there where the kernel has none.
    let ipv6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    [AF_INET]
        .into_iter()
        .chain((!ipv6.is_empty()).then_some(AF_INET6))
}

fn name(family: i32) -> &'static str {
    if family == AF_INET { "IPv4" } else { "IPv6" }
}

fn unless(kind: ErrorKind, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        result => result,
    }
}
