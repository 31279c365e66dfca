//! A model of rule 8 of bpf/CONCURRENCY.md: the client's CPU adds requests (`http1_push`) while the
//! server's CPU finds that its answers can't be followed (`parser_lost`). All interleavings of their
//! steps are gone through, on a machine whose stores become visible in their order, as x86-64, and
//! on one whose stores don't.

use std::collections::HashSet;

/// Words that both CPUs see, of `struct conn`.
const REQUESTS: usize = 0;
const ANSWERED: usize = 1;
const LOST: usize = 2;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Requests of which none is answered yet, before and with the step that is looked at.
const BEFORE: u32 = 2;
const ADDED: u32 = 1;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client's side adds its requests.
    Add,
    /// The server's side says that its answers are lost.
    Lose,
    /// Goes on only if the answers are lost.
    UnlessLost,
    Lock,
    Unlock,
    /// `conn_outstanding`: reads both numbers, and then writes one.
    Read,
    Take,
    /// What `http1_push` did before: takes its own requests without the lock.
    ReadAnswered,
    TakeOwn,
}

use Step::{Add, Lock, Lose, Read, ReadAnswered, Take, TakeOwn, UnlessLost, Unlock};

const PARSER_LOST: &[Step] = &[Lock, Lose, Read, Take, Unlock];
const PUSH: &[Step] = &[Add, UnlessLost, Lock, Read, Take, Unlock];
const PUSH_WITHOUT_LOCK: &[Step] = &[Add, UnlessLost, ReadAnswered, TakeOwn];

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Cpu {
    at: usize,
    /// Stores that the other CPU does not see yet: which word, and its value.
    stores: Vec<(usize, u32)>,
    requests: u32,
    answered: u32,
    /// How many requests it has counted as unknown.
    taken: u32,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Machine {
    memory: [u32; 3],
    holder: Option<usize>,
    cpus: [Cpu; 2],
}

impl Machine {
    fn load(&self, cpu: usize, word: usize) -> u32 {
        let own = self.cpus[cpu].stores.iter().rev().find(|(w, _)| *w == word);
        own.map_or(self.memory[word], |(_, value)| *value)
    }

    fn store(&mut self, cpu: usize, word: usize, value: u32) {
        self.cpus[cpu].stores.push((word, value));
    }

    /// All stores of the CPU become visible.
    fn drain(&mut self, cpu: usize) {
        for (word, value) in std::mem::take(&mut self.cpus[cpu].stores) {
            self.memory[word] = value;
        }
    }

    /// The machine after the CPU's next step, unless the CPU waits.
    fn after(&self, cpu: usize, step: Step, ordered: bool) -> Option<Self> {
        let mut next = self.clone();
        next.cpus[cpu].at += 1;
        match step {
            Add => next.store(cpu, REQUESTS, self.load(cpu, REQUESTS) + ADDED),
            Lose => next.store(cpu, LOST, 1),
            UnlessLost if self.load(cpu, LOST) == 0 => next.cpus[cpu].at = usize::MAX,
            UnlessLost => {}
            Lock if self.holder.is_some() => return None,
            Lock => {
                next.holder = Some(cpu);
                // Elsewhere what comes before may still be stored later.
                if ordered {
                    next.drain(cpu);
                }
            }
            Unlock => {
                next.drain(cpu);
                next.holder = None;
            }
            Read => {
                next.cpus[cpu].requests = self.load(cpu, REQUESTS);
                next.cpus[cpu].answered = self.load(cpu, ANSWERED);
            }
            Take => {
                let Cpu {
                    requests, answered, ..
                } = self.cpus[cpu];
                next.cpus[cpu].taken += requests.wrapping_sub(answered);
                next.store(cpu, ANSWERED, requests);
            }
            ReadAnswered => next.cpus[cpu].answered = self.load(cpu, ANSWERED),
            TakeOwn => {
                next.cpus[cpu].taken += ADDED;
                next.store(cpu, ANSWERED, self.cpus[cpu].answered + ADDED);
            }
        }
        Some(next)
    }

    /// All machines that may come next.
    fn next(&self, programs: [&[Step]; 2], ordered: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for cpu in [CLIENT, SERVER] {
            if let Some(step) = programs[cpu].get(self.cpus[cpu].at) {
                all.extend(self.after(cpu, *step, ordered));
            }
            let stores = &self.cpus[cpu].stores;
            for at in 0..stores.len() {
                // Stores to one word keep their order everywhere.
                let overtakes = stores[..at].iter().any(|(word, _)| *word == stores[at].0);
                if (ordered && at > 0) || overtakes {
                    continue;
                }
                let mut next = self.clone();
                let (word, value) = next.cpus[cpu].stores.remove(at);
                next.memory[word] = value;
                all.push(next);
            }
        }
        all
    }
}

/// How requests may end up: how many are counted as unknown, and how many the end of the connection
/// finds outstanding.
fn ends(push: &[Step], ordered: bool) -> HashSet<(u32, u32)> {
    let mut ends = HashSet::new();
    let mut seen = HashSet::new();
    let mut open = vec![Machine {
        memory: [BEFORE, 0, 0],
        holder: None,
        cpus: Default::default(),
    }];
    while let Some(machine) = open.pop() {
        if !seen.insert(machine.clone()) {
            continue;
        }
        let next = machine.next([push, PARSER_LOST], ordered);
        if next.is_empty() {
            let taken = machine.cpus[CLIENT]
                .taken
                .wrapping_add(machine.cpus[SERVER].taken);
            let [requests, answered, _] = machine.memory;
            ends.insert((taken, requests.wrapping_sub(answered)));
        }
        open.extend(next);
    }
    ends
}

/// Each is unknown or outstanding, and none is less than outstanding.
fn is_right(&(taken, outstanding): &(u32, u32)) -> bool {
    let all = BEFORE + ADDED;
    outstanding <= all && taken == all - outstanding
}

#[test]
fn each_request_is_taken_once() {
    for ordered in [true, false] {
        let ends = ends(PUSH, ordered);
        assert!(ends.contains(&(BEFORE + ADDED, 0)));
        assert!(ends.iter().all(is_right), "ordered {ordered}: {ends:?}");
    }
}

/// That the model tells a rule that is wrong.
#[test]
fn without_the_lock_some_are_taken_twice() {
    for ordered in [true, false] {
        let ends = ends(PUSH_WITHOUT_LOCK, ordered);
        assert!(!ends.iter().all(is_right), "ordered {ordered}: {ends:?}");
    }
}
