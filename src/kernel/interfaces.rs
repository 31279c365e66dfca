//! The interfaces of the network namespace that the thread is in, and which of them are to be observed
//! so that each packet is seen, and seen once.

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context, Result, bail};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockProtocol;

use crate::kernel::netlink::{Message, attributes};
use crate::kernel::netns;
use crate::kernel::pin_dir::{Observed, PinDir};

/// An interface of the namespace that the thread is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
}

/// All interfaces of a namespace, in the order of their names.
pub struct Interfaces(Vec<Link>);

/// An interface, and what it lies upon or belongs to.
#[derive(Debug)]
struct Link {
    name: String,
    index: u32,
    flags: InterfaceFlags,
    /// The kind of a virtual interface, as `ip link add type` has it.
    kind: String,
    /// The interface in this namespace that it lies upon, or 0. Not every kind has one, and the end of
    /// a veth has its peer here.
    lower: u32,
    /// The interface that it is a port of, or 0, and the kind of that.
    master: u32,
    master_kind: String,
}

impl Interfaces {
    /// Lists them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn list() -> io::Result<Self> {
        const RTM_GETLINK: u16 = 18;
        let all = Message::listing(RTM_GETLINK, &[0; IFINFOMSG]);
        let listed = all.list(SockProtocol::NetlinkRoute)?;
        let mut links: Vec<Link> = listed.iter().filter_map(|link| Link::read(link)).collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(links))
    }

    /// The interfaces called `names`, or, if none are named, all that are up but the loopback.
    ///
    /// # Errors
    /// If a named one does not exist, or none is up.
    pub fn choose(&self, names: &[String]) -> Result<Vec<Interface>> {
        self.named_or_up(names).and_then(some)
    }

    /// The interfaces to observe: those of [`Self::choose`], but, if none are named, without those whose
    /// packets are seen at another one; and the loopback as well, if asked for. What is `attached` already
    /// goes on being observed.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn to_observe(
        &self,
        names: &[String],
        loopback: bool,
        attached: &BTreeSet<u32>,
    ) -> Result<Vec<Interface>> {
        let mut chosen = self.named_or_up(names)?;
        if names.is_empty() {
            chosen.retain(|interface| self.is_observed(interface.index, attached));
        }
        if let Some(lo) = self.0.iter().find(|link| link.is_loopback())
            && loopback
            && chosen.iter().all(|interface| interface.index != lo.index)
        {
            chosen.push(lo.interface());
        }
        some(chosen)
    }

    /// A line for each interface that is up and not `observed`, since its packets are seen at another one.
    pub fn left_out(&self, observed: &BTreeSet<u32>) -> Vec<String> {
        let is_observed = |link: &Link| observed.contains(&link.index);
        let left_out = self
            .0
            .iter()
            .filter(|link| link.is_candidate() && !is_observed(link));
        left_out
            .filter_map(|link| {
                let share = |other: &Link| self.is_upon(link, other) || self.is_upon(other, link);
                let seen_at = self
                    .0
                    .iter()
                    .find(|other| is_observed(other) && share(other))?;
                Some(format!(
                    "{}: left out, its packets are seen at {}",
                    link.name, seen_at.name
                ))
            })
            .collect()
    }

    /// A line for each two of the `observed` interfaces of which the one lies upon the other.
    pub fn seen_twice(&self, observed: &BTreeSet<u32>) -> Vec<String> {
        let observed: Vec<&Link> = self
            .0
            .iter()
            .filter(|link| observed.contains(&link.index))
            .collect();
        let pairs = observed.iter().flat_map(|upper| {
            let lower = observed.iter().filter(|lower| self.is_upon(upper, lower));
            lower.map(|lower| (&upper.name, &lower.name))
        });
        pairs
            .map(|(upper, lower)| {
                format!(
                    "{upper} lies upon {lower}, and both are observed: packets that pass both \
                     count twice, the second time as sent again; to observe one of them, --detach, and name it by --interface"
                )
            })
            .collect()
    }

    /// The interfaces that are observed, or should be and are not, and whether they are: as the pin
    /// directory has word of it, and as far as the thread is in that namespace. What is down or has no
    /// carrier is not missed.
    pub fn observed(&self, word: &Observed) -> Vec<(String, bool)> {
        let is_wanted = |link: &Link| match &word.named[..] {
            [] => !link.is_loopback() && self.is_observed(link.index, &word.attached),
            named => named.contains(&link.name),
        };
        let can_carry = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        self.0
            .iter()
            .map(|link| (link, word.attached.contains(&link.index)))
            .filter(|(link, attached)| {
                *attached || (link.flags.contains(can_carry) && is_wanted(link))
            })
            .map(|(link, attached)| (link.name.clone(), attached))
            .collect()
    }

    fn named_or_up(&self, names: &[String]) -> Result<Vec<Interface>> {
        if names.is_empty() {
            let up = self.0.iter().filter(|link| link.is_candidate());
            return Ok(up.map(Link::interface).collect());
        }
        names.iter().map(|name| self.find(name)).collect()
    }

    fn find(&self, name: &str) -> Result<Interface> {
        let link = self.0.iter().find(|link| link.name == name);
        link.map(Link::interface).with_context(|| {
            let known: Vec<&str> = self.0.iter().map(|link| link.name.as_str()).collect();
            format!("find interface {name}, there are: {}", known.join(", "))
        })
    }

    fn get(&self, index: u32) -> Option<&Link> {
        self.0.iter().find(|link| link.index == index)
    }

    /// Whether an interface is observed, if none are named. Of interfaces that lie upon each other the
    /// one is observed that sees the most:
    /// - a bond, bridge or team, not its ports: it sees both directions of its connections, whichever
    ///   ports they use;
    /// - what a VLAN, macvlan or ipvlan lies upon, not these: it has packets of its own, too.
    fn is_observed(&self, index: u32, attached: &BTreeSet<u32>) -> bool {
        let Some(link) = self.get(index) else {
            return false;
        };
        if attached.contains(&index) || !link.is_candidate() {
            return attached.contains(&index);
        }
        // A bridge that was made over an interface that is observed: its packets pass there.
        let has_observed_port = |bridge: u32| {
            let mut ports = self.0.iter().filter(|port| port.is_port_of(bridge));
            ports.any(|port| port.index != index && attached.contains(&port.index))
        };
        let elsewhere = match link.master_kind.as_str() {
            "bridge" if has_observed_port(link.master) => true,
            "bridge" | "bond" | "team" => self.is_observed(link.master, attached),
            _ if link.kind == "bridge" => has_observed_port(index),
            _ => self.is_upon_observed(link, attached),
        };
        !elsewhere
    }

    /// Whether an interface that this one lies upon is observed, or one that that lies upon.
    fn is_upon_observed(&self, link: &Link, attached: &BTreeSet<u32>) -> bool {
        let lower = link.is_upon_lower().then(|| self.get(link.lower)).flatten();
        lower.is_some_and(|lower| {
            self.is_observed(lower.index, attached) || self.is_upon_observed(lower, attached)
        })
    }

    /// Whether packets of `upper` pass `lower`, too.
    fn is_upon(&self, upper: &Link, lower: &Link) -> bool {
        let mut below = self.0.iter().filter(|link| {
            link.is_port_of(upper.index) || (upper.is_upon_lower() && upper.lower == link.index)
        });
        // The kernel lets no interface lie upon itself, so this ends.
        below.any(|link| link.index == lower.index || self.is_upon(link, lower))
    }
}

/// # Errors
/// If there are none.
fn some(chosen: Vec<Interface>) -> Result<Vec<Interface>> {
    if chosen.is_empty() {
        bail!("no interface is up in this network namespace, name one by --interface");
    }
    Ok(chosen)
}

/// Bytes of struct ifinfomsg of linux/rtnetlink.h.
const IFINFOMSG: usize = 16;

impl Link {
    /// Reads struct ifinfomsg and the attributes behind it.
    fn read(message: &[u8]) -> Option<Self> {
        const IFLA_IFNAME: u16 = 3;
        const IFLA_LINK: u16 = 5;
        const IFLA_MASTER: u16 = 10;
        const IFLA_LINKINFO: u16 = 18;
        const IFLA_LINK_NETNSID: u16 = 37;
        const IFLA_INFO_KIND: u16 = 1;
        const IFLA_INFO_SLAVE_KIND: u16 = 4;
        let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
        let text = |bytes: &[u8]| {
            let text = bytes.split(|byte| *byte == 0).next();
            String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
        };
        let (header, rest) = message.split_at_checked(IFINFOMSG)?;
        let mut link = Self {
            index: word(&header[4..8])?,
            flags: InterfaceFlags::from_bits_truncate(word(&header[8..12])?.cast_signed()),
            name: String::new(),
            kind: String::new(),
            lower: 0,
            master: 0,
            master_kind: String::new(),
        };
        let mut is_lower_elsewhere = false;
        for (kind, value) in attributes(rest) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_LINK => link.lower = word(value)?,
                IFLA_MASTER => link.master = word(value)?,
                IFLA_LINK_NETNSID => is_lower_elsewhere = true,
                IFLA_LINKINFO => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            IFLA_INFO_KIND => link.kind = text(value),
                            IFLA_INFO_SLAVE_KIND => link.master_kind = text(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if is_lower_elsewhere {
            link.lower = 0;
        }
        Some(link)
    }

    fn interface(&self) -> Interface {
        Interface {
            name: self.name.clone(),
            index: self.index,
        }
    }

    fn is_loopback(&self) -> bool {
        self.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    }

    /// Whether it is taken if none are named.
    fn is_candidate(&self) -> bool {
        self.flags.contains(InterfaceFlags::IFF_UP) && !self.is_loopback()
    }

    /// Whether its packets pass a master that hands them on as they are. A VRF, for one, does not.
    fn is_port_of(&self, master: u32) -> bool {
        self.master == master && matches!(self.master_kind.as_str(), "bridge" | "bond" | "team")
    }

    /// Whether its packets pass the interface that it lies upon as they are, perhaps with a tag. Those
    /// of a tunnel do not.
    fn is_upon_lower(&self) -> bool {
        let kind = self.kind.as_str();
        self.lower != 0 && matches!(kind, "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap")
    }
}

/// The interfaces that are observed by what `dir` holds, or should be, and whether they are. None, where
/// nobody knows: in another namespace, or where metricd-init was of a version that leaves no word.
pub fn observed(dir: &PinDir) -> Vec<(String, bool)> {
    let word = dir.observed().filter(|word| {
        let here = netns::inode();
        here.is_ok_and(|inode| inode == word.netns)
    });
    match (word, Interfaces::list()) {
        (Some(word), Ok(all)) => all.observed(&word),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, lower: u32, port: Option<(u32, &str)>) -> Link {
        let (master, master_kind) = port.unwrap_or_default();
        Link {
            name: name.into(),
            index,
            flags: InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING,
            kind: kind.into(),
            lower,
            master,
            master_kind: master_kind.into(),
        }
    }

    fn with_loopback(mut links: Vec<Link>) -> Interfaces {
        links.push(Link {
            flags: InterfaceFlags::IFF_UP | InterfaceFlags::IFF_LOOPBACK,
            ..link(1, "lo", "", 0, None)
        });
        Interfaces(links)
    }

    #[track_caller]
    fn observes(links: Vec<Link>, names: &[&str]) {
        let all = with_loopback(links);
        let chosen = all.to_observe(&[], false, &BTreeSet::new()).unwrap();
        let chosen: Vec<_> = chosen.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(chosen, names);
    }

    #[test]
    fn each_packet_is_seen_once() {
        let eth0 = || link(2, "eth0", "veth", 0, None);
        observes(
            vec![eth0(), link(3, "eth1", "", 0, None)],
            &["eth0", "eth1"],
        );
        for kind in ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"] {
            observes(vec![eth0(), link(3, "up", kind, 2, None)], &["eth0"]);
            // One upon the other.
            let second = link(4, "upper", kind, 3, None);
            observes(
                vec![eth0(), link(3, "up", kind, 2, None), second],
                &["eth0"],
            );
            // What it lies upon is in another namespace.
            observes(vec![link(3, "up", kind, 0, None)], &["up"]);
        }
        for kind in ["bridge", "bond", "team"] {
            let ports = [(2, "eth0"), (3, "eth1")]
                .map(|(index, name)| link(index, name, "veth", 0, Some((4, kind))));
            let mut links = Vec::from(ports);
            links.push(link(4, "master", kind, 0, None));
            links.push(link(5, "tagged", "vlan", 4, None));
            observes(links, &["master"]);
        }
    }

    #[test]
    fn what_sees_other_packets_stays() {
        let eth0 = || link(2, "eth0", "veth", 0, None);
        // The outer packets of a tunnel, and the two ends of a veth.
        for kind in ["vxlan", "gre", "veth"] {
            observes(vec![eth0(), link(3, "x", kind, 2, None)], &["eth0", "x"]);
        }
        // A VRF's own hooks see little of what its ports see.
        let port = link(2, "eth0", "veth", 0, Some((3, "vrf")));
        observes(vec![port, link(3, "red", "vrf", 0, None)], &["eth0", "red"]);
        // Tagged frames go to a port's VLAN before they come to the bridge.
        let port = link(2, "eth0", "veth", 0, Some((3, "bridge")));
        let (bridge, vlan) = (
            link(3, "br0", "bridge", 0, None),
            link(4, "v", "vlan", 2, None),
        );
        observes(vec![port, bridge, vlan], &["br0", "v"]);
    }

    #[test]
    fn where_the_other_one_is_down() {
        let port = link(2, "eth0", "veth", 0, Some((3, "bridge")));
        let mut bridge = link(3, "br0", "bridge", 0, None);
        bridge.flags = InterfaceFlags::empty();
        observes(vec![port, bridge], &["eth0"]);
    }

    #[test]
    fn what_is_named_is_taken_and_explained() {
        let all = with_loopback(vec![
            link(2, "eth0", "veth", 0, None),
            link(3, "eth0.5", "vlan", 2, Some((4, "bridge"))),
            link(4, "br0", "bridge", 0, None),
        ]);
        let names = ["eth0".to_owned(), "br0".to_owned()];
        let chosen = all.to_observe(&names, true, &BTreeSet::new()).unwrap();
        let chosen: Vec<_> = chosen.iter().map(|one| one.index).collect();
        assert_eq!(chosen, [2, 4, 1]);
        let observed = chosen.into_iter().collect();
        let twice = all.seen_twice(&observed);
        assert_eq!(twice.len(), 1, "{twice:?}");
        assert!(twice[0].starts_with("br0 lies upon eth0, and both are observed"));
        let left_out = all.left_out(&observed);
        assert_eq!(left_out, ["eth0.5: left out, its packets are seen at eth0"]);
        let none = all.to_observe(&["none0".to_owned()], false, &BTreeSet::new());
        let error = none.unwrap_err().to_string();
        assert_eq!(
            error,
            "find interface none0, there are: eth0, eth0.5, br0, lo"
        );
    }

    fn word(attached: &[u32], named: &[&str]) -> Observed {
        Observed {
            netns: 0,
            attached: attached.iter().copied().collect(),
            named: named.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn what_came_later_is_missed() {
        let mut down = link(4, "down0", "", 0, None);
        down.flags = InterfaceFlags::IFF_UP;
        let links = vec![
            link(2, "eth0", "veth", 0, None),
            link(3, "net1", "veth", 0, None),
            down,
            link(5, "mac0", "macvlan", 2, None),
        ];
        let all = with_loopback(links);
        let seen = |word| all.observed(&word);
        let is = |name: &str, observed| (name.to_owned(), observed);
        let both = [is("eth0", true), is("net1", false)];
        assert_eq!(seen(word(&[2], &[])), both);
        assert_eq!(seen(word(&[2], &["eth0", "net1", "net2"])), both);
        assert_eq!(seen(word(&[2], &["eth0"])), both[..1]);
        let all_three = [is("eth0", true), is("net1", true), is("lo", true)];
        assert_eq!(seen(word(&[1, 2, 3], &[])), all_three);
    }

    /// A virtual machine's interface is joined to one that was there before.
    #[test]
    fn a_bridge_made_over_what_is_observed() {
        let all = with_loopback(vec![
            link(2, "eth0", "veth", 0, Some((3, "bridge"))),
            link(3, "br0", "bridge", 0, None),
            link(4, "tap0", "tun", 0, Some((3, "bridge"))),
        ]);
        assert_eq!(all.observed(&word(&[2], &[])), [("eth0".to_owned(), true)]);
    }
}
