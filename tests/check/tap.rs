//! tap through the cluster: what the node's pod says arrives as it says it, and the pod is deleted
//! however it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api::{Api, Asked, Log, World};
use crate::golden::{binary, output, stderr};
use crate::remote::NODE_POD;
use crate::world::*;

/// How long anything may take that should be immediate.
const PATIENCE: Duration = Duration::from_secs(20);

const FIRST: &str = "req id=0:0 proxy=in  src=10.9.0.1:36014 :method=GET :path=/ :status=200";
const SECOND: &str = "2026-11-25T23:05:00.000Z req id=0:1 proxy=in  :path=/missing :status=404";

/// The command, what it writes, and where the node's pod writes its log.
struct Tap {
    api: Api,
    child: Child,
    out: Lines,
    err: Lines,
    log: Option<Log>,
}

/// What is written, line by line, as it comes.
struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (send, receive) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            // Ends, and closes the pipe, once nobody wants more.
            lines.map(|line| send.send(line)).all(|sent| sent.is_ok())
        });
        Self(receive)
    }

    #[track_caller]
    fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line in time")
    }

    fn rest(&self) -> Vec<String> {
        self.0.iter().collect()
    }
}

impl Tap {
    /// Returns once the pod is made, which will have these phases.
    fn start(words: &str, phases: &[&str]) -> Self {
        let phases = phases.iter().map(|phase| json!({"phase": phase}));
        Self::start_in(words, phases.collect(), |_| {})
    }

    fn start_in(words: &str, statuses: Vec<Value>, change: impl FnOnce(&mut World)) -> Self {
        let (log, followed) = Log::new();
        let mut world = World {
            statuses,
            followed,
            ..installed()
        };
        change(&mut world);
        let api = Api::start(world);
        let mut command = api.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        let tap = Self {
            api,
            child,
            out,
            err,
            log: Some(log),
        };
        tap.wait("it makes no pod", || {
            !tap.api.asked(Method::POST).is_empty()
        });
        tap
    }

    #[track_caller]
    fn wait(&self, otherwise: &str, until: impl Fn() -> bool) {
        let begun = Instant::now();
        while !until() {
            assert!(begun.elapsed() < PATIENCE, "{otherwise}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn write(&self, text: &str) {
        self.log.as_ref().unwrap().write(text);
    }

    fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    #[track_caller]
    fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What was asked for, and left nothing behind.
    #[track_caller]
    fn deleted(&self) -> Vec<Asked> {
        let deleted = self.api.asked(Method::DELETE);
        assert!(!deleted.is_empty(), "the pod was not deleted");
        for asked in &deleted {
            assert!(asked.path.starts_with(NODE_POD), "{}", asked.path);
        }
        let left = self.api.world().objects[HOME_PODS].len();
        assert_eq!(left, 1, "the injector alone");
        deleted
    }

    fn spec(&self) -> Value {
        let made = self.api.asked(Method::POST);
        let [made] = &made[..] else {
            panic!("{made:?}");
        };
        assert_eq!(made.path, HOME_PODS);
        made.body["spec"].clone()
    }
}

/// A test that fails leaves no command behind that waits.
impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_come_as_they_are_sent() {
    let phases = ["Pending", "Running", "Running", "Succeeded"];
    let mut tap = Tap::start("tap web-7d4b9 -o wide", &phases);
    tap.write("listening\n");
    assert_eq!(tap.err.next(), "listening");
    tap.write(&format!("{FIRST}\n"));
    assert_eq!(tap.out.next(), FIRST);
    // In pieces, as a network may deliver it.
    let (head, rest) = SECOND.split_at(20);
    tap.write(head);
    tap.write(&format!("{rest}\n{FIRST}\n"));
    assert_eq!(tap.out.next(), SECOND);
    assert_eq!(tap.out.next(), FIRST);
    assert_eq!(tap.child.try_wait().unwrap(), None, "it has ended before");
    tap.write("3 requests shown, 0 dropped\n");
    assert_eq!(tap.err.next(), "3 requests shown, 0 dropped");
    tap.log = None;
    assert_eq!(tap.exit_code(), Some(0));
    assert_eq!(tap.out.rest(), [""; 0]);
    assert_eq!(tap.err.rest(), [""; 0]);
    assert_eq!(tap.deleted().len(), 1);
    let spec = tap.spec();
    assert_eq!(spec["nodeName"], "node-2");
    // An hour, two minutes to start in, and one to spare.
    assert_eq!(spec["activeDeadlineSeconds"], 3600 + 120 + 60);
    let container = &spec["containers"][0];
    assert_eq!(container["securityContext"]["privileged"], true);
    let args = [
        "tap",
        "--pod=emojivoto/web-7d4b9",
        "--duration=1h",
        "--output=wide",
    ];
    assert_eq!(container["args"], json!(args));
}

#[test]
fn all_flags_are_handed_on_and_understood_there() {
    let flags = [
        "--method=GET",
        "--path=/api",
        "--status=5xx",
        "--peer=10.9.0.1",
        "--protocol=grpc",
        "--max=3",
        "--duration=1m 30s",
        "--output=json",
    ];
    let words = flags.join(" ").replace("1m 30s", "1m30s");
    let mut tap = Tap::start(
        &format!("tap emojivoto/web-7d4b9 --wait 10s --image other:1 {words}"),
        &["Running", "Succeeded"],
    );
    tap.write("0 requests shown, 0 dropped\n");
    tap.log = None;
    assert_eq!(tap.exit_code(), Some(0));
    let spec = tap.spec();
    assert_eq!(spec["activeDeadlineSeconds"], 90 + 10 + 60);
    assert_eq!(spec["containers"][0]["image"], "other:1");
    let args = spec["containers"][0]["args"].as_array().unwrap();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    assert_eq!(args[..2], ["tap", "--pod=emojivoto/web-7d4b9"]);
    assert_eq!(args[2..], flags);
    // That pod is not on this node.
    let there = stderr(&output(binary().args(args)));
    assert!(there.contains("/var/log/pods"), "{there}");
}

#[test]
fn json_passes_as_it_is() {
    let mut tap = Tap::start("tap web-7d4b9 -o json", &["Running", "Succeeded"]);
    let object = r#"{"source":{"ip":"10.9.0.1"},"requestInitEvent":{"path":"/ä \"req\""}}"#;
    tap.write(&format!(
        "listening\n{object}\n WARN req was slow\n{object}\n2 requests shown, 7 dropped\n"
    ));
    tap.log = None;
    assert_eq!(tap.exit_code(), Some(0));
    assert_eq!(tap.out.rest(), [object; 2]);
    let said = [
        "listening",
        " WARN req was slow",
        "2 requests shown, 7 dropped",
    ];
    assert_eq!(tap.err.rest(), said);
    tap.deleted();
}

/// It is told to end, and its last words are heard.
#[test]
fn one_that_is_interrupted() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut tap = Tap::start("tap web-7d4b9", &["Running"]);
        tap.write(&format!("listening\n{FIRST}\n"));
        assert_eq!(tap.out.next(), FIRST);
        tap.kill(signal);
        tap.wait("it deletes no pod", || {
            !tap.api.asked(Method::DELETE).is_empty()
        });
        tap.write("1 requests shown, 4 dropped\n");
        tap.log = None;
        assert_eq!(tap.exit_code(), Some(0));
        assert_eq!(tap.err.rest(), ["listening", "1 requests shown, 4 dropped"]);
        let deleted = tap.deleted();
        assert_eq!(deleted[0].body["gracePeriodSeconds"], 5);
    }
}

#[test]
fn one_that_is_interrupted_and_does_not_end() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running"]);
    tap.write(&format!("{FIRST}\n"));
    assert_eq!(tap.out.next(), FIRST);
    tap.kill(Signal::SIGINT);
    tap.wait("it deletes no pod", || {
        !tap.api.asked(Method::DELETE).is_empty()
    });
    // Who is impatient.
    let begun = Instant::now();
    tap.kill(Signal::SIGINT);
    assert_eq!(tap.exit_code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let said = tap.err.rest();
    let unknown = "1 requests shown; how many were dropped is not known";
    assert_eq!(said, [unknown]);
    tap.deleted();
}

#[test]
fn one_that_is_interrupted_before_it_has_started() {
    let mut tap = Tap::start("tap web-7d4b9", &["Pending"]);
    tap.kill(Signal::SIGINT);
    assert_eq!(tap.exit_code(), Some(0));
    tap.deleted();
}

/// As `head` does.
#[test]
fn nobody_reads_on() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running"]);
    tap.write(&format!("{FIRST}\n"));
    assert_eq!(tap.out.next(), FIRST);
    tap.out = Lines(channel().1);
    let begun = Instant::now();
    while tap.child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        tap.write(&format!("{FIRST}\n"));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(tap.exit_code(), Some(0));
    assert_eq!(tap.err.rest(), [""; 0]);
    tap.deleted();
}

#[test]
fn what_is_lost_on_the_way_is_said() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running", "Succeeded"]);
    tap.write(&format!("{FIRST}\n5 requests shown, 0 dropped\n"));
    tap.log = None;
    assert_eq!(tap.exit_code(), Some(0));
    let said = tap.err.rest().join("\n");
    assert!(said.contains("4 of them did not come through"), "{said}");
    tap.deleted();
}

/// Longer than any other answer may take.
#[test]
fn silence_is_no_failure() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running", "Succeeded"]);
    tap.write("listening\n");
    assert_eq!(tap.err.next(), "listening");
    thread::sleep(Duration::from_secs(32));
    tap.write(&format!("{FIRST}\n1 requests shown, 0 dropped\n"));
    tap.log = None;
    assert_eq!(tap.exit_code(), Some(0));
    assert_eq!(tap.out.rest(), [FIRST]);
    assert_eq!(tap.err.rest(), ["1 requests shown, 0 dropped"]);
}

/// What ends with an error says why, and leaves no pod.
#[track_caller]
fn fails(mut tap: Tap, why: &str) {
    assert_eq!(tap.exit_code(), Some(1));
    let said = tap.err.rest().join("\n");
    let where_ = "tap emojivoto/web-7d4b9 on node node-2: ";
    assert!(said.contains(&format!("{where_}{why}")), "{said}");
    tap.deleted();
}

#[test]
fn one_that_fails() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running", "Failed"]);
    tap.write("ERROR process 7 listens there already\n");
    assert_eq!(tap.err.next(), "ERROR process 7 listens there already");
    tap.log = None;
    let why = "the node's pod linkerd-metricd-tap-x7k2p failed: it has said why";
    fails(tap, why);
    let late = json!({
        "phase": "Failed", "reason": "DeadlineExceeded",
        "message": "Pod was active on the node longer than the specified deadline",
    });
    let statuses = vec![json!({"phase": "Running"}), late];
    let mut tap = Tap::start_in("tap web-7d4b9", statuses, |_| {});
    tap.log = None;
    let why = "the node's pod linkerd-metricd-tap-x7k2p failed: DeadlineExceeded: Pod was active";
    fails(tap, why);
}

#[test]
fn one_that_never_starts() {
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""});
    let status = json!({
        "phase": "Pending",
        "containerStatuses": [{"name": "linkerd-metricd", "ready": false, "restartCount": 0,
                               "image": "", "imageID": "", "state": {"waiting": waiting}}],
    });
    let tap = Tap::start_in("tap web-7d4b9 --wait 1s", vec![status], |_| {});
    let why =
        "the node's pod linkerd-metricd-tap-x7k2p was not started within PT1S: ImagePullBackOff";
    fails(tap, why);
}

#[test]
fn a_log_that_can_not_be_had() {
    let log = format!("{NODE_POD}tap-x7k2p/log");
    let tap = Tap::start_in(
        "tap web-7d4b9",
        vec![json!({"phase": "Running"})],
        |world| world.forbidden.extend([log]),
    );
    let why = "read the log of the node's pod linkerd-metricd-tap-x7k2p: ";
    fails(tap, why);
}

#[test]
fn a_log_that_breaks_off() {
    let mut tap = Tap::start("tap web-7d4b9", &["Running"]);
    tap.write(&format!("{FIRST}\n"));
    assert_eq!(tap.out.next(), FIRST);
    tap.log.take().unwrap().break_off();
    let why = "the log of the node's pod linkerd-metricd-tap-x7k2p broke off";
    fails(tap, why);
}

#[test]
fn what_can_be_told_before() {
    for (words, why) in [
        ("tap missing", "get pod emojivoto/missing"),
        ("tap a/b -n c", "a/b is not in namespace c"),
        ("tap web-7d4b9 --pod other", "cannot be used with"),
        ("tap web-7d4b9 --pin-dir /sys/fs/bpf", "cannot be used with"),
        ("tap web-7d4b9 --status 99", "--status"),
        ("tap --image x", "required"),
    ] {
        let api = Api::start(installed());
        let output = output(&mut api.command(words));
        assert!(!output.status.success());
        let said = stderr(&output);
        assert!(said.contains(why), "{words}: {said}");
        assert!(api.asked(Method::POST).is_empty(), "{words}");
    }
}
