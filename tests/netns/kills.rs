//! Kills. Of init at its system calls, one after the other; and of init and the sidecar at random
//! moments under load. What ran before runs on, and the next run heals what is left, whatever that
//! is.
//!
//! METRICD_TEST_KILLS is how many of the calls that change something are tried of each operation,
//! evenly spread. With `all` there is a kill at every system call: those between two that change
//! something must leave the same, which then need be healed but once. Only the heap's are left out:
//! not every run makes as many of those. METRICD_TEST_RANDOM_KILLS is how many kills are at random
//! moments, and METRICD_TEST_SEED makes those others.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapHandle};

use crate::attach::{attached, qdiscs};
use crate::exposition::Scrape;
use crate::fixture::{Family, METRICS, Pod, Shape};
use crate::l4::assert_equal_growth;
use crate::left::Left;
use crate::load::from_environment;
use crate::netns::Interface;
use crate::observed::{Connections, Http};
use crate::process::{PATIENCE, eventually, output};
use crate::server::HTTP;
use crate::strace::{Call, calls, kill_at};
use crate::upgrade::{CLI, operation, under_load};
use crate::wire::Dice;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What is changed and changed back: the one needs other programs, the other also other maps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Settings {
    way: &'static str,
    ipv6: bool,
    /// The upper one of two buckets' bounds. With another size of the maps a run would not make as
    /// many calls.
    bound: u32,
}

impl Settings {
    fn first(way: &'static str) -> Self {
        Self {
            way,
            ipv6: true,
            bound: 2,
        }
    }

    fn other_ipv6(self) -> Self {
        let ipv6 = !self.ipv6;
        Self { ipv6, ..self }
    }

    fn other_bound(self) -> Self {
        let bound = 5 - self.bound;
        Self { bound, ..self }
    }

    /// The pod's start.
    fn init(self, pod: &Pod) -> Command {
        let mut command = pod.init_command(&["--attach", self.way]);
        command.args(["--connections", "64", "--http2-connections", "32"]);
        command.args(["--detail", "pod", "--ipv6", &self.ipv6.to_string()]);
        command.args(["--map-size", MAP_SIZE, "--buckets", &self.buckets()]);
        command
    }

    fn upgrade(self, pod: &Pod) -> Command {
        let ipv6 = self.ipv6.to_string();
        operation(pod, Path::new(CLI), &["upgrade", "--ipv6", &ipv6])
    }

    fn resize(self, pod: &Pod) -> Command {
        let args = ["resize", "--map-size", MAP_SIZE, "--buckets"];
        operation(
            pod,
            Path::new(CLI),
            &[&args[..], &[&self.buckets()]].concat(),
        )
    }

    fn buckets(self) -> String {
        format!("1,{}", self.bound)
    }
}

/// Small, for few calls to make them.
const MAP_SIZE: &str = "32";

fn detach(pod: &Pod) -> Command {
    operation(pod, Path::new(CLI), &["detach"])
}

/// A pod and what must have been counted in it.
struct Subject {
    pod: Pod,
    settings: Settings,
    /// The pins of a run that was not killed.
    healthy: BTreeMap<String, String>,
    /// When the programs were attached.
    since: Option<(Interface, Scrape)>,
    connections: u64,
    requests: u64,
    /// What the kills of this stretch have left.
    left: Option<Vec<String>>,
}

impl Subject {
    fn new(way: &'static str) -> Self {
        let mut subject = Self {
            pod: Pod::new(Shape::Frames),
            settings: Settings::first(way),
            healthy: BTreeMap::new(),
            since: None,
            connections: 0,
            requests: 0,
            left: None,
        };
        subject.pod.start_waiting();
        subject.attach();
        subject.healthy = pins(&subject.pod).0;
        subject
    }

    /// Attaches where nothing is, or where it was not known what is.
    fn attach(&mut self) -> String {
        let said = succeed(&mut self.settings.init(&self.pod));
        self.since = None;
        (self.connections, self.requests) = (0, 0);
        self.settled();
        said
    }

    /// Attaches as if nothing had ever been there.
    fn attach_anew(&mut self) {
        succeed(&mut detach(&self.pod));
        self.attach();
    }

    /// Kills at the harmless calls, each in a run that begins where this one does.
    fn kill_harmless(
        &mut self,
        stretch: &Stretch,
        command: &Command,
        mut begin: impl FnMut(&mut Self),
    ) {
        self.left = None;
        for call in &stretch.harmless {
            if self.kill(call, command) {
                begin(self);
            }
        }
    }

    /// Kills there, and makes sure that this leaves what the others of the stretch have left.
    /// Whether that is something else than what was there before.
    fn kill(&mut self, call: &Call, command: &Command) -> bool {
        let before = Left::of(&self.pod);
        kill(call, command);
        let left = Left::of(&self.pod).since(&before);
        let first = self.left.get_or_insert_with(|| left.clone());
        assert_eq!(left, *first, "killed at {}", call.text);
        left != before.since(&before)
    }

    fn settled(&mut self) -> Scrape {
        let scrape = self.pod.ended();
        if self.since.is_none() {
            self.since = Some(self.pod.both_counts("eth0"));
        }
        scrape
    }

    /// A connection with one request on it.
    fn request(&mut self, family: Family) {
        let mut pair = self.pod.pair_over(family, HTTP);
        pair.client_says(REQUEST);
        pair.server_says(RESPONSE);
        pair.close();
        // Otherwise such packets are in a series of their own, and nothing is known of them.
        if family == Family::V4 || self.settings.ipv6 {
            self.connections += 1;
            self.requests += 1;
        }
    }

    /// One program of ours in each direction.
    fn assert_runs(&self) {
        let attached = attached(&self.pod);
        assert_eq!(attached.count(), [1, 1], "{attached:?}");
    }

    /// Everything since the programs were attached has been counted, and once.
    fn assert_counted(&mut self) {
        let scrape = self.settled();
        Connections::closed("fin", self.connections).assert_in(&scrape, HTTP);
        let mut expected = Http::requests(self.requests);
        if self.requests > 0 {
            expected = expected.response("200", self.requests);
        }
        expected.assert_in(&scrape, HTTP);
        let since = self.since.as_ref().expect("the programs run");
        assert_equal_growth(since, &self.pod.both_counts("eth0"));
    }

    /// All is as after a run that was not killed. How many epochs there are.
    fn assert_healthy(&mut self) -> usize {
        self.assert_runs();
        let (pins, epochs) = pins(&self.pod);
        assert_eq!(pins, self.healthy);
        self.request(Family::V4);
        self.request(Family::V6);
        self.assert_counted();
        let name = "linkerd_ebpf_request_duration_seconds_bucket";
        let bounds = self.pod.scrape().by("le", name, &[("dst_port", "80")]);
        let of_now = self.settings.bound.to_string();
        assert!(bounds.contains_key(&of_now), "{bounds:?}");
        epochs
    }

    fn assert_nothing_is_left(&self, connections: Option<u32>) {
        let attached = attached(&self.pod);
        assert!(attached.is_empty(), "{attached:?}");
        assert!(!qdiscs(&self.pod).contains("clsact"));
        let dir = self.pod.pins.path();
        let name = dir.file_name().expect("a name").to_string_lossy();
        for entry in fs::read_dir(dir.parent().expect("a bpffs")).expect("a bpffs") {
            let other = entry.expect("an entry").file_name();
            let other = other.to_string_lossy();
            let is_of_pod = other
                .strip_prefix(&*name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
            assert!(!is_of_pod, "{other} is left: {:?}", self.pod.pins.list());
        }
        if let Some(map) = connections {
            let gone = eventually(PATIENCE, || programs_with(map).is_empty());
            assert!(gone, "programs {:?} are left", programs_with(map));
        }
    }

    /// The map that no programs but the pod's have.
    fn connections(&self) -> Option<u32> {
        let path = self.pod.pins.path().join("linkerd_connection_map");
        let map = MapHandle::from_pinned_path(path).ok()?;
        Some(map.info().ok()?.info.id)
    }
}

fn programs_with(map: u32) -> Vec<u32> {
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    ProgInfoIter::with_query_opts(options)
        .filter(|program| program.map_ids.contains(&map))
        .map(|program| program.id)
        .collect()
}

/// What there is in the pin directory and who may do what with it, the newest epoch's number left
/// out; and how many epochs there are, each with the same content.
fn pins(pod: &Pod) -> (BTreeMap<String, String>, usize) {
    let dir = pod.pins.path();
    let names = pod.pins.list();
    let number = |name: &str| name.strip_prefix("linkerd_epoch_")?.parse::<u32>().ok();
    let epochs: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
    let newest = format!("linkerd_epoch_{}", epochs.iter().max().expect("an epoch"));
    let describe = |path: &Path| {
        let about = fs::symlink_metadata(path).expect("a pin");
        let target = fs::read_link(path).unwrap_or_default();
        let target = target.to_string_lossy().replace(&newest, "newest");
        format!(
            "{:o} {}:{} {target}",
            about.mode(),
            about.uid(),
            about.gid()
        )
    };
    let list = |folder: &Path| -> BTreeMap<String, String> {
        fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| number(&entry.file_name().to_string_lossy()).is_none())
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, describe(&entry.path()))
            })
            .chain([(".".into(), describe(folder))])
            .collect()
    };
    let of_newest = list(&dir.join(&newest));
    for epoch in &epochs {
        assert_eq!(list(&dir.join(format!("linkerd_epoch_{epoch}"))), of_newest);
    }
    let inside = of_newest
        .into_iter()
        .map(|(name, what)| (format!("newest/{name}"), what));
    (list(dir).into_iter().chain(inside).collect(), epochs.len())
}

/// Returns what it said.
fn succeed(command: &mut Command) -> String {
    let done = output(command);
    assert!(done.status.success(), "{command:?}: {done:?}");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Of calls in a row that are the same to the letter, such as those that fill a free list, those
/// between the second and the last but one are left out: they do the same a thousand times.
fn without_repetition(calls: Vec<Call>) -> Vec<Call> {
    let same = |a: usize, b: usize| calls.get(b).is_some_and(|b| b.text == calls[a].text);
    let inner: Vec<bool> = (0..calls.len())
        .map(|i| i >= 2 && same(i, i - 2) && same(i, i - 1) && same(i, i + 1) && same(i, i + 2))
        .collect();
    let kept = calls.into_iter().zip(inner).filter(|(_, inner)| !inner);
    kept.map(|(call, _)| call).collect()
}

/// Calls of a run that are made when the same is there outside of it.
struct Stretch {
    /// They change nothing of that.
    harmless: Vec<Call>,
    /// This one does, when it is made.
    change: Call,
}

/// At which of a run's calls to kill it, one run each.
fn stretches(subject: &Subject, command: &Command) -> Vec<Stretch> {
    let mut calls = without_repetition(calls(&subject.pod.tmp.file("strace.log"), command));
    if std::env::var("METRICD_TEST_KILLS").is_ok_and(|value| value == "all") {
        // Without the one by which strace starts it.
        calls.remove(0);
        calls.retain(|call| !call.is_of_heap());
    } else {
        calls.retain(Call::changes);
        let all = calls.len();
        let wanted = (from_environment("METRICD_TEST_KILLS", 4) as usize).min(all);
        let middle = |share: usize| (2 * share + 1) * all / (2 * wanted);
        let chosen: Vec<usize> = (0..wanted).map(middle).collect();
        let mut index = 0..;
        calls.retain(|_| index.next().is_some_and(|i| chosen.contains(&i)));
    }
    let mut stretches = Vec::new();
    let mut harmless = Vec::new();
    for call in calls {
        if call.changes() {
            stretches.push(Stretch {
                harmless: std::mem::take(&mut harmless),
                change: call,
            });
        } else {
            harmless.push(call);
        }
    }
    assert!(harmless.is_empty(), "the last call is the exit");
    stretches
}

fn say_kills(stretches: &[Stretch], what: &str) {
    let harmless: usize = stretches.iter().map(|it| it.harmless.len()).sum();
    let changes = stretches.len();
    eprintln!("{} kills in {what}, {changes} healed", harmless + changes);
}

/// Kills the command there.
fn kill(step: &Call, command: &Command) {
    eprintln!("kill at {}", step.text);
    assert!(kill_at(step, command), "it never came to it");
}

fn an_attach_is_killed(way: &'static str) {
    let mut subject = Subject::new(way);
    let detached = |subject: &mut Subject| {
        succeed(&mut detach(&subject.pod));
    };
    detached(&mut subject);
    let init = subject.settings.init(&subject.pod);
    let stretches = stretches(&subject, &init);
    detached(&mut subject);
    for stretch in &stretches {
        subject.kill_harmless(stretch, &init, detached);
        subject.kill(&stretch.change, &init);
        let counts = attached(&subject.pod).count();
        assert!(counts.iter().all(|count| *count <= 1), "{counts:?}");
        let killed = subject.connections();
        let said = subject.attach();
        // What lasts is known.
        let known = said.matches("already attached").count();
        assert_eq!(known, counts.iter().sum::<usize>(), "{said}");
        assert_eq!(subject.assert_healthy(), 1);
        let healed = subject.connections();
        succeed(&mut detach(&subject.pod));
        subject.assert_nothing_is_left(killed);
        subject.assert_nothing_is_left(healed);
    }
    say_kills(&stretches, &format!("an attach by {way}"));
}

fn a_detach_is_killed(way: &'static str) {
    let mut subject = Subject::new(way);
    let command = detach(&subject.pod);
    let stretches = stretches(&subject, &command);
    for (round, stretch) in stretches.iter().enumerate() {
        subject.attach();
        subject.kill_harmless(stretch, &command, Subject::attach_anew);
        let connections = subject.connections();
        subject.kill(&stretch.change, &command);
        if round % 2 == 1 {
            subject.attach();
            subject.assert_healthy();
        }
        let again = subject.connections();
        succeed(&mut detach(&subject.pod));
        subject.assert_nothing_is_left(connections);
        subject.assert_nothing_is_left(again);
    }
    say_kills(&stretches, &format!("a detach by {way}"));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Replacing {
    /// Other programs.
    Upgrade,
    /// Other programs and maps.
    Resize,
    /// The start after a resize that was killed when one hook had its new program and the other
    /// had not.
    Healing,
}

impl Replacing {
    /// What is to run next.
    fn of(self, now: Settings) -> Settings {
        match self {
            Self::Upgrade => now.other_ipv6(),
            Self::Resize | Self::Healing => now.other_bound(),
        }
    }

    fn command(self, pod: &Pod, to: Settings) -> Command {
        match self {
            Self::Upgrade => to.upgrade(pod),
            Self::Resize => to.resize(pod),
            Self::Healing => to.init(pod),
        }
    }
}

/// The call by which the second of two hooks gets its new program.
fn second_switch(subject: &Subject, command: &Command) -> Call {
    let calls = calls(&subject.pod.tmp.file("strace.log"), command);
    let mut switches = calls.into_iter().filter(|call| {
        let text = &call.text;
        let is_filter = text.contains("0x2c /* NLMSG") || text.contains("RTM_NEWTFILTER");
        text.contains("BPF_LINK_UPDATE") || (call.name == "sendto" && is_filter)
    });
    switches.nth(1).expect("two hooks")
}

fn a_replacing_is_killed(way: &'static str, what: Replacing) {
    let mut subject = Subject::new(way);
    let mut to = what.of(subject.settings);
    let switch = (what == Replacing::Healing).then(|| {
        let switch = second_switch(&subject, &to.resize(&subject.pod));
        to = subject.settings;
        kill(&switch, &to.resize(&subject.pod));
        switch
    });
    let stretches = stretches(&subject, &what.command(&subject.pod, to));
    subject.settings = to;
    for (round, stretch) in stretches.iter().enumerate() {
        let before = subject.settings;
        let to = what.of(before);
        let begin = |subject: &mut Subject| {
            subject.attach_anew();
            if let Some(switch) = &switch {
                kill(switch, &to.resize(&subject.pod));
            }
        };
        let command = what.command(&subject.pod, to);
        if !stretch.harmless.is_empty() {
            begin(&mut subject);
        }
        subject.kill_harmless(stretch, &command, begin);
        // The switch is to be made anew, with a connection open. And epochs must not run out.
        if (switch.is_some() && !stretch.harmless.is_empty()) || round % 50 == 49 {
            subject.attach_anew();
        }
        let epochs = pins(&subject.pod).1;
        let mut pair = subject.pod.pair(HTTP);
        pair.client_says(REQUEST);
        if let Some(switch) = &switch {
            kill(switch, &to.resize(&subject.pod));
            subject.assert_runs();
        }
        subject.kill(&stretch.change, &command);
        subject.assert_runs();
        pair.server_says(RESPONSE);
        pair.client_says(REQUEST);
        subject.request(Family::V4);
        // The same again, the start of a pod with these settings, or of one with those before.
        let (mut healing, now) = match round % 3 {
            0 => (what.command(&subject.pod, to), to),
            1 => (to.init(&subject.pod), to),
            _ => (before.init(&subject.pod), before),
        };
        succeed(&mut healing);
        subject.settings = now;
        pair.server_says(RESPONSE);
        pair.close();
        subject.connections += 1;
        subject.requests += 2;
        let more = subject.assert_healthy() - epochs;
        let most = if now == before { 2 } else { 1 };
        assert!(more <= most, "{more} more epochs");
    }
    succeed(&mut detach(&subject.pod));
    subject.assert_nothing_is_left(None);
    say_kills(&stretches, &format!("{what:?} by {way}"));
}

#[test]
fn an_attach_by_tcx_is_killed() {
    an_attach_is_killed("tcx");
}

#[test]
fn an_attach_by_clsact_is_killed() {
    an_attach_is_killed("clsact");
}

/// At the one call among hundreds after which something runs that only a pin tells of.
#[test]
fn an_attach_is_killed_when_a_link_is_pinned() {
    let mut subject = Subject::new("tcx");
    succeed(&mut detach(&subject.pod));
    let init = subject.settings.init(&subject.pod);
    let calls = calls(&subject.pod.tmp.file("strace.log"), &init);
    succeed(&mut detach(&subject.pod));
    let pins = |call: &Call| {
        call.text.starts_with("bpf(BPF_OBJ_PIN") && call.text.contains("linkerd_ingress_link_")
    };
    let pinned = calls.iter().position(pins).expect("a link is pinned");
    kill(&calls[pinned + 1], &init);
    assert_eq!(attached(&subject.pod).count(), [1, 0]);
    let said = subject.attach();
    assert_eq!(said.matches("already attached").count(), 1, "{said}");
    subject.assert_healthy();
}

#[test]
fn an_upgrade_by_tcx_is_killed() {
    a_replacing_is_killed("tcx", Replacing::Upgrade);
}

#[test]
fn an_upgrade_by_clsact_is_killed() {
    a_replacing_is_killed("clsact", Replacing::Upgrade);
}

#[test]
fn a_resize_by_tcx_is_killed() {
    a_replacing_is_killed("tcx", Replacing::Resize);
}

#[test]
fn a_resize_by_clsact_is_killed() {
    a_replacing_is_killed("clsact", Replacing::Resize);
}

#[test]
fn a_healing_by_tcx_is_killed() {
    a_replacing_is_killed("tcx", Replacing::Healing);
}

#[test]
fn a_healing_by_clsact_is_killed() {
    a_replacing_is_killed("clsact", Replacing::Healing);
}

#[test]
fn a_detach_by_tcx_is_killed() {
    a_detach_is_killed("tcx");
}

#[test]
fn a_detach_by_clsact_is_killed() {
    a_detach_is_killed("clsact");
}

/// Milliseconds that a run which changes something takes here, about.
const RUN: u64 = 1000;

/// Starts the command and kills it at a moment of the dice's, or soon after it has begun to change
/// something: most of the time it is still being loaded what is to run.
fn kill_at_random(pod: &Pod, command: &mut Command, dice: &mut Dice) {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("init");
    let mut is_over = |patience, pause, until: &dyn Fn() -> bool| {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !until() {
            if child.try_wait().expect("wait").is_some() {
                return true;
            }
            thread::sleep(pause);
        }
        false
    };
    let pause = Duration::from_micros(100);
    if dice.percent(50.0) {
        let patience = Duration::from_millis(dice.within(0..=RUN));
        is_over(patience, pause, &|| false);
    } else {
        let is_next = |name: &String| name.ends_with("_next");
        let has_begun = || pod.pins.list().iter().any(is_next);
        let patience = Duration::from_micros(dice.within(0..=20_000));
        let _ = is_over(PATIENCE, pause, &has_begun) || is_over(patience, pause, &|| false);
    }
    // It may have ended.
    let _ = child.kill();
    child.wait().expect("wait");
}

/// The same to the sidecar, while it answers.
fn kill_sidecar(pod: &mut Pod, dice: &mut Dice) {
    let scraping = pod.hook.spawn(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())
    });
    thread::sleep(Duration::from_micros(dice.within(0..=5000)));
    pod.metricd().kill();
    let _ = scraping.join();
    pod.start();
}

/// Under load, without any of its requests lost or failed.
fn random_kills(way: &'static str) {
    /// After so many all is made anew, not to run out of epochs.
    const AT_ONCE: usize = 25;
    let mut dice = Dice::of_this_run(way.len() as u64);
    let kills = from_environment("METRICD_TEST_RANDOM_KILLS", 20) as usize / 2;
    let mut subject = Subject::new(way);
    for left in (1..=kills).rev().step_by(AT_ONCE) {
        let mut last = subject.settings;
        under_load(&mut subject.pod, left.min(AT_ONCE), |pod, _| {
            match dice.within(0..=3) {
                0 => kill_sidecar(pod, &mut dice),
                what => {
                    let (settings, mut command) = match what {
                        1 => (last.other_ipv6(), last.other_ipv6().upgrade(pod)),
                        2 => (last.other_bound(), last.other_bound().resize(pod)),
                        _ => (last.other_bound(), last.other_bound().init(pod)),
                    };
                    kill_at_random(pod, &mut command, &mut dice);
                    last = settings;
                }
            }
            assert_eq!(attached(pod).count(), [1, 1]);
            assert_eq!(pod.scrape().sum("linkerd_ebpf_up", &[]), 1);
        });
        succeed(&mut subject.settings.init(&subject.pod));
        subject.since = None;
        subject.assert_healthy();
        let connections = subject.connections();
        succeed(&mut detach(&subject.pod));
        subject.assert_nothing_is_left(connections);
        subject.attach();
    }
    eprintln!("{kills} kills at random by {way}");
}

#[test]
fn random_kills_by_tcx() {
    random_kills("tcx");
}

#[test]
fn random_kills_by_clsact() {
    random_kills("clsact");
}
