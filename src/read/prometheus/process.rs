//! What metricd says about its own process and the machine it runs on.

use std::{env, fs, time::Duration};

use nix::{
    sys::utsname,
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

/// The CPU time of all threads so far, in user space and in the kernel.
pub fn cpu_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(Duration::from(time))
}

/// The resident memory of this process, in bytes.
pub fn resident_memory() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(page.try_into().ok()?)
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> Option<String> {
    let name = utsname::uname().ok()?;
    Some(name.release().to_string_lossy().into_owned())
}

/// The pod it runs in, if it is told: its name, its namespace, and who made it (`ReplicaSet/web`).
pub fn pod() -> Option<[String; 3]> {
    let told = |name: &str| env::var(name).ok();
    Some([
        told("METRICD_POD_NAME")?,
        told("METRICD_POD_NAMESPACE").unwrap_or_default(),
        told("METRICD_POD_OWNER").unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_known_and_plausible() {
        assert!(cpu_time().unwrap() > Duration::ZERO);
        assert!((1 << 20..1 << 40).contains(&resident_memory().unwrap()));
        assert!(kernel_release().unwrap().contains('.'));
    }
}
