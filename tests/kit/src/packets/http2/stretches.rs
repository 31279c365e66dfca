//! Random exchanges on streams at the same time, as what each side says in turn.

use httlib_hpack::Encoder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::script::{Exchange, Framing, Say, exchange};
use super::wire::{
    DEPENDENCY, END_STREAM, HEADERS, PADDED, PREFACE, WITH_PRIORITY, data, frame, goaway,
    headers_in, padded, rst_stream, settings, settings_ack,
};
use crate::packets::flow::{Client, Role, Server};

/// Frames that are about no stream.
#[derive(Clone, Debug)]
enum Noise {
    None,
    Ping,
    Window,
    Settings,
    Unknown(Vec<u8>),
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        6 => Just(Noise::None),
        1 => Just(Noise::Ping),
        1 => Just(Noise::Window),
        1 => Just(Noise::Settings),
        1 => vec(any::<u8>(), 0..100).prop_map(Noise::Unknown),
    ]
}

impl Noise {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Noise::None => Vec::new(),
            Noise::Ping => frame(6, 0, 0, [0x88; 8]),
            Noise::Window => frame(8, 0, 0, [0, 0, 0x88, 0x88]),
            Noise::Settings => settings(&[(3, 100)]),
            Noise::Unknown(bytes) => frame(0xbe, 0xef, 1, bytes),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Talk {
    exchanges: Vec<Exchange>,
    /// Who goes on, of those that can, and what is said beside.
    turns: Vec<(Index, Noise)>,
    goaway: Option<Index>,
}

pub fn talk() -> impl Strategy<Value = Talk> {
    (
        vec(exchange(), 1..8),
        vec((any::<Index>(), noise()), 1..60),
        prop_oneof![4 => Just(None), 1 => any::<Index>().prop_map(Some)],
    )
        .prop_map(|(exchanges, turns, goaway)| Talk {
            exchanges,
            turns,
            goaway,
        })
}

/// A header block in frames.
fn headers(stream: u32, end: bool, block: &[u8], framing: &Framing, role: Role) -> Vec<u8> {
    let mut at: Vec<usize> = framing
        .cuts
        .iter()
        .map(|i| i.index(block.len() + 1))
        .collect();
    at.sort_unstable();
    let mut parts = Vec::new();
    let mut start = 0;
    for end in at.into_iter().chain([block.len()]) {
        parts.push(&block[start..end]);
        start = end;
    }
    let mut flags = if end { END_STREAM } else { 0 };
    let mut first = parts[0].to_vec();
    if framing.priority && role == Client {
        flags |= WITH_PRIORITY;
        first = [&DEPENDENCY[..], &first].concat();
    }
    if let Some(pad) = framing.pad {
        flags |= PADDED;
        first = padded(pad, first);
    }
    parts[0] = &first;
    let frames = headers_in(stream, flags, &parts);
    assert_eq!(frames[3], HEADERS);
    frames
}

fn encode(say: &Say, role: Role, stream: u32, end: bool, encoder: &mut Encoder) -> Vec<u8> {
    match say {
        Say::Headers(fields, framing) => {
            let mut block = Vec::new();
            for size in &framing.sizes {
                let update = encoder.update_max_dynamic_size(*size, &mut block);
                update.expect("an update");
            }
            for field in fields {
                encoder.encode(field.clone(), &mut block).expect("a field");
            }
            headers(stream, end, &block, framing, role)
        }
        Say::Data(len, pad) => {
            let body = vec![0x88; *len];
            let flags = if end { END_STREAM } else { 0 };
            match pad {
                Some(pad) => data(stream, flags | PADDED, padded(*pad, body)),
                None => data(stream, flags, body),
            }
        }
        Say::Reset(code) => rst_stream(stream, *code),
    }
}

impl Talk {
    /// What the two sides say in turn, each stretch of whole frames.
    pub fn stretches(&self) -> Vec<(Role, Vec<u8>)> {
        let mut encoders = [Encoder::default(), Encoder::default()];
        let mut all = vec![
            (Client, [&PREFACE[..], &settings(&[])].concat()),
            (Server, [settings(&[(3, 100)]), settings_ack()].concat()),
        ];
        let mut streams = vec![0; self.exchanges.len()];
        let mut said = vec![[0, 0]; self.exchanges.len()];
        let mut last = 0;
        for (turn, (who, noise)) in self.turns.iter().enumerate() {
            // Its server can only go on when its client has begun.
            let able: Vec<(usize, Role)> = (0..said.len())
                .flat_map(|i| [(i, Client), (i, Server)])
                .filter(|&(i, role)| {
                    said[i][role as usize] < self.exchanges[i].says[role as usize].len()
                })
                .filter(|&(i, role)| role == Client || said[i][0] > 0)
                .collect();
            if able.is_empty() {
                break;
            }
            let (i, role) = able[who.index(able.len())];
            if streams[i] == 0 {
                last += 2 * (1 + u32::from(who.index(7) == 0) * 100);
                streams[i] = last - 1;
            }
            let exchange = &self.exchanges[i];
            let n = &mut said[i][role as usize];
            let say = &exchange.says[role as usize][*n];
            *n += 1;
            let end = exchange.ends[role as usize] && *n == exchange.says[role as usize].len();
            let mut bytes = encode(say, role, streams[i], end, &mut encoders[role as usize]);
            bytes.extend(noise.bytes());
            match all.last_mut() {
                Some((speaker, stretch)) if *speaker == role => stretch.extend(bytes),
                _ => all.push((role, bytes)),
            }
            // Once, and nothing is opened behind it.
            if let Some(at) = self.goaway
                && at.index(self.turns.len()) == turn
            {
                all.push((Server, goaway(streams[i], 0)));
                for (stream, said) in streams.iter_mut().zip(&mut said) {
                    if *stream == 0 {
                        *stream = u32::MAX;
                        *said = [usize::MAX; 2];
                    }
                }
            }
        }
        all
    }
}
