//! Random messages, cut, repeated, reordered and lost at random: the programs count what the model
//! does. PROPTEST_CASES says how many.

use kit::packets::http1::{Exchange, exchange};
use metricd::abi::AbortedValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::flow::{Client, Flow, Role, Server, ends, ends6};
use crate::frame::{ACK, FIN};
use crate::kernel::Shared;
use crate::model::{L7, Model};

/// What becomes of a segment on its way.
#[derive(Clone, Debug)]
pub enum Fate {
    Passes,
    Twice,
    /// With some of what was sent before.
    Longer(usize),
    /// Behind the next ones; inbound only, since what goes out is seen in order.
    Late(usize),
    /// Never seen.
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        20 => Just(Fate::Passes),
        2 => Just(Fate::Twice),
        2 => (1usize..200).prop_map(Fate::Longer),
        2 => (1usize..4).prop_map(Fate::Late),
        1 => Just(Fate::Lost),
    ]
}

#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Rst,
}

/// How many segments a stretch of a stream is cut into, and what becomes of them.
pub type Cuts = Vec<(Index, Fate)>;

pub fn cuts() -> impl Strategy<Value = Cuts> {
    vec((any::<Index>(), fate()), 0..8)
}

/// Bytes of a segment that BPF_PROG_TEST_RUN takes, with room for Fate::Longer.
const LARGEST: usize = 3000;

/// The segments of a stretch, in the order in which they are seen.
pub fn segments(from: usize, to: usize, cuts: &Cuts, ordered: bool) -> Vec<(usize, usize)> {
    let mut at: Vec<(usize, Fate)> = cuts
        .iter()
        .filter(|_| to > from)
        .map(|(index, fate)| (from + index.index(to - from), fate.clone()))
        .collect();
    at.push((to, Fate::Passes));
    at.extend((from..to).step_by(LARGEST).map(|at| (at, Fate::Passes)));
    at.sort_by_key(|a| a.0);
    at.dedup_by_key(|a| a.0);
    let mut all = Vec::new();
    let mut late = Vec::new();
    let mut start = from;
    for (end, fate) in at {
        if start == end {
            continue;
        }
        match fate {
            Fate::Late(n) if !ordered => late.push((n + 1, (start, end))),
            Fate::Lost if !ordered => {}
            Fate::Longer(n) => all.push((start.saturating_sub(n), end)),
            Fate::Twice => all.extend([(start, end); 2]),
            _ => all.push((start, end)),
        }
        late.retain_mut(|(n, segment)| {
            *n -= 1;
            if *n == 0 {
                all.push(*segment);
            }
            *n > 0
        });
        start = end;
    }
    all.extend(late.into_iter().map(|l| l.1));
    all
}

#[derive(Clone, Debug)]
struct Script {
    /// Pipelined in groups.
    groups: Vec<(Vec<Exchange>, Cuts, Cuts)>,
    inbound: bool,
    v6: bool,
    end: End,
}

fn script() -> impl Strategy<Value = Script> {
    (
        vec((vec(exchange(), 1..4), cuts(), cuts()), 1..4),
        any::<bool>(),
        any::<bool>(),
        select(vec![End::Fin, End::Rst]),
    )
        .prop_map(|(groups, inbound, v6, end)| {
            let mut script = Script {
                groups,
                inbound,
                v6,
                end,
            };
            // RUNS of bpf/net/state.h: no more are outstanding, even if none is answered.
            let mut left = 8;
            for (group, ..) in &mut script.groups {
                group.truncate(left);
                left -= group.len();
            }
            script.groups.retain(|g| !g.0.is_empty());
            script
        })
}

/// Both sides of the story: the programs and the model see the same segments.
struct Stage<'a> {
    flow: Flow<'a>,
    streams: [Vec<u8>; 2],
    model: Model,
}

impl Stage<'_> {
    fn segment(&mut self, role: Role, (from, to): (usize, usize), fin: bool) {
        let payload = &self.streams[role as usize][from..to];
        let flags = if fin { ACK | FIN } else { ACK };
        let seq = self.flow.seq(role, from as u32);
        self.flow.segment(role, flags, seq, payload);
        let said = &self.flow.said[role as usize];
        said.set(said.get().max(to as u32 + u32::from(fin)));
        self.model.segment(role, from..to, fin);
    }
}

fn play(script: &Script) {
    let kernel = Shared::get();
    let mut streams = [Vec::new(), Vec::new()];
    let mut stretches = Vec::new();
    for (i, (group, asks, answers)) in script.groups.iter().enumerate() {
        let from = streams.each_ref().map(Vec::len);
        for (j, exchange) in group.iter().enumerate() {
            let last = i + 1 == script.groups.len() && j + 1 == group.len();
            streams[0].extend(exchange.request());
            streams[1].extend(exchange.response(last));
        }
        let to = streams.each_ref().map(Vec::len);
        stretches.push((Client, from[0], to[0], asks));
        stretches.push((Server, from[1], to[1], answers));
    }
    let port = Shared::port();
    let mut flow = Flow::new(&kernel, if script.v6 { ends6(port) } else { ends(port) });
    flow.inbound = script.inbound;
    flow.handshake();
    let mut stage = Stage {
        flow,
        model: Model::new(script.inbound, &streams[0], &streams[1]),
        streams,
    };
    for (role, from, to, cuts) in stretches {
        let ordered = (role == Client) != script.inbound;
        for segment in segments(from, to, cuts, ordered) {
            stage.segment(role, segment, false);
        }
    }
    let lens = stage.streams.each_ref().map(Vec::len);
    let mut expected;
    match script.end {
        End::Fin => {
            stage.segment(Server, (lens[1], lens[1]), true);
            stage.segment(Client, (lens[0], lens[0]), true);
            stage.flow.ack(Server);
            expected = stage.model.l7.clone();
            expected.aborted = AbortedValue {
                fin: expected.in_flight,
                ..AbortedValue::default()
            };
        }
        End::Rst => {
            stage.flow.rst(Client);
            expected = stage.model.l7.clone();
            expected.aborted = AbortedValue {
                rst: expected.in_flight,
                ..AbortedValue::default()
            };
        }
    }
    expected.in_flight = 0;
    let gaps = stage.flow.total().lost.gap - expected.lost.gap;
    if stage.flow.seen().resumed == 0 && gaps == 0 {
        assert_eq!(L7::of(&stage.flow), expected);
    } else {
        assert_nothing_false(&stage);
    }
    let total = stage.flow.total();
    let (client, server) = if script.inbound {
        (total.recv, total.sent)
    } else {
        (total.sent, total.recv)
    };
    for (role, counted) in [(Client, client), (Server, server)] {
        assert!(
            stage.model.retransmits(role, counted.retransmits),
            "retransmits of the {role:?}: {} counted, {:?}",
            counted.retransmits,
            stage.model
        );
    }
    let closed = total.closed;
    assert_eq!(
        (total.opened, closed.fin + closed.rst, total.active),
        (1, 1, 0)
    );
}

/// The model does not resume, and waits for missing bytes to the end. Where the programs do resume, or
/// know that the bytes will not come, they count no request or status that is not
/// there, and each request ends in one way.
fn assert_nothing_false(stage: &Stage) {
    let counted = L7::of(&stage.flow);
    let (asked, answered) = stage.model.whole();
    assert!(counted.requests.http1 <= asked, "{counted:?} of {asked}");
    for (answer, n) in counted.responses.iter().filter(|(a, _)| a.status > 0) {
        let there = answered.get(&answer.status).copied().unwrap_or_default();
        assert!(*n <= there, "{counted:?} of {answered:?}");
    }
    let ended: u64 = counted.responses.values().sum();
    let aborted = counted.aborted.fin + counted.aborted.rst;
    assert_eq!(counted.requests.http1, ended + aborted, "{counted:?}");
}

/// Cases, unless PROPTEST_CASES says how many.
pub fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            default.cases
        } else {
            cases
        },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn counts_are_the_models(script in script()) {
        play(&script);
    }
}
