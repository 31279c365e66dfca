//! Which kernel this is, and whether it is new enough.

use std::fs;

use anyhow::{Context, Result, bail};

/// Checks that this kernel is new enough.
///
/// # Errors
/// If it is older than 5.10.
pub fn check_kernel() -> Result<()> {
    check_release(&kernel_release()?)
}

/// What `uname -r` prints.
///
/// # Errors
/// If /proc is not mounted.
pub fn kernel_release() -> Result<String> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    Ok(release.trim().to_owned())
}

/// The first two numbers of a kernel's release.
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Checks that a kernel of this release is new enough.
///
/// # Errors
/// If it is older than 5.10.
pub fn check_release(release: &str) -> Result<()> {
    if version(release) < (5, 10) {
        bail!("kernel {release} is too old, 5.10 or later is needed");
    }
    Ok(())
}
