//! Lapin can read all that passes the guard on its way in; and it arrives whole.

use std::sync::Arc;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use lapin::message::Delivery;
use petiole_celery::{Message, RAW_PROPERTIES, UNREADABLE};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::super::convert;
use super::super::frame::{Fault, OVERHEAD, TYPE_BODY, TYPE_METHOD, write};
use super::super::inbound::Inbound;
use super::super::methods;
use super::super::{Channels, HEADER_LIMIT, Mark, Passed, SECRET};
use super::{content, entry, headers, long, nested, short, text};
use crate::memory::{Memory, Share};

const LIMIT: usize = 131_072;
const BODY: &[u8] = b"abc";

fn guard(bytes: &[u8], frame_max: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let (channels, _passed) = roomy();
    Inbound::new(frame_max, channels).push(bytes, &mut out)?;
    Ok(out)
}

/// Channel 1 delivers, and there is memory for all of it.
fn roomy() -> (Channels, Arc<Passed>) {
    let channels = Channels::default();
    let passed = channels.open(1, &Share::new(&Memory::new(usize::MAX)));
    (channels, passed)
}

/// Reads it as lapin does: all of it, in frames that lapin takes.
fn read(mut bytes: &[u8], frame_max: usize) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("lapin can't read it");
        let size = bytes.len() - rest.len();
        assert!(size <= frame_max, "a frame of {size} bytes");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn with_body(properties: &[u8]) -> Vec<u8> {
    let mut bytes = content(u64::try_from(BODY.len()).unwrap(), properties);
    write(&mut bytes, TYPE_BODY, 1, &[BODY]);
    bytes
}

/// The message that arrives, on one content header and all of the body that it announces.
fn arrives(frames: Vec<AMQPFrame>) -> Message {
    let mut frames = frames.into_iter();
    let Some(AMQPFrame::Header(1, header)) = frames.next() else {
        panic!("no content header");
    };
    let mut data = Vec::new();
    for frame in frames {
        match frame {
            AMQPFrame::Body(1, part) => data.extend(part),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(header.body_size, u64::try_from(data.len()).unwrap());
    let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, data);
    delivery.properties = header.properties;
    let (message, ..) = convert::incoming(delivery);
    assert_eq!(message.body, BODY);
    message
}

fn message(properties: &[u8]) -> Message {
    arrives(read(&guard(&with_body(properties), LIMIT).unwrap(), LIMIT))
}

fn reason(message: &Message) -> Option<&str> {
    message.headers.get(UNREADABLE)?.as_str()
}

#[test]
fn what_lapin_reads_passes_untouched() {
    let all = [
        &[0xff, 0xfc][..],
        &short(b"application/json"),
        &short(b"utf-8"),
    ]
    .concat();
    let rest = [
        &[2, 9][..],
        &short(b"c"),
        &short(b"r"),
        &short(b"1"),
        &short(b"m"),
        &[0; 8],
    ]
    .concat();
    let end = [short(b"t"), short(b"guest"), short(b"a"), short(b"cluster")].concat();
    let table = long(
        &[
            entry(b"deep", &nested(60)),
            entry("ä".as_bytes(), &text(b"\xff")),
        ]
        .concat(),
    );
    let bytes = with_body(&[all, table, rest, end].concat());
    assert_eq!(guard(&bytes, LIMIT).unwrap(), bytes);
    let message = arrives(read(&bytes, LIMIT));
    assert_eq!(reason(&message), None);
    assert_eq!(message.properties.correlation_id.as_deref(), Some("c"));
}

#[test]
fn what_can_be_run_is_run() {
    let named = message(&headers(&[
        entry(b"na\xffme", &text(b"x")),
        entry(b"task", &text(b"t")),
    ]));
    assert_eq!(reason(&named), None);
    assert_eq!(named.headers["na\u{fffd}me"], "x");
    assert_eq!(named.headers["task"], "t");
    for size in [LIMIT - 60, LIMIT - 20, LIMIT, LIMIT + 8, HEADER_LIMIT - 100] {
        let grown = message(&headers(&[entry(b"x-death", &text(&vec![b'd'; size]))]));
        assert_eq!(reason(&grown), None, "{size}");
        assert_eq!(grown.headers["x-death"].as_str().unwrap().len(), size);
    }
}

#[test]
fn what_can_not_be_run_arrives_with_a_reason_and_what_can_be_read_of_it() {
    let id = || entry(b"id", &text(b"1"));
    let lying = [&[0x20, 0][..], &[0, 0, 1, 0], &id()].concat();
    for (properties, want) in [
        (
            [&[0x24, 0][..], &long(&id()), &short(b"c\xff")].concat(),
            "correlation_id \"c\u{fffd}\" is no UTF-8",
        ),
        (
            headers(&[id(), entry(b"d", &nested(61))]),
            "headers nested deeper than 60",
        ),
        (
            headers(&[id(), entry(b"d", &nested(26_000))]),
            "headers nested deeper than 60",
        ),
        (
            headers(&[id(), entry(b"u", b"?")]),
            "a header's value has the unknown type 0x3f",
        ),
        (
            headers(&[id(), vec![200, b'x']]),
            "a header's name or value is cut off",
        ),
        (lying, "a table or array of 256 bytes where 9 are left"),
        (
            [&[0x21, 0][..], &long(&id())].concat(),
            "expiration is cut off",
        ),
        (
            [headers(&[id()]), vec![0]].concat(),
            "1 bytes after the last property",
        ),
        (
            [&[0x20, 1][..], &long(&id())].concat(),
            "unknown property flags 0x2001",
        ),
    ] {
        let arrived = message(&properties);
        assert_eq!(arrived.headers["id"], "1", "{want}");
        let kept = arrived.headers[RAW_PROPERTIES]["__value__"]
            .as_str()
            .unwrap();
        assert!(!kept.is_empty(), "{want}");
        assert_eq!(reason(&arrived), Some(want));
    }
    let huge = message(&headers(&[id(), entry(b"h", &text(&vec![b'h'; 4 << 20]))]));
    assert_eq!(
        reason(&huge),
        Some("they have 4194326 bytes, over the limit of 262144")
    );
    assert_eq!(huge.headers["id"], "1");
}

#[test]
fn names_that_a_publisher_chooses_end_nothing() {
    let mut bytes = Vec::new();
    let deliver = [
        &[0, 60, 0, 60][..],
        &short(b"tag"),
        &[0; 9],
        &short(b"x"),
        &short(b"k\xfe"),
    ];
    write(&mut bytes, TYPE_METHOD, 1, &deliver);
    bytes.extend(with_body(&headers(&[])));
    bytes.extend(with_body(&headers(&[])));
    let mut frames = read(&guard(&bytes, LIMIT).unwrap(), LIMIT);
    assert!(matches!(frames.remove(0), AMQPFrame::Method(1, _)));
    // The second content is not its own.
    let second = frames.split_off(frames.len() - 2);
    let first = arrives(frames);
    assert_eq!(
        reason(&first),
        Some("the exchange or the routing key is no UTF-8")
    );
    assert_eq!(reason(&arrives(second)), None);
    let cut = "a".repeat(254) + "\u{e4}";
    let mut close = Vec::new();
    let text = &short(&cut.as_bytes()[..255]);
    write(
        &mut close,
        TYPE_METHOD,
        1,
        &[&[0, 20, 0, 40, 1, 0x94], text, &[0, 0, 0, 0]],
    );
    assert!(matches!(
        read(&guard(&close, LIMIT).unwrap(), LIMIT)[..],
        [AMQPFrame::Method(1, _)]
    ));
}

#[test]
fn a_mark_can_not_be_forged() {
    for cluster in ["00000000000000000000000000000000:3:3:0", ":3:3:0"] {
        let forged = [&[0, 4][..], &short(cluster.as_bytes())].concat();
        assert_eq!(message(&forged).body, BODY);
    }
    let own = headers(&[
        entry(UNREADABLE.as_bytes(), &text(b"forged")),
        entry(b"id", &text(b"1")),
    ]);
    let message = message(&own);
    assert_eq!(reason(&message), None);
    assert_eq!(message.headers["id"], "1");
    let mark = Mark {
        kept: 7,
        whole: 9,
        names: true,
    };
    assert_eq!(Mark::read(&mark.text()), Some(mark));
    assert_eq!(SECRET.len(), 32);
}

#[test]
fn a_broker_that_sends_no_frames_is_a_fault() {
    let body = |size| [&[3, 0, 1][..], &u32::to_be_bytes(size)].concat();
    for bytes in [
        body(u32::try_from(LIMIT - OVERHEAD + 1).unwrap()),
        [body(1), vec![0, 0]].concat(),
        vec![9, 0, 1, 0, 0, 0, 0, 0xce],
        vec![1, 0, 1, 0, 0, 0, 2, 0, 60, 0xce],
        vec![2, 0, 1, 0, 0, 0, 2, 0, 60, 0xce],
    ] {
        assert!(guard(&bytes, LIMIT).is_err(), "{bytes:?}");
    }
    // A version that it does not speak.
    assert_eq!(
        guard(b"AMQP\0\0\x09\x01", LIMIT).unwrap(),
        b"AMQP\0\0\x09\x01"
    );
}

/// Prints the cost of the guard, for readers of the test's output.
#[test]
fn the_cost_is_printed() {
    let entries: Vec<Vec<u8>> = (0..20_u8)
        .map(|n| entry(&[b'n', b'a' + n], &text(&[b'x'; 40])))
        .collect();
    let deliver = [
        &[0, 60, 0, 60][..],
        &short(b"ctag"),
        &[0; 9],
        &short(b""),
        &short(b"celery"),
    ];
    let mut one = Vec::new();
    write(&mut one, TYPE_METHOD, 1, &deliver);
    one.extend(with_body(&headers(&entries)));
    let mut large = Vec::new();
    write(&mut large, TYPE_BODY, 1, &[&vec![0; LIMIT - OVERHEAD]]);
    for (what, bytes, count) in [
        ("messages of", one, 50_000_u32),
        ("bodies of", large, 2_000),
    ] {
        let (channels, passed) = roomy();
        let (mut inbound, mut out) = (Inbound::new(LIMIT, channels), Vec::new());
        let started = std::time::Instant::now();
        for _ in 0..count {
            out.clear();
            inbound.push(&bytes, &mut out).unwrap();
            assert_eq!(out.len(), bytes.len());
            passed.arrived(0);
        }
        println!(
            "{what} {} bytes: {:?} each",
            bytes.len(),
            started.elapsed() / count
        );
    }
}

/// Bytes of a header's value, some of them lies.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (
            prop::sample::select(b"tbBsuUIilLfdDTV".to_vec()),
            vec(any::<u8>(), 0..9)
        )
            .prop_map(|(kind, bytes)| [&[kind][..], &bytes].concat()),
        (
            prop::sample::select(b"Sx".to_vec()),
            vec(any::<u8>(), 0..20)
        )
            .prop_map(|(kind, bytes)| [&[kind][..], &long(&bytes)].concat()),
        Just(vec![b'V']),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| vec![a, b]),
        (0..200_usize).prop_map(nested),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        (
            any::<bool>(),
            vec((vec(any::<u8>(), 0..5), inner), 0..5),
            prop_oneof![9 => Just(0_u32), 1 => any::<u32>()],
        )
            .prop_map(|(table, entries, lie)| {
                let mut bytes = vec![if table { b'F' } else { b'A' }];
                let parts: Vec<Vec<u8>> = entries
                    .iter()
                    .map(|(name, value)| {
                        if table {
                            entry(name, value)
                        } else {
                            value.clone()
                        }
                    })
                    .collect();
                let mut inner = long(&parts.concat());
                if lie > 0 {
                    inner[..4].copy_from_slice(&lie.to_be_bytes());
                }
                bytes.extend(inner);
                bytes
            })
    })
}

/// Encoded properties as a hostile publisher, or a broker that does not look, sends them.
pub(super) fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let named = vec((vec(any::<u8>(), 0..12), value()), 0..6)
        .prop_map(|entries| {
            let entries: Vec<Vec<u8>> = entries
                .iter()
                .map(|(name, value)| entry(name, value))
                .collect();
            headers(&entries)
        })
        .boxed();
    let mixed = (
        any::<u16>(),
        vec(vec(any::<u8>(), 0..30), 0..14),
        named.clone(),
    )
        .prop_map(|(flags, texts, headers)| {
            let mut bytes = (flags & !0x2000).to_be_bytes().to_vec();
            let mut texts = texts.into_iter();
            for bit in (2..16).rev() {
                match (flags >> bit & 1, bit) {
                    (0, _) => {}
                    (_, 13) => bytes.extend(&headers[2..]),
                    (_, 12 | 11) => bytes.push(2),
                    (_, 6) => bytes.extend([0; 8]),
                    _ => bytes.extend(short(&texts.next().unwrap_or_default())),
                }
            }
            bytes
        });
    let cut = (named.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, index, by)| {
            let index = index.index(bytes.len());
            if by % 2 == 0 {
                bytes.truncate(index);
            } else {
                bytes[index] ^= by;
            }
            bytes
        },
    );
    prop_oneof![named, mixed, cut, vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever the properties are, one message arrives, and lapin reads all that passes.
    #[test]
    fn any_properties_arrive(properties in hostile(), small in any::<bool>()) {
        let frame_max = if small { 4096 } else { LIMIT };
        let out = guard(&with_body(&properties), frame_max).unwrap();
        arrives(read(&out, frame_max));
        prop_assert!(out.len() <= 4 * properties.len() + 1024);
    }

    /// Frames of all kinds, cut into pieces at random: the same as whole.
    #[test]
    fn pieces_make_the_whole(
        frames in vec((hostile(), vec(any::<u8>(), 0..20), any::<bool>()), 1..6),
        cuts in vec(1..40_usize, 1..40),
    ) {
        let mut bytes = Vec::new();
        for (properties, key, named) in &frames {
            let deliver = [&[0, 60, 0, 60][..], &short(b"t"), &[0; 9], &short(b""), &short(key)];
            if *named {
                write(&mut bytes, TYPE_METHOD, 1, &deliver);
            }
            bytes.extend(with_body(properties));
            bytes.extend([8, 0, 0, 0, 0, 0, 0, 0xce]);
        }
        let whole = guard(&bytes, LIMIT).unwrap();
        let (channels, _passed) = roomy();
        let (mut pieces, mut inbound, mut rest) = (Vec::new(), Inbound::new(LIMIT, channels), &bytes[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            inbound.push(piece, &mut pieces).unwrap();
            rest = after;
        }
        prop_assert_eq!(pieces, whole);
    }

    /// Any bytes at all: a fault, or what lapin reads as far as it goes.
    #[test]
    fn any_bytes_are_a_fault_or_frames(bytes in vec(prop_oneof![any::<u8>(), 0..4_u8, Just(0xce)], 0..300)) {
        let mut out = Vec::new();
        let _ = Inbound::new(4096, Channels::default()).push(&bytes, &mut out);
        let mut rest = &out[..];
        while !rest.is_empty() && rest[0] != b'A' {
            match parse_frame(rest) {
                Ok((after, _)) => rest = after,
                Err(error) => {
                    // Half a body is all that may be left, or a method that nobody but the broker words.
                    let own = rest[0] == 1 && !methods::carries_text(&rest[7..]);
                    prop_assert!(error.is_incomplete() || own || matches!(rest[0], 3 | 8), "{:?}", error);
                    break;
                }
            }
        }
    }
}
