//! Which line shows what: [`FAMILIES`].

mod dns;
mod maps;
mod own;
pub mod proxied;
mod requests;
mod totals;
mod traffic;

use std::sync::LazyLock;

use super::family::Family;

/// All families, in the order of the text.
pub static FAMILIES: LazyLock<Vec<&'static Family>> = LazyLock::new(|| {
    let groups: [&'static [Family]; 8] = [
        &[own::UP],
        totals::FAMILIES,
        traffic::FAMILIES,
        requests::FAMILIES,
        proxied::FAMILIES,
        dns::FAMILIES,
        maps::FAMILIES,
        own::FAMILIES,
    ];
    groups.into_iter().flatten().collect()
});
