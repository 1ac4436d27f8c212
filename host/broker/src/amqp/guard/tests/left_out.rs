//! Bodies that there is no memory for do not reach lapin, and nothing else changes for it.

use std::collections::HashMap;
use std::sync::Arc;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;
use lapin::message::Delivery;
use petiole_celery::Message;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::super::convert;
use super::super::frame::{Fault, TYPE_BODY, TYPE_HEADER, TYPE_METHOD, write};
use super::super::inbound::Inbound;
use super::super::{Channels, LeftOut, Passed};
use super::{entry, headers, long, short, text};
use crate::memory::{Memory, Share};

const FRAME_MAX: usize = 131_072;
/// Encoded properties of no property.
const NONE: [u8; 2] = [0, 0];

fn method(channel: u16, payload: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, TYPE_METHOD, channel, payload);
    out
}

fn deliver(channel: u16, tag: u64) -> Vec<u8> {
    let start: &[u8] = &[0, 60, 0, 60];
    let names = [short(b""), short(b"q")].concat();
    method(
        channel,
        &[start, &short(b"ctag"), &tag.to_be_bytes(), &[0], &names],
    )
}

fn header(channel: u16, size: u64, properties: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = [&[0, 60, 0, 0][..], &size.to_be_bytes()].concat();
    write(&mut out, TYPE_HEADER, channel, &[&start, properties]);
    out
}

fn body(channel: u16, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, TYPE_BODY, channel, &[bytes]);
    out
}

/// A delivery whose body comes in pieces.
fn delivery(channel: u16, tag: u64, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let size: usize = pieces.iter().map(|piece| piece.len()).sum();
    let start = [
        deliver(channel, tag),
        header(channel, u64::try_from(size).unwrap(), &NONE),
    ];
    let bodies = pieces.iter().map(|piece| body(channel, piece));
    start.into_iter().chain(bodies).collect()
}

struct Guarded {
    inbound: Inbound,
    memory: Arc<Memory>,
    passed: HashMap<u16, Arc<Passed>>,
}

impl Guarded {
    /// Channels that deliver to a consumer each.
    fn new(memory: usize, channels: &[u16]) -> Self {
        let memory = Memory::new(memory);
        let delivering = Channels::default();
        let open = |channel: &u16| (*channel, delivering.open(*channel, &Share::new(&memory)));
        let passed = channels.iter().map(open).collect();
        Self {
            inbound: Inbound::new(FRAME_MAX, delivering.clone()),
            memory,
            passed,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        self.inbound.push(bytes, &mut out)?;
        Ok(out)
    }
}

/// A delivery to a channel's consumer: channel, tag, and a body or the bytes of one that was left out.
type Delivered = (u16, u64, Result<Vec<u8>, u64>);

/// As lapin puts it together.
fn delivered(mut bytes: &[u8]) -> Vec<Delivered> {
    let mut under_way: HashMap<u16, (u64, Option<u64>, Delivery)> = HashMap::new();
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("lapin can't read it");
        bytes = rest;
        let channel = match frame {
            AMQPFrame::Method(channel, AMQPClass::Basic(AMQPMethod::Deliver(deliver))) => {
                let delivery = Delivery::mock(
                    deliver.delivery_tag,
                    "".into(),
                    "q".into(),
                    false,
                    Vec::new(),
                );
                let before = under_way.insert(channel, (deliver.delivery_tag, None, delivery));
                assert!(
                    before.is_none(),
                    "channel {channel} delivers within a delivery"
                );
                continue;
            }
            AMQPFrame::Header(channel, header) => {
                let (_, size, delivery) = under_way.get_mut(&channel).unwrap();
                *size = Some(header.body_size);
                delivery.properties = header.properties;
                channel
            }
            AMQPFrame::Body(channel, part) => {
                let (_, size, delivery) = under_way.get_mut(&channel).unwrap();
                assert!(size.is_some());
                delivery.data.extend(part);
                channel
            }
            _ => continue,
        };
        let (_, size, delivery) = &under_way[&channel];
        if size.unwrap() == u64::try_from(delivery.data.len()).unwrap() {
            let (tag, _, delivery) = under_way.remove(&channel).unwrap();
            let came = match LeftOut::of(&delivery) {
                Some(left_out) => Err(left_out.bytes),
                None => Ok(delivery.data),
            };
            all.push((channel, tag, came));
        }
    }
    assert!(under_way.is_empty(), "{under_way:?}");
    all
}

/// The message that lapin's delivery is made.
fn received(bytes: &[u8]) -> Message {
    let (rest, _) = parse_frame(bytes).unwrap();
    let (_, frame) = parse_frame(rest).unwrap();
    let AMQPFrame::Header(_, header) = frame else {
        panic!("{frame:?}");
    };
    let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
    delivery.properties = header.properties;
    convert::incoming(delivery).0
}

#[test]
fn a_body_passes_while_there_is_room_or_beyond_it_alone() {
    let mut guarded = Guarded::new(1000, &[1, 2]);
    let mut bytes = Vec::new();
    for tag in 1..=3 {
        bytes.extend(delivery(1, tag, &[&[1; 500]]).concat());
    }
    bytes.extend(delivery(2, 1, &[&[2; 2000], &[2; 2000]]).concat());
    bytes.extend(delivery(2, 2, &[b"x"]).concat());
    let out = guarded.push(&bytes).unwrap();
    let came = delivered(&out);
    assert_eq!(
        came,
        [
            (1, 1, Ok(vec![1; 500])),
            // The one beyond the room.
            (1, 2, Ok(vec![1; 500])),
            (1, 3, Err(502)),
            (2, 1, Ok(vec![2; 4000])),
            (2, 2, Ok(vec![b'x'])),
        ]
    );
    assert_eq!(guarded.memory.held(), 502 + 502 + 4002 + 3);
    // Bytes of a message that arrives are its receiver's, others go back with the channel.
    let held = guarded.passed[&1].arrived(1);
    assert!(held.is_some() && guarded.passed[&1].arrived(1).is_none());
    assert!(
        guarded.passed[&1].arrived(3).is_none(),
        "nothing is held for it"
    );
    guarded.passed.clear();
    assert_eq!(guarded.memory.held(), 502);
    drop(held);
    assert_eq!(guarded.memory.held(), 0);
    // Nobody receives it: as little is held as is delivered.
    let out = guarded
        .push(&delivery(1, 4, &[&[1; 500]]).concat())
        .unwrap();
    assert_eq!(delivered(&out), [(1, 4, Err(502))]);
    assert_eq!(guarded.memory.held(), 0);
}

#[test]
fn headers_count_as_well() {
    let mut guarded = Guarded::new(1000, &[1]);
    let large = headers(&[entry(b"h", &text(&[b'h'; 900]))]);
    let mut bytes = Vec::new();
    for tag in 1..=2 {
        bytes.extend([deliver(1, tag), header(1, 0, &large)].concat());
    }
    let out = guarded.push(&bytes).unwrap();
    assert_eq!(
        delivered(&out),
        [
            (1, 1, Ok(Vec::new())),
            (1, 2, Err(u64::try_from(large.len() + 160 + 80).unwrap()))
        ]
    );
    assert!(out.len() < 1200, "neither its body nor its properties");
}

/// A table's value that holds others of one kind, as many as fit a frame.
fn many(one: &[u8]) -> Vec<u8> {
    let count = 120_000 / one.len();
    [b"A", &long(&one.repeat(count))[..]].concat()
}

#[test]
fn headers_count_for_the_memory_that_they_take() {
    let few: Vec<Vec<u8>> = (b'a'..b'u')
        .map(|name| entry(&[name], &text(&[b'x'; 40])))
        .collect();
    let mut all = vec![(few, 2)];
    for one in [
        &b"V"[..],
        b"t\x01",
        b"b\x01",
        b"B\x01",
        b"s\0\x01",
        b"u\0\x01",
        b"I\0\0\0\x01",
        b"i\0\0\0\x01",
        b"l\0\0\0\0\0\0\0\x01",
        b"L\0\0\0\0\0\0\0\x01",
        b"f\0\0\0\0",
        b"d\0\0\0\0\0\0\0\0",
        b"D\0\0\0\0\x01",
        b"T\0\0\0\0\0\0\0\0",
        b"S\0\0\0\0",
        b"S\0\0\0\x02\xff\xff",
        b"x\0\0\0\0",
        b"A\0\0\0\0",
        b"F\0\0\0\0",
        b"F\0\0\0\x03\x01aV",
        b"F\0\0\0\x04\x01aB1",
        b"F\0\0\0\x0c\x01aB1\x01bB1\x01cB1",
    ] {
        all.push((vec![entry(b"h", &many(one))], 20));
    }
    for bytes in [vec![b'x'; 120_000], vec![0xff; 120_000]] {
        all.push((vec![entry(b"h", &text(&bytes))], 2));
        all.push((vec![entry(b"h", &[b"x", &long(&bytes)[..]].concat())], 2));
    }
    for (entries, most) in all {
        let properties = headers(&entries);
        let mut guarded = Guarded::new(usize::MAX, &[1]);
        let bytes = [deliver(1, 1), header(1, 0, &properties)].concat();
        let out = guarded.push(&bytes).unwrap();
        let counted = guarded.memory.held();
        let mut message = None;
        let taken = allocation_counter::measure(|| message = Some(received(&out)));
        let taken = u64::try_from(taken.bytes_current).unwrap();
        let kind = entries[0].get(7).map(|kind| char::from(*kind));
        println!(
            "{kind:?}: {} bytes take {taken}, counted {counted}",
            properties.len()
        );
        assert!(
            counted + 2048 >= taken,
            "{kind:?}: {taken} bytes, counted {counted}"
        );
        assert!(
            counted < most * taken,
            "{kind:?}: {taken} bytes, counted {counted}"
        );
    }
}

#[test]
fn only_what_a_consumer_is_delivered_is_left_out() {
    let mut guarded = Guarded::new(0, &[1]);
    let got = method(
        1,
        &[&[0, 60, 0, 71], &[0; 9], &short(b""), &short(b"q"), &[0; 4]],
    );
    let returned = method(
        1,
        &[
            &[0, 60, 0, 50, 1, 0x38],
            &short(b""),
            &short(b""),
            &short(b"q"),
        ],
    );
    for start in [got, returned] {
        let bytes = [start, header(1, 3, &NONE), body(1, b"abc")].concat();
        assert_eq!(guarded.push(&bytes).unwrap(), bytes);
    }
    assert_eq!(guarded.memory.held(), 0);
}

#[test]
fn sizes_that_a_broker_may_claim() {
    // As much as there is no number for: alone, then not at all.
    let mut guarded = Guarded::new(1000, &[1, 2]);
    let most = |tag| [deliver(1, tag), header(1, u64::MAX, &NONE)].concat();
    assert!(
        guarded
            .push(&most(1))
            .unwrap()
            .ends_with(&header(1, u64::MAX, &NONE))
    );
    let mut guarded = Guarded::new(1000, &[1, 2]);
    guarded
        .push(&delivery(1, 1, &[&[1; 2000]]).concat())
        .unwrap();
    assert_eq!(
        delivered(&guarded.push(&most(2)).unwrap()),
        [(1, 2, Err(u64::MAX))]
    );
    for _ in 0..1000 {
        assert!(guarded.push(&body(1, &[1; 4000])).unwrap().is_empty());
    }
    // Other channels are not kept waiting, nor is this one's end.
    let out = guarded.push(&delivery(2, 1, &[b"abc"]).concat()).unwrap();
    assert_eq!(delivered(&out), [(2, 1, Ok(b"abc".to_vec()))]);
    let close = method(1, &[&[0, 20, 0, 40, 1, 0x94], &short(b"gone"), &[0; 4]]);
    assert_eq!(guarded.push(&close).unwrap(), close);
    // Nothing at all.
    let out = guarded.push(&delivery(2, 2, &[]).concat()).unwrap();
    assert_eq!(delivered(&out), [(2, 2, Ok(Vec::new()))]);
    let out = guarded
        .push(&delivery(1, 3, &[&[1; 2000]]).concat())
        .unwrap();
    assert_eq!(delivered(&out), [(1, 3, Err(2002))]);
}

#[test]
fn a_broker_that_sends_another_body_than_announced_is_a_fault() {
    let full = || {
        let mut guarded = Guarded::new(0, &[1]);
        guarded.push(&delivery(1, 1, &[b"abc"]).concat()).unwrap();
        let out = guarded.push(&[deliver(1, 2), header(1, 3, &NONE)].concat());
        assert_eq!(delivered(&out.unwrap()), [(1, 2, Err(5))]);
        guarded
    };
    assert!(full().push(&body(1, b"abcd")).is_err());
    assert!(full().push(&header(1, 3, &NONE)).is_err());
    assert!(full().push(&delivery(1, 3, &[b"abc"]).concat()).is_err());
    let twice = [deliver(1, 3), deliver(1, 4)].concat();
    assert!(Guarded::new(9, &[1]).push(&twice).is_err());
    // After it, all is as before.
    let mut guarded = full();
    assert!(guarded.push(&body(1, b"abc")).unwrap().is_empty());
    assert_eq!(
        delivered(&guarded.push(&delivery(1, 3, &[b"ab"]).concat()).unwrap()),
        [(1, 3, Err(4))]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Deliveries over some channels, their frames mixed, cut anywhere, with settlements between: each is delivered
    /// once, whole or with its size; what is held is what was delivered, and bounded.
    #[test]
    fn whatever_is_left_out_nothing_else_changes(
        messages in vec((1..4_u16, vec(1..600_usize, 0..4), any::<bool>()), 1..20),
        mixed in vec(any::<prop::sample::Index>(), 100),
        cuts in vec(1..80_usize, 1..20),
        memory in 0..3000_usize,
    ) {
        let mut guarded = Guarded::new(memory, &[1, 2, 3]);
        let mut queued: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
        let mut sent = HashMap::new();
        for (tag, (channel, sizes, _)) in (1..).zip(&messages) {
            let piece = |size: &usize| vec![u8::try_from(tag).unwrap(); *size];
            let pieces: Vec<Vec<u8>> = sizes.iter().map(piece).collect();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            queued.entry(*channel).or_default().extend(delivery(*channel, tag, &pieces));
            sent.insert(tag, (*channel, pieces.concat()));
        }
        // Frames of one channel keep their order, those of others come between.
        let mut bytes = Vec::new();
        for index in mixed.iter().cycle() {
            let mut open: Vec<u16> = queued.iter().filter(|(_, frames)| !frames.is_empty()).map(|(channel, _)| *channel).collect();
            if open.is_empty() {
                break;
            }
            open.sort_unstable();
            let frames = queued.get_mut(&open[index.index(open.len())]).unwrap();
            bytes.extend(frames.remove(0));
        }
        let (mut out, mut rest, mut held, mut seen) = (Vec::new(), &bytes[..], Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            guarded.inbound.push(piece, &mut out).unwrap();
            rest = after;
            let most = u64::try_from(memory + 3 * (3 * 600 + 2)).unwrap();
            prop_assert!(guarded.memory.held() <= most);
            // Some of what has come is settled at once, some never.
            seen += 1;
            for tag in sent.keys().filter(|tag| *tag % 5 == seen % 5) {
                let arrived = guarded.passed[&sent[tag].0].arrived(*tag);
                if messages[usize::try_from(*tag).unwrap() - 1].2 {
                    drop(arrived);
                } else {
                    held.extend(arrived);
                }
            }
        }
        let came = delivered(&out);
        prop_assert_eq!(came.len(), messages.len());
        for (channel, tag, came) in came {
            let (sent_on, body) = sent.remove(&tag).unwrap();
            prop_assert_eq!(channel, sent_on);
            match came {
                Ok(came) => prop_assert_eq!(came, body),
                Err(bytes) => prop_assert_eq!(bytes, u64::try_from(body.len() + NONE.len()).unwrap()),
            }
        }
        drop(held);
        guarded.passed.clear();
        prop_assert_eq!(guarded.memory.held(), 0);
    }
}
