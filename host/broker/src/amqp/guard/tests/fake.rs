//! A broker that says yes to everything, delivers what it is told to, byte for byte, and looks at each byte that
//! comes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::super::frame::{END, HEAD, Head, Input, OVERHEAD, TYPE_METHOD, write};
use super::super::methods::identify;
use super::{long, short};

const FRAME_MAX: usize = 131_072;
const DEADLINE: Duration = Duration::from_secs(60);
const PROTOCOL_HEADER: usize = 8;
/// The methods that the crate has reason to send: all others are foreign.
const EXPECTED: [(u16, u16); 17] = [
    (10, 11),
    (10, 31),
    (10, 40),
    (10, 50),
    (20, 10),
    (20, 40),
    (40, 10),
    (50, 10),
    (50, 20),
    (60, 10),
    (60, 20),
    (60, 30),
    (60, 40),
    (60, 80),
    (60, 90),
    (60, 120),
    (85, 10),
];

#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) consumers: usize,
    pub(super) acked: u64,
    /// The bodies of what was published.
    pub(super) published: Vec<Vec<u8>>,
    /// Whatever is not AMQP, or not ours.
    pub(super) foreign: Vec<String>,
    pub(super) largest: usize,
    pub(super) heartbeats: usize,
}

/// The fake broker's part: what it does unasked.
pub(super) struct Part {
    /// To the first consumer of each channel.
    pub(super) deliveries: Vec<u8>,
    /// Seconds.
    pub(super) heartbeat: u8,
    /// True if a channel's first consumer ends when there is another one.
    pub(super) ends_consumers: bool,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Fake {
    /// It delivers these bytes to the first consumer of each channel, and wants a heartbeat every `heartbeat` seconds.
    pub(super) async fn start(deliveries: Vec<u8>, heartbeat: u8) -> Self {
        Self::with(Part {
            deliveries,
            heartbeat,
            ends_consumers: false,
        })
        .await
    }

    pub(super) async fn with(part: Part) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let part = Arc::new(part);
        let accepting = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.lock().unwrap().connections += 1;
                tokio::spawn(serve(socket, Arc::clone(&accepting), Arc::clone(&part)));
            }
        });
        Self { address, seen }
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(super) async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let started = Instant::now();
        while !condition(&self.seen.lock().unwrap()) {
            assert!(
                started.elapsed() < DEADLINE,
                "{what}: {:?}",
                self.seen.lock().unwrap()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Session {
    seen: Arc<Mutex<Seen>>,
    part: Arc<Part>,
    /// Of each channel.
    consumers: HashMap<u16, usize>,
    /// Messages that are on their way, and the number of those that came, by channel.
    content: HashMap<u16, (u64, Vec<u8>)>,
    tags: HashMap<u16, u64>,
}

async fn serve(socket: TcpStream, seen: Arc<Mutex<Seen>>, part: Arc<Part>) {
    let (mut reader, mut writer) = socket.into_split();
    let (answers, mut waiting) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(answer) = waiting.recv().await {
            if writer.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    let mut session = Session {
        seen,
        part,
        consumers: HashMap::new(),
        content: HashMap::new(),
        tags: HashMap::new(),
    };
    let mut start = [0; PROTOCOL_HEADER];
    if reader.read_exact(&mut start).await.is_err() {
        return;
    }
    let arguments = [&[0, 9][..], &long(b""), &long(b"PLAIN"), &long(b"en_US")].concat();
    answers.send(method(0, 10, 10, &arguments)).unwrap();
    let mut head = [0; HEAD];
    while reader.read_exact(&mut head).await.is_ok() {
        let head = Head::read(head);
        if !matches!(head.kind, 1 | 2 | 3 | 8) || head.size > FRAME_MAX - OVERHEAD {
            session.foreign(format!("{head:?}"));
            return;
        }
        let mut payload = vec![0; head.size + 1];
        if reader.read_exact(&mut payload).await.is_err() {
            session.foreign(format!("half of {head:?}"));
            return;
        }
        if payload.pop() != Some(END) {
            session.foreign(format!("no end of {head:?}"));
            return;
        }
        for answer in session.frame(head, &payload) {
            // The client may be gone.
            let _ = answers.send(answer);
        }
    }
}

fn method(channel: u16, class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(
        &mut out,
        TYPE_METHOD,
        channel,
        &[&[0, class, 0, method], arguments],
    );
    out
}

impl Session {
    fn foreign(&self, what: String) {
        self.seen.lock().unwrap().foreign.push(what);
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Vec<Vec<u8>> {
        let channel = head.channel;
        {
            let mut seen = self.seen.lock().unwrap();
            seen.largest = seen.largest.max(head.size + OVERHEAD);
            seen.heartbeats += usize::from(head.kind == 8);
        }
        match head.kind {
            1 => return self.method(channel, payload),
            2 => {
                let size = Input(&payload[4..])
                    .array()
                    .map(u64::from_be_bytes)
                    .unwrap();
                self.content.insert(channel, (size, Vec::new()));
            }
            3 => {
                let Some((_, body)) = self.content.get_mut(&channel) else {
                    self.foreign(format!("a body without a header: {head:?}"));
                    return Vec::new();
                };
                body.extend_from_slice(payload);
            }
            _ => return vec![vec![8, 0, 0, 0, 0, 0, 0, END]],
        }
        match self.content.get(&channel) {
            Some((size, body)) if *size == u64::try_from(body.len()).unwrap() => {
                let (_, body) = self.content.remove(&channel).unwrap();
                self.seen.lock().unwrap().published.push(body);
                let tag = self.tags.entry(channel).or_default();
                *tag += 1;
                let ack = [&tag.to_be_bytes()[..], &[0]].concat();
                vec![method(channel, 60, 80, &ack)]
            }
            _ => Vec::new(),
        }
    }

    fn method(&mut self, channel: u16, payload: &[u8]) -> Vec<Vec<u8>> {
        let name = identify(payload).unwrap();
        if !EXPECTED.contains(&name) {
            self.foreign(format!("method {name:?}"));
        }
        let answer =
            |class, number, arguments: &[u8]| vec![method(channel, class, number, arguments)];
        match name {
            (10, 11) => {
                let frame_max = u32::try_from(FRAME_MAX).unwrap().to_be_bytes();
                let tune = [&[7, 255][..], &frame_max, &[0, self.part.heartbeat]].concat();
                answer(10, 30, &tune)
            }
            (10, 40) => answer(10, 41, &short(b"")),
            (10, 50) => answer(10, 51, &[]),
            (20, 10) => answer(20, 11, &long(b"")),
            (20, 40) => answer(20, 41, &[]),
            (40, 10) => answer(40, 11, &[]),
            (50, 10) => answer(50, 11, &[&short(b"q")[..], &[0; 8]].concat()),
            (50, 20) => answer(50, 21, &[]),
            (60, 10) => answer(60, 11, &[]),
            (60, 20) => {
                let before = self.consumers.entry(channel).or_default();
                *before += 1;
                self.seen.lock().unwrap().consumers += 1;
                match before {
                    1 => {
                        let mut all = answer(60, 21, &short(b"tag"));
                        all.push(on_channel(&self.part.deliveries, channel));
                        all
                    }
                    _ if self.part.ends_consumers => {
                        let mut all = answer(60, 30, &[&short(b"tag")[..], &[1]].concat());
                        all.extend(answer(60, 21, &short(b"next")));
                        all
                    }
                    _ => answer(60, 21, &short(b"next")),
                }
            }
            (60, 30) => answer(60, 31, &short(b"tag")),
            (60, 80) => {
                self.seen.lock().unwrap().acked =
                    u64::from_be_bytes(payload[4..12].try_into().unwrap());
                Vec::new()
            }
            (85, 10) => answer(85, 11, &[]),
            _ => Vec::new(),
        }
    }
}

/// The deliveries, which are made for channel 1, on the consumer's.
fn on_channel(deliveries: &[u8], channel: u16) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), deliveries);
    while let Some(head) = rest.first_chunk::<HEAD>() {
        let size = Head::read(*head).size + OVERHEAD;
        let (frame, after) = rest.split_at(size);
        out.push(frame[0]);
        out.extend(channel.to_be_bytes());
        out.extend(&frame[3..]);
        rest = after;
    }
    out
}

/// A delivery with such properties; its body is its number.
pub(super) fn delivery(number: u64, key: &[u8], properties: &[u8]) -> Vec<u8> {
    let body = number.to_string();
    let deliver = [
        &short(b"tag")[..],
        &number.to_be_bytes(),
        &[0],
        &short(b""),
        &short(key),
    ];
    let mut out = method(1, 60, 60, &deliver.concat());
    out.extend(super::content(
        u64::try_from(body.len()).unwrap(),
        properties,
    ));
    write(&mut out, 3, 1, &[body.as_bytes()]);
    out
}
