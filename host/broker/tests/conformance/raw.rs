//! A publisher that sends a message's properties byte for byte, as no client library would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use url::Url;

struct Raw(TcpStream);

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length, bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

impl Raw {
    fn send(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel], &long(payload)[..], &[0xce]].concat();
        self.0.write_all(&frame).unwrap();
    }

    fn method(&mut self, channel: u8, name: (u8, u8), arguments: &[u8]) {
        let payload = [&[0, name.0, 0, name.1], arguments].concat();
        self.send(1, channel, &payload);
    }

    /// Reads up to this method.
    fn until(&mut self, name: (u8, u8)) {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).unwrap();
            let size = u32::from_be_bytes(head[3..].try_into().unwrap());
            let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
            self.0.read_exact(&mut payload).unwrap();
            if head[0] == 1 {
                let came = (payload[1], payload[3]);
                assert!(
                    !matches!(came, (10, 50) | (20, 40)),
                    "{}",
                    String::from_utf8_lossy(&payload)
                );
                if came == name {
                    return;
                }
            }
        }
    }
}

/// Publishes messages with such encoded properties to a queue, and waits for the broker's confirms.
pub(crate) fn publish(url: &str, exchange: &str, key: &[u8], messages: &[(Vec<u8>, &str)]) {
    let url = Url::parse(url).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap_or(5672));
    let mut raw = Raw(TcpStream::connect(address).unwrap());
    raw.0
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    raw.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
    raw.until((10, 10));
    let login = format!(
        "\0{}\0{}",
        url.username(),
        url.password().unwrap_or_default()
    );
    let start_ok = [
        &long(b"")[..],
        &short(b"PLAIN"),
        &long(login.as_bytes()),
        &short(b"en_US"),
    ];
    raw.method(0, (10, 11), &start_ok.concat());
    raw.until((10, 30));
    raw.method(0, (10, 31), &[0, 16, 0, 2, 0, 0, 0, 0]);
    raw.method(0, (10, 40), &[&short(b"/")[..], &[0, 0]].concat());
    raw.until((10, 41));
    raw.method(1, (20, 10), &short(b""));
    raw.until((20, 11));
    raw.method(1, (85, 10), &[0]);
    raw.until((85, 11));
    for (properties, body) in messages {
        let publish = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        raw.method(1, (60, 40), &publish);
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        raw.send(2, 1, &[&[0, 60, 0, 0][..], &size, properties].concat());
        raw.send(3, 1, body.as_bytes());
        raw.until((60, 80));
    }
}

/// Encoded properties that are these headers: names and values as they are sent.
pub(crate) fn headers(entries: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [short(name), value.clone()].concat())
        .collect();
    [&[0x20, 0][..], &long(&entries)].concat()
}

pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [b"S", &long(text)[..]].concat()
}

/// Arrays in arrays.
pub(crate) fn nested(levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for level in (0..levels).rev() {
        value.push(b'A');
        value.extend(u32::try_from(5 * level + 1).unwrap().to_be_bytes());
    }
    value.push(b'V');
    value
}

/// Encoded properties that are one short string, by its flag.
pub(crate) fn one(flag: u16, value: &[u8]) -> Vec<u8> {
    [&flag.to_be_bytes()[..], &short(value)].concat()
}
