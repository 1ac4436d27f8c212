//! Nothing but whole, well-formed frames within the limit leaves.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::frame::{TYPE_BODY, TYPE_METHOD, write};
use super::super::outbound::Outbound;
use super::inbound::hostile;
use super::{content, entry, headers, text};

const LIMIT: usize = 4096;
const START: &[u8] = b"AMQP\0\0\x09\x01";

fn begun() -> Outbound {
    let mut outbound = Outbound::new(LIMIT);
    outbound.admit([START, &[]]).unwrap();
    outbound.written(START.len());
    outbound
}

fn method(class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(
        &mut out,
        TYPE_METHOD,
        1,
        &[&[0, class, 0, method], arguments],
    );
    out
}

fn publish() -> Vec<u8> {
    method(60, 40, &[0, 0, 0, 1, b'q', 0])
}

fn body(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, TYPE_BODY, 1, &[bytes]);
    out
}

fn good() -> Vec<u8> {
    let properties = headers(&[entry(b"id", &text(b"1"))]);
    [
        publish(),
        content(4, &properties),
        body(b"ab"),
        body(b"cd"),
        publish(),
        content(0, &[0, 0]),
    ]
    .concat()
}

#[test]
fn what_is_no_whole_message_is_not_written() {
    let mut wrong_end = publish();
    *wrong_end.last_mut().unwrap() = 0;
    let mut lying = content(2, &headers(&[entry(b"id", &text(b"1"))]));
    lying[6] -= 1;
    for (bytes, want) in [
        (publish()[..9].to_vec(), "half a frame"),
        (wrong_end, "half a frame"),
        (vec![7, 0, 1, 0, 0, 0, 0, 0xce], "the unknown type 7"),
        (
            body(&vec![0; LIMIT]),
            "a frame of 4096 bytes was to be sent, over the limit of 4088",
        ),
        (
            [
                publish(),
                content(1, &headers(&[entry(b"h", &text(&vec![0; LIMIT]))])),
            ]
            .concat(),
            "over the limit",
        ),
        ([publish(), lying].concat(), "half a frame"),
        (
            [publish(), content(1, &headers(&[vec![9]]))].concat(),
            "can't be read",
        ),
        (content(1, &[0, 0]), "where none is due"),
        (body(b"x"), "more body"),
        ([publish(), publish()].concat(), "content is due"),
        (
            [publish(), content(1, &[0, 0]), body(b"xy")].concat(),
            "more body",
        ),
        (
            [publish(), content(1, &[0, 0]), publish()].concat(),
            "content is due",
        ),
    ] {
        let refused = begun().admit([&bytes, &[]]).unwrap_err().to_string();
        assert!(
            refused.contains(want) && refused.contains("guard"),
            "{refused}, not {want}"
        );
    }
    assert!(
        Outbound::new(LIMIT)
            .admit([b"GET / HTTP/1.1\r\n", &[]])
            .is_err()
    );
}

#[test]
fn a_full_buffer_that_begins_with_a_header_is_not_written() {
    let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xce];
    let filled = |start: Vec<u8>| {
        let room = LIMIT * 32 - start.len();
        assert_eq!(room % heartbeat.len(), 0, "{room}");
        [start, heartbeat.repeat(room / heartbeat.len())].concat()
    };
    // Each byte is right, and yet it may be a publisher's.
    let mut outbound = begun();
    outbound.admit([&publish(), &[]]).unwrap();
    outbound.written(publish().len());
    let start = content(1, &[0, 8, 1, b'x']);
    let padding = (8 - (start.len() + 9) % 8) % 8;
    let start = content(
        1,
        &[&[0, 8][..], &super::short(&vec![b'x'; 1 + padding])].concat(),
    );
    let full = filled([start, body(b"x")].concat());
    assert!(outbound.admit([&full, &[]]).is_err());
    // Of a long body that is how it should be.
    let mut outbound = begun();
    outbound
        .admit([&[publish(), content(32 * 4088, &[0, 0])].concat(), &[]])
        .unwrap();
    outbound.written(publish().len() + content(0, &[0, 0]).len());
    let bodies = body(&vec![0; 4088]).repeat(32);
    outbound.admit([&bodies[..100], &bodies[100..]]).unwrap();
}

#[test]
fn the_agreed_limit_holds() {
    let mut outbound = Outbound::new(131_072);
    let tune_ok = method(10, 31, &[0, 0, 0, 0, 0x20, 0, 0, 10]);
    let large = [publish(), content(9000, &[0, 0]), body(&[0; 9000])].concat();
    outbound.admit([START, &tune_ok]).unwrap();
    outbound.written(START.len() + tune_ok.len());
    assert_eq!(outbound.frame_max, 8192);
    assert!(outbound.admit([&large, &[]]).is_err());
}

#[test]
fn a_closed_channel_drops_its_content() {
    let bytes = [
        publish(),
        content(4, &[0, 0]),
        method(20, 41, &[]),
        method(20, 10, &[0]),
    ]
    .concat();
    begun().admit([&bytes, &[]]).unwrap();
}

proptest! {
    /// However the bytes lie in the ring, and however many are written at once.
    #[test]
    fn messages_are_written(split in any::<prop::sample::Index>(), steps in vec(1..30_usize, 1..30)) {
        let bytes = good().repeat(5);
        let mut outbound = begun();
        let (mut sent, mut steps) = (0, steps.iter().cycle());
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let (first, second) = rest.split_at(split.index(rest.len()));
            outbound.admit([first, second]).unwrap();
            let count = (*steps.next().unwrap()).min(rest.len());
            outbound.written(count);
            sent += count;
        }
    }

    #[test]
    fn any_content_is_refused_or_well_formed(properties in hostile()) {
        let bytes = [publish(), content(0, &properties)].concat();
        if begun().admit([&bytes, &[]]).is_ok() {
            let (rest, _) = amq_protocol::frame::parse_frame(&bytes[publish().len()..]).unwrap();
            prop_assert!(rest.is_empty());
        }
    }
}
