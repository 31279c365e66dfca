//! Fuzzing: the packet path through BPF_PROG_TEST_RUN, and everything in user space that decodes.
//!
//!     make fuzz                            # 30 minutes, or FUZZ_SECONDS
//!     FUZZ_SEED=17 make fuzz               # the same inputs as that time
//!     FUZZ_REPLAY=finding.txt make fuzz    # one input, as it was written on a finding
//!
//! The programs run in the kernel, where a fuzzer's coverage does not reach. So inputs know what
//! they are about instead: valid HTTP/1, HTTP/2 and gRPC conversations, with changed bytes and
//! spliced, and cut into packets that come late, twice, with wrong headers or not at all
//! (`mutate.rs`). In place of coverage, an input that makes another combination of counters move is
//! a seed from then on. `packets.rs` says what must hold after each: packets are passed on as they
//! came, and counted; the identities; nothing is open when all is closed, and all elements of maps
//! are back on their free lists; what is said in packets that a network could make counts as if it
//! were said in large ones; and conversations with sense are counted exactly, whatever came before.
//! `decoders.rs` does the same for what iterators write and bpffs shows, the exposition of it, and the
//! server.
//!
//! On a finding the input is made smaller, written to a file of lines that can be read and changed,
//! and the test fails.

mod decoders;
mod input;
mod mutate;
mod packets;
mod seeds;
mod smaller;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

// Of the kit, for all files of this test.
use kit::packets::{flow, frame, http1, http2, kernel, model};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use decoders::{Decoders, Text};
use input::Input;
use mutate::{below, one_in};
use packets::Programs;

/// Without FUZZ_SECONDS: as one test among others.
const SECONDS: u64 = 20;
/// Seeds that are kept.
const SEEDS: usize = 600;
/// Inputs between two looks at conversations with sense.
const BETWEEN: u64 = 50;

/// What the last panic said, of whatever thread.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Why something failed, if it did.
fn failure(play: impl FnOnce()) -> Option<String> {
    let result = catch_unwind(AssertUnwindSafe(play));
    let said = PANIC.lock().expect("no panic holds it").take();
    said.or_else(|| result.err().map(|_| "a panic without a word".into()))
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
    )
}

fn main() {
    // `cargo test NAME` is about another test.
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    if filter.is_some_and(|name| !"fuzz".contains(&name)) || std::env::args().any(|a| a == "--list")
    {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().expect("no panic holds it") = Some(info.to_string());
    }));
    let ok = match std::env::var("FUZZ_REPLAY") {
        Ok(path) => replay(&path),
        Err(_) => fuzz(),
    };
    if !ok {
        std::process::exit(1);
    }
}

fn replay(path: &str) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| {
        println!("{path}: {e}");
        std::process::exit(1);
    });
    let result = failure(|| {
        if text.contains("\nconversation ") {
            let input = Input::parse(&text);
            let mut programs = Programs::load(input.routes);
            programs.play(&input);
            programs.fresh();
        } else {
            Decoders::start().play(&Text::parse(&text));
        }
    });
    println!("{}", result.as_deref().unwrap_or("nothing is wrong"));
    result.is_none()
}

/// Writes what has failed to a file.
fn found(what: &str, input: &impl std::fmt::Display, seed: u64, note: &str) {
    let path = std::env::temp_dir().join(format!("metricd-fuzz-{seed}.txt"));
    let comment = what.replace('\n', "\n# ");
    let text = format!("# {comment}\n# FUZZ_SEED={seed}{note}\n{input}");
    if let Err(error) = std::fs::write(&path, &text) {
        println!("{}: {error}", path.display());
    }
    println!("{text}\nFUZZ_REPLAY={} make fuzz", path.display());
}

fn fuzz() -> bool {
    let seed = variable("FUZZ_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(0, |t| t.as_nanos() as u64 % 1_000_000_000)
    });
    let limit = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(SECONDS));
    println!("fuzzing for {} s, FUZZ_SEED={seed}", limit.as_secs());
    let mut bytes = [0x5a; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);

    let decoders = Decoders::start();
    // Every other time.
    let routes = seed % 2 == 1;
    let mut programs = Programs::load(routes);
    let mut corpus: Vec<Input> = (0..100).map(|_| seeds::seed(&mut runner)).collect();
    let mut signatures = HashSet::new();
    let begun = Instant::now();
    let (mut inputs, mut packets, mut texts) = (0u64, 0u64, 0u64);
    while begun.elapsed() < limit {
        if one_in(runner.rng(), 4) {
            let text = decoders::text(runner.rng());
            texts += 1;
            if let Some(what) = failure(|| decoders.play(&text)) {
                found(&what, &text, seed, "");
                return false;
            }
            continue;
        }
        let rng = runner.rng();
        let (one, other) = (below(rng, corpus.len()), below(rng, corpus.len()));
        let mut input = if one_in(rng, 20) {
            seeds::seed(&mut runner)
        } else {
            corpus[one].clone()
        };
        mutate::input(runner.rng(), &mut input, &corpus[other]);
        input.routes = routes;
        inputs += 1;
        packets += input.segments.len() as u64;
        let mut signature = Vec::new();
        let what = failure(|| {
            signature = programs.play(&input);
            if inputs.is_multiple_of(BETWEEN) {
                programs.fresh();
            }
        });
        if let Some(what) = what {
            // What has failed is not looked at again when it is dropped.
            std::mem::forget(programs);
            let (smaller, note) = smaller::of(&input);
            found(&what, &smaller, seed, note);
            return false;
        }
        if !input.wild && signatures.insert(signature) {
            if corpus.len() < SEEDS {
                corpus.push(input);
            } else {
                let at = below(runner.rng(), SEEDS);
                corpus[at] = input;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "no finding: {inputs} inputs ({:.0} a second) of {packets} packets, {} of them compared \
         with calm ones, {} combinations of counters, {texts} texts",
        inputs as f64 / seconds,
        programs.compared,
        signatures.len()
    );
    true
}
