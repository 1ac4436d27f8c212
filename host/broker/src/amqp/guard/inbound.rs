//! From the broker to lapin. Bodies pass as they come, or are left out; methods and content headers are held until they
//! are whole.

use std::collections::HashMap;

use super::frame::{
    CONTENT, END, Fault, HEAD, Head, Input, OVERHEAD, TYPE_BODY, TYPE_HEADER, TYPE_HEARTBEAT,
    TYPE_METHOD, fault, write,
};
use super::{Channels, HEADER_LIMIT, LeftOut, Mark, methods, properties};

/// The flag of `cluster_id`.
const MARKED: [u8; 2] = [0, 4];

pub(super) struct Inbound {
    /// The largest frame that lapin takes.
    pub(super) frame_max: usize,
    state: State,
    /// The bytes of a head, or the payload of a frame that is held.
    held: Vec<u8>,
    /// Properties on their way through.
    scratch: Vec<u8>,
    channels: Channels,
    /// State of a channel's next content.
    due: HashMap<u16, Due>,
    /// Bytes of body that are still to come on a channel, and are left out.
    left_out: HashMap<u16, u64>,
    /// Nothing has come yet.
    first: bool,
}

#[derive(Default)]
struct Due {
    /// The delivery's, where it is a consumer's.
    tag: Option<u64>,
    /// The exchange or the routing key is no UTF-8.
    unnamed: bool,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    /// Bytes that are to pass, the last of them the frame's end.
    Passing(usize),
    /// Bytes that are left out, the last of them the frame's end.
    LeavingOut(usize),
    Holding {
        head: Head,
        missing: usize,
    },
    /// The broker's answer to a version that it does not speak (section 4.2.2): lapin's to read.
    Foreign,
}

impl Inbound {
    pub(super) fn new(frame_max: usize, channels: Channels) -> Self {
        Self {
            frame_max,
            state: State::Head,
            held: Vec::new(),
            scratch: Vec::new(),
            channels,
            due: HashMap::new(),
            left_out: HashMap::new(),
            first: true,
        }
    }

    /// Takes what has come, and appends what lapin may have of it.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            match self.state {
                State::Foreign => {
                    out.extend_from_slice(input.0);
                    return Ok(());
                }
                State::Head => self.head(&mut input, out)?,
                State::Passing(left) => {
                    let (passed, left) = rest(&mut input, left)?;
                    out.extend_from_slice(passed);
                    self.state = left.map_or(State::Head, State::Passing);
                }
                State::LeavingOut(left) => {
                    let (_, left) = rest(&mut input, left)?;
                    self.state = left.map_or(State::Head, State::LeavingOut);
                }
                State::Holding { head, missing } => self.hold(&mut input, head, missing, out)?,
            }
        }
        Ok(())
    }

    fn head(&mut self, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        if std::mem::take(&mut self.first) && input.0.first() == Some(&b'A') {
            self.state = State::Foreign;
            return Ok(());
        }
        let count = input.0.len().min(HEAD - self.held.len());
        self.held
            .extend_from_slice(input.take(count).unwrap_or_default());
        let Some(&head) = self.held.first_chunk() else {
            return Ok(());
        };
        let parsed = Head::read(head);
        self.held.clear();
        let limit = self.frame_max.saturating_sub(OVERHEAD);
        self.state = match parsed.kind {
            TYPE_HEADER => State::Holding {
                head: parsed,
                missing: parsed.size.saturating_add(1),
            },
            _ if parsed.size > limit => {
                return fault(format!(
                    "the broker sent a frame of {} bytes, over the limit of {limit}",
                    parsed.size
                ));
            }
            TYPE_METHOD => State::Holding {
                head: parsed,
                missing: parsed.size.saturating_add(1),
            },
            TYPE_BODY if self.leaves_out(parsed)? => {
                State::LeavingOut(parsed.size.saturating_add(1))
            }
            TYPE_BODY | TYPE_HEARTBEAT => {
                out.extend_from_slice(&head);
                State::Passing(parsed.size.saturating_add(1))
            }
            kind => {
                return fault(format!(
                    "the broker sent a frame of the unknown type {kind}"
                ));
            }
        };
        Ok(())
    }

    /// True if a frame of body is one of those that are left out.
    fn leaves_out(&mut self, head: Head) -> Result<bool, Fault> {
        if self.left_out.is_empty() {
            return Ok(false);
        }
        let Some(due) = self.left_out.remove(&head.channel) else {
            return Ok(false);
        };
        let size = u64::try_from(head.size).unwrap_or(u64::MAX);
        match due.checked_sub(size) {
            Some(0) => {}
            Some(due) => {
                self.left_out.insert(head.channel, due);
            }
            None => {
                return fault(format!(
                    "the broker sent {size} bytes of a body of which {due} were due"
                ));
            }
        }
        Ok(true)
    }

    fn hold(
        &mut self,
        input: &mut Input<'_>,
        head: Head,
        missing: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let count = input.0.len().min(missing);
        let came = input.take(count).unwrap_or_default();
        let room = head.size.min(CONTENT + HEADER_LIMIT) - self.held.len();
        self.held
            .extend_from_slice(came.get(..room).unwrap_or(came));
        let missing = missing - count;
        self.state = State::Holding { head, missing };
        if missing == 0 {
            ended(came.last())?;
            let payload = std::mem::take(&mut self.held);
            let whole = match head.kind {
                TYPE_HEADER => self.content(head, &payload, out),
                _ => self.method(head, &payload, out),
            };
            self.held = payload;
            self.held.clear();
            self.held.shrink_to(self.frame_max);
            whole?;
            self.state = State::Head;
        }
        Ok(())
    }

    fn method(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.scratch.clear();
        let unnamed = !methods::repair(payload, &mut self.scratch)?;
        let tag = methods::delivery_tag(payload);
        if methods::closes(payload) {
            self.due.remove(&head.channel);
            self.left_out.remove(&head.channel);
        } else if tag.is_some() || unnamed && methods::delivers(payload) {
            let due = self.due.insert(head.channel, Due { tag, unnamed });
            if due.is_some() {
                return fault("the broker delivered where the content of a delivery is due");
            }
        }
        write(out, TYPE_METHOD, head.channel, &[&self.scratch]);
        Ok(())
    }

    fn content(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some((start, encoded)) = payload.split_at_checked(CONTENT) else {
            return fault(format!(
                "the broker sent a content header of {} bytes",
                payload.len()
            ));
        };
        if self.left_out.contains_key(&head.channel) {
            return fault("the broker sent a content header where a body is due");
        }
        let due = self.due.remove(&head.channel).unwrap_or_default();
        self.scratch.clear();
        let found = properties::repair(encoded, &mut self.scratch);
        if let Some(tag) = due.tag {
            let bytes =
                announced(start).saturating_add(count(encoded.len().saturating_add(found.memory)));
            if !self.channels.pass(head.channel, tag, bytes) {
                self.leave_out(head.channel, start, LeftOut { bytes }, out);
                return Ok(());
            }
        }
        let names = due.unnamed;
        let whole = head.size - CONTENT;
        if !names && encoded.len() == whole {
            let fits = CONTENT + self.scratch.len() + OVERHEAD <= self.frame_max;
            if found.reason.is_none() && fits {
                write(out, TYPE_HEADER, head.channel, &[start, &self.scratch]);
                return Ok(());
            }
        }
        let kept = encoded.len();
        self.marked(
            head.channel,
            start,
            encoded,
            &Mark { kept, whole, names },
            out,
        )
    }

    /// Lapin delivers an empty message with a mark. Whoever receives it gives it back.
    fn leave_out(&mut self, channel: u16, start: &[u8], left_out: LeftOut, out: &mut Vec<u8>) {
        let body = announced(start);
        if body > 0 {
            self.left_out.insert(channel, body);
        }
        header(out, channel, start, 0, &left_out.text());
    }

    /// The properties go ahead of the body, which has no limit, and a mark in their place says so.
    fn marked(
        &mut self,
        channel: u16,
        start: &[u8],
        encoded: &[u8],
        mark: &Mark,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let Some(size) = announced(start).checked_add(count(mark.kept)) else {
            return fault("the broker announced a body of 2^64 bytes");
        };
        header(out, channel, start, size, &mark.text());
        for part in encoded.chunks(self.frame_max.saturating_sub(OVERHEAD).max(1)) {
            write(out, TYPE_BODY, channel, &[part]);
        }
        Ok(())
    }
}

/// The body's size, as a content header begins.
fn announced(start: &[u8]) -> u64 {
    let size = start.last_chunk().copied();
    size.map_or(0, u64::from_be_bytes)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Writes a content header of the same class, with a mark for its properties.
fn header(out: &mut Vec<u8>, channel: u16, start: &[u8], size: u64, mark: &str) {
    let class = start.get(..CONTENT - 8).unwrap_or_default();
    let length = [u8::try_from(mark.len()).unwrap_or(u8::MAX)];
    let size = size.to_be_bytes();
    let parts = [class, &size, &MARKED, &length, mark.as_bytes()];
    write(out, TYPE_HEADER, channel, &parts);
}

/// Takes what has come of the `due` bytes of a frame, and returns with it the number that is still due.
fn rest<'a>(input: &mut Input<'a>, due: usize) -> Result<(&'a [u8], Option<usize>), Fault> {
    let came = input.take(input.0.len().min(due)).unwrap_or_default();
    let due = due - came.len();
    if due == 0 {
        ended(came.last())?;
    }
    Ok((came, (due > 0).then_some(due)))
}

fn ended(last: Option<&u8>) -> Result<(), Fault> {
    match last {
        Some(&END) => Ok(()),
        _ => fault("the broker's frame does not end with 0xCE"),
    }
}
