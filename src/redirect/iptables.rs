//! Whether iptables redirects in a network namespace: what a move from it, or back, must know.

use std::fs;
use std::io;

use nix::sys::socket::SockProtocol;

use crate::kernel::netlink::Message;
use crate::kernel::sys;

/// Targets and expressions that change where a connection goes, as either kind of iptables has them.
const TARGETS: [&str; 5] = ["REDIRECT", "DNAT", "TPROXY", "redir", "tproxy"];

/// Which kinds of iptables have rules that redirect, in the namespace that the thread is in.
///
/// # Errors
/// If the kernel does not say.
pub fn that_redirect() -> io::Result<Vec<&'static str>> {
    let mut kinds = Vec::new();
    if redirects(&nft_rules()?) {
        kinds.push("nft");
    }
    for (names, ipv6) in [("ip_tables_names", false), ("ip6_tables_names", true)] {
        // Empty until somebody asks for a table, which makes it.
        let path = format!("/proc/thread-self/net/{names}");
        for table in fs::read_to_string(path).unwrap_or_default().lines() {
            if ["nat", "mangle"].contains(&table)
                && !kinds.contains(&"legacy")
                && redirects(&sys::iptables_entries(table, ipv6)?)
            {
                kinds.push("legacy");
            }
        }
    }
    Ok(kinds)
}

/// All rules of nf_tables; none where the kernel has no such thing.
fn nft_rules() -> io::Result<Vec<u8>> {
    /// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETRULE` of linux/netfilter/nfnetlink.h and nf_tables.h.
    const GET_RULE: u16 = (10 << 8) | 7;
    // struct nfgenmsg, of all families
    match Message::listing(GET_RULE, &[0; 4]).list(SockProtocol::NetlinkNetFilter) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Vec::new()),
        // Without nfnetlink there is nobody to ask.
        Err(error) if error.raw_os_error() == Some(nix::libc::ECONNREFUSED) => Ok(Vec::new()),
        rules => rules.map(|rules| rules.concat()),
    }
}

/// Whether a target is named in `rules`, as a whole word with its end.
fn redirects(rules: &[u8]) -> bool {
    TARGETS.iter().any(|target| {
        let word = [&[0], target.as_bytes(), &[0]].concat();
        rules.windows(word.len()).any(|window| window == word)
    })
}

#[cfg(test)]
mod tests {
    use super::redirects;

    #[test]
    fn a_comment_is_no_target() {
        assert!(redirects(b"\x0c\0\x01\0REDIRECT\0"));
        assert!(!redirects(
            b"\x20\0\x01\0proxy-init/redirect-all REDIRECT\0"
        ));
        assert!(!redirects(b"\x0c\0\x01\0REDIRECTED\0"));
    }
}
