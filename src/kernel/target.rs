//! Which pod the command line is to work on, from outside of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::kernel::netns;
use crate::kernel::options::{Options, PIN_DIR};
use crate::kernel::pin_dir::PinDir;

/// Where kubelet has a folder for each pod of the node: `<namespace>_<name>_<uid>`.
pub const LOGS: &str = "/var/log/pods";

/// Where the pins of pods are, on the host's bpffs: a folder by uid.
pub const PODS: &str = "linkerd-metricd";

/// Whose network namespace to enter [default: the one it runs in]
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct Target {
    /// Network namespace to enter [default: the one it runs in]
    #[arg(long, env = "METRICD_NETNS", value_name = "PATH")]
    netns: Option<PathBuf>,

    /// Process whose network namespace to enter
    #[arg(long, env = "METRICD_PID")]
    pid: Option<u32>,
}

/// A target that may also be named as the cluster does.
#[derive(Args, Clone, Debug, Default)]
pub struct NodeTarget {
    #[command(flatten)]
    target: Target,

    /// Pod of this node, as root there; its pins are in linkerd-metricd/UID of the bpffs unless
    /// --pin-dir says otherwise
    #[arg(long, value_name = "[NAMESPACE/]NAME", conflicts_with_all = ["netns", "pid"])]
    pod: Option<String>,
}

impl Target {
    /// Enters the network namespace.
    ///
    /// # Errors
    /// If there is no such network namespace, or the right to enter it is missing.
    pub fn enter(&self) -> Result<()> {
        match self.netns.clone().or(self.pid.map(netns::of_pid)) {
            Some(path) => netns::enter(&path),
            None => Ok(()),
        }
    }
}

impl NodeTarget {
    /// Enters the network namespace. Returns the options with the pin directory settled.
    ///
    /// # Errors
    /// If the pod is not on this node, or there is no such network namespace.
    pub fn enter(&self, mut options: Options) -> Result<Options> {
        let Some(pod) = &self.pod else {
            self.target.enter()?;
            return Ok(options);
        };
        let uid = uid_of(pod, Path::new(LOGS))?;
        netns::enter(&netns::of_pid(process_of(pod, &uid, Path::new("/proc"))?))?;
        if options.pin_dir == PinDir::new(PIN_DIR) {
            options.pin_dir = pins_by_uid(&uid);
        }
        Ok(options)
    }
}

/// Where the pins of a pod `[namespace/]name` of this node are.
///
/// # Errors
/// If the pod is not on this node.
pub fn pins_of(pod: &str) -> Result<PinDir> {
    Ok(pins_by_uid(&uid_of(pod, Path::new(LOGS))?))
}

fn pins_by_uid(uid: &str) -> PinDir {
    PinDir::new(Path::new(PIN_DIR).join(PODS).join(uid))
}

/// The uid of a pod `[namespace/]name`.
fn uid_of(pod: &str, logs: &Path) -> Result<String> {
    let (namespace, name) = match pod.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, pod),
    };
    let mut found = Vec::new();
    let list = || format!("list the pods of this node in {}", logs.display());
    for entry in fs::read_dir(logs).with_context(list)? {
        let folder = entry.with_context(list)?.file_name();
        let folder = folder.to_string_lossy();
        if let [its_namespace, its_name, uid] = folder.split('_').collect::<Vec<_>>()[..]
            && its_name == name
            && namespace.is_none_or(|namespace| namespace == its_namespace)
        {
            found.push((its_namespace.to_owned(), uid.to_owned()));
        }
    }
    match &found[..] {
        [(_, uid)] => Ok(uid.clone()),
        [] => bail!(
            "no pod {pod} on this node: there is no folder of it in {}",
            logs.display()
        ),
        // Another pod of this name is being deleted, or is in another namespace.
        _ => {
            let all: Vec<String> = found
                .iter()
                .map(|(namespace, uid)| format!("{namespace}/{name} ({uid})"))
                .collect();
            bail!(
                "{pod} is more than one: {}; name one by --pid and --pin-dir",
                all.join(", ")
            )
        }
    }
}

/// A process in the pod, as its cgroup tells.
fn process_of(pod: &str, uid: &str, proc: &Path) -> Result<u32> {
    // systemd has no dashes in the names of slices.
    let marks = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    for entry in fs::read_dir(proc).context("list the processes")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if marks.iter().any(|mark| cgroup.contains(mark.as_str())) {
            return Ok(pid);
        }
    }
    bail!(
        "no process of pod {pod} (uid {uid}) is running here: is it the pod's node, and the host's \
         PID namespace?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("metricd-target-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_pod_is_found_by_its_name() {
        let logs = folder("logs");
        for pod in ["a_web-1_uid-1", "b_web-1_uid-2", "b_db-0_uid-3", "web-1"] {
            fs::create_dir(logs.join(pod)).unwrap();
        }
        assert_eq!(uid_of("db-0", &logs).unwrap(), "uid-3");
        assert_eq!(uid_of("b/web-1", &logs).unwrap(), "uid-2");
        let error = uid_of("web-1", &logs).unwrap_err().to_string();
        assert!(
            error.contains("a/web-1") && error.contains("uid-2"),
            "{error}"
        );
        let error = uid_of("a/db-0", &logs).unwrap_err().to_string();
        assert!(error.contains("no pod a/db-0 on this node"), "{error}");
        fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn a_process_is_found_by_the_uid_in_its_cgroup() {
        let proc = folder("proc");
        for (pid, cgroup) in [
            ("1", "0::/init.scope"),
            (
                "70",
                "0::/kubepods.slice/kubepods-pod12_ab.slice/cri-containerd-7.scope",
            ),
            ("80", "0::/kubepods/burstable/pod34-cd/9"),
        ] {
            fs::create_dir(proc.join(pid)).unwrap();
            fs::write(proc.join(pid).join("cgroup"), cgroup).unwrap();
        }
        fs::create_dir(proc.join("sys")).unwrap();
        assert_eq!(process_of("p", "12-ab", &proc).unwrap(), 70);
        assert_eq!(process_of("p", "34-cd", &proc).unwrap(), 80);
        assert!(process_of("p", "56", &proc).is_err());
        fs::remove_dir_all(proc).unwrap();
    }
}
