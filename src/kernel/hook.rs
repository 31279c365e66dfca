//! Where programs are attached, and whose they are.

/// The loopback's index in every network namespace (LOOPBACK_IFINDEX of linux/net_namespace.h).
pub const LOOPBACK: u32 = 1;

/// Which of a device's two hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Ingress,
    Egress,
}

impl Hook {
    pub const BOTH: [Hook; 2] = [Hook::Ingress, Hook::Egress];

    pub fn name(self) -> &'static str {
        match self {
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        }
    }
}

/// Whose programs: a hook can have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The programs that count.
    Observer,
    /// The programs that give connections to a proxy.
    Redirect,
}

impl Owner {
    pub const BOTH: [Owner; 2] = [Owner::Observer, Owner::Redirect];

    /// The handle of the owner's clsact filters: "mt" and "mr".
    pub fn handle(self) -> u32 {
        match self {
            Owner::Observer => 0x6d74,
            Owner::Redirect => 0x6d72,
        }
    }

    /// Whose programs come first at a hook: what arrives is counted as it comes, and what is led
    /// away has not left.
    pub fn first(ifindex: u32, hook: Hook) -> Self {
        match hook {
            Hook::Ingress if ifindex != LOOPBACK => Owner::Observer,
            _ => Owner::Redirect,
        }
    }
}

/// Where a program is attached, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub owner: Owner,
    pub ifindex: u32,
    pub hook: Hook,
}
