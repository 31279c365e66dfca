//! Runs of a command under strace: which system calls it makes, and its end at one of them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use crate::process::output;

/// A system call of a run.
pub struct Call {
    pub name: String,
    /// Which of those with that name.
    nth: u32,
    /// As strace shows it.
    pub text: String,
}

impl Call {
    /// Whether it may change anything that is there when the process is gone. A process that is
    /// killed leaves what the calls before have made, so all kills between two such calls leave
    /// the same.
    pub fn changes(&self) -> bool {
        // They look, or make what goes with the process: a map or program that is not pinned.
        const BPF: [&str; 8] = [
            "BPF_OBJ_GET",
            "BPF_MAP_LOOKUP_ELEM",
            "BPF_MAP_GET_NEXT_KEY",
            "BPF_MAP_CREATE",
            "BPF_MAP_FREEZE",
            "BPF_BTF_LOAD",
            "BPF_PROG_LOAD",
            "BPF_PROG_BIND_MAP",
        ];
        // With what begins like them, such as renameat2.
        const OTHERS: [&str; 13] = [
            "send",
            "unlink",
            "rename",
            "mkdir",
            "rmdir",
            "symlink",
            "chown",
            "lchown",
            "fchown",
            "chmod",
            "fchmod",
            "flock",
            "exit_group",
        ];
        let has_failed = self.text.contains(" = -1 E");
        match self.text.strip_prefix("bpf(") {
            _ if has_failed => false,
            Some(command) => !BPF.iter().any(|harmless| command.starts_with(harmless)),
            None => OTHERS.iter().any(|name| self.name.starts_with(name)),
        }
    }

    /// Whether the heap grows or shrinks by it, or may.
    pub fn is_of_heap(&self) -> bool {
        ["brk", "mmap", "munmap", "mremap", "madvise"].contains(&self.name.as_str())
    }
}

/// The system calls of a run from beginning to end, which must succeed.
pub fn calls(log: &Path, command: &Command) -> Vec<Call> {
    let mut traced = strace();
    traced.arg(log);
    let done = output(&mut under(traced, command));
    assert!(done.status.success(), "{command:?}: {done:?}");
    let text = fs::read_to_string(log).expect("strace's log");
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines() {
        // A process id comes first.
        let text = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let (name, _) = text.split_once('(').unwrap_or_else(|| panic!("{line}"));
        let before = calls.iter().filter(|call| call.name == name).count();
        calls.push(Call {
            name: name.to_owned(),
            nth: before as u32 + 1,
            text: text.to_owned(),
        });
    }
    calls
}

/// Runs the command until it is killed on its way into that call. Whether it came to it; if not, it
/// must have succeeded.
pub fn kill_at(call: &Call, command: &Command) -> bool {
    let Call { name, nth, .. } = call;
    let mut traced = strace();
    traced.args(["/dev/null", "-e", &format!("trace={name}"), "-e"]);
    traced.arg(format!("inject={name}:signal=KILL:when={nth}"));
    let done = output(&mut under(traced, command));
    // strace ends as the command did.
    let killed = done.status.signal() == Some(libc::SIGKILL);
    assert!(killed || done.status.success(), "{command:?}: {done:?}");
    killed
}

/// Up to the name of the log.
fn strace() -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]);
    // Cargo's, of its own folders: the loader would look into each of them for each library.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

fn under(mut strace: Command, command: &Command) -> Command {
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace
}
