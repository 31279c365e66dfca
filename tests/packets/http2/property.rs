//! Random exchanges on streams at the same time, encoded by another's encoder, cut and repeated at
//! random: the programs count what the model does. PROPTEST_CASES says how many.

use metricd::abi::{AbortedValue, Merge};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::aborted;
use super::model::Model;
use super::stretches::{Talk, talk};
use super::wire::PREFACE;
use crate::flow::{Client, Flow, Role, ends, ends6};
use crate::http1_property::{Cuts, config, cuts, segments};
use crate::kernel::{Kernel, Shared};
use crate::model::L7;

#[derive(Clone, Copy, Debug)]
enum End {
    Fin,
    Rst,
}

#[derive(Clone, Debug)]
struct Script {
    talk: Talk,
    /// Of the stretches that one side says, in turn.
    cuts: Vec<Cuts>,
    inbound: bool,
    v6: bool,
    end: End,
}

fn script() -> impl Strategy<Value = Script> {
    (
        talk(),
        vec(cuts(), 1..10),
        any::<bool>(),
        any::<bool>(),
        select(vec![End::Fin, End::Rst]),
    )
        .prop_map(|(talk, cuts, inbound, v6, end)| Script {
            talk,
            cuts,
            inbound,
            v6,
            end,
        })
}

impl Script {
    fn open<'a>(&self, kernel: &'a Kernel) -> Flow<'a> {
        let port = Shared::port();
        let ends = if self.v6 { ends6(port) } else { ends(port) };
        let mut flow = Flow::new(kernel, ends);
        flow.inbound = self.inbound;
        flow.handshake();
        flow
    }

    /// Feeds what is said, and says what it was behind each stretch.
    fn play(&self, flow: &Flow, whole: bool, mut behind: impl FnMut(Role, &[u8])) {
        let mut streams = [Vec::new(), Vec::new()];
        let stretches = self.talk.stretches().into_iter();
        for ((role, bytes), cuts) in stretches.zip(self.cuts.iter().cycle()) {
            let stream = &mut streams[role as usize];
            let from = stream.len();
            stream.extend(&bytes);
            // What goes out is seen in order.
            let ordered = whole || (role == Client) != self.inbound;
            for (from, to) in segments(from, stream.len(), cuts, ordered) {
                flow.send_at(role, from as u32, &stream[from..to]);
            }
            flow.said[role as usize].set(stream.len() as u32);
            behind(role, bytes.strip_prefix(&PREFACE).unwrap_or(&bytes));
        }
    }

    /// Ends the connection, and what is open with it.
    fn end(&self, flow: &Flow, open: u64) -> AbortedValue {
        match self.end {
            End::Fin => {
                flow.close();
                aborted(|a| a.fin = open)
            }
            End::Rst => {
                flow.rst(Client);
                aborted(|a| a.rst = open)
            }
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn counts_are_the_models(script in script()) {
        let kernel = Shared::get();
        let flow = script.open(&kernel);
        let mut model = Model::default();
        script.play(&flow, true, |role, frames| {
            model.frames(role, frames);
            assert_eq!(L7::of(&flow), model.l7, "behind one of the {role:?}");
        });
        let mut expected = model.l7;
        expected.aborted.merge(&script.end(&flow, expected.in_flight));
        expected.in_flight = 0;
        assert_eq!(L7::of(&flow), expected);
        assert_eq!(flow.total().untimed, 0);
    }

    #[test]
    fn nothing_is_wrong_for_what_was_lost(script in script()) {
        // Of what comes in, segments are lost or come late: answers may be unknown then, but none
        // is one that was not given. That a stream was reset may have been lost, too.
        let kernel = Shared::get();
        let flow = script.open(&kernel);
        let mut model = Model::without_resets();
        script.play(&flow, false, |role, frames| model.frames(role, frames));
        script.end(&flow, 0);
        let seen = L7::of(&flow);
        for (answer, n) in &seen.responses {
            let most = model.l7.responses.get(answer).copied().unwrap_or(0);
            assert!(answer.status == 0 || *n <= most, "{answer:?} of {:?}: {seen:?}", model.l7);
        }
        let (most, requests) = (model.l7.requests, seen.requests);
        assert!(requests.http2 <= most.http2 && requests.grpc <= most.grpc, "{seen:?}");
        assert_eq!(seen.in_flight, 0);
    }
}
