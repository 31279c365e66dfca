//! An input that fails, made smaller for as long as it takes a minute.

use std::time::{Duration, Instant};

use crate::failure;
use crate::input::Input;
use crate::packets::Programs;

const LIMIT: Duration = Duration::from_secs(60);

struct Search {
    best: Input,
    programs: Option<Programs>,
    until: Instant,
}

impl Search {
    /// Whether it fails, with programs that nothing has failed on.
    fn fails(&mut self, input: &Input) -> bool {
        let load = || Programs::load(input.routes);
        let mut programs = self.programs.take().unwrap_or_else(load);
        let what = failure(|| {
            programs.play(input);
            programs.fresh();
        });
        if what.is_some() {
            std::mem::forget(programs);
        } else {
            self.programs = Some(programs);
        }
        what.is_some()
    }

    /// Tries it with a change, and keeps that if it still fails.
    fn with(&mut self, change: impl FnOnce(&mut Input)) -> bool {
        let mut input = self.best.clone();
        change(&mut input);
        if input == self.best || Instant::now() > self.until || !self.fails(&input) {
            return false;
        }
        self.best = input;
        true
    }

    /// Leaves out what it can of `len` things, many at a time first.
    fn without(&mut self, len: usize, remove: impl Fn(&mut Input, usize, usize)) {
        let mut left = len;
        let mut size = left.div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < left {
                let to = (from + size).min(left);
                if self.with(|input| remove(input, from, to)) {
                    left -= to - from;
                } else {
                    from = to;
                }
            }
            size /= 2;
        }
    }
}

/// What fails as well, and a word on whether it does at all without what came before.
pub fn of(input: &Input) -> (Input, &'static str) {
    let mut search = Search {
        best: input.clone(),
        programs: None,
        until: Instant::now() + LIMIT,
    };
    if !search.fails(input) {
        return (input.clone(), ", and only behind the inputs before it");
    }
    let n = input.segments.len();
    search.without(n, |input, from, to| drop(input.segments.drain(from..to)));
    for i in (0..search.best.conversations.len()).rev() {
        search.with(|input| {
            input.segments.retain(|s| s.conversation != i);
            for segment in &mut input.segments {
                segment.conversation -= usize::from(segment.conversation > i);
            }
            input.conversations.remove(i);
        });
    }
    for i in 0..search.best.segments.len() {
        search.with(|input| input.segments[i].faults.clear());
        search.with(|input| input.segments[i].gso = None);
        search.with(|input| input.segments[i].cut = None);
        search.with(|input| input.segments[i].shift = [0; 2]);
        search.with(|input| input.segments[i].flags = crate::frame::ACK);
    }
    for i in 0..search.best.conversations.len() {
        for role in 0..2 {
            let len = search.best.conversations[i].streams[role].len();
            search.without(len, |input, from, to| {
                input.conversations[i].streams[role].drain(from..to);
                let moved = |at: usize| at - at.clamp(from, to).saturating_sub(from);
                for s in &mut input.segments {
                    if s.conversation == i && s.role as usize == role {
                        s.bytes = moved(s.bytes.start)..moved(s.bytes.end);
                    }
                }
            });
        }
    }
    (search.best, "")
}
