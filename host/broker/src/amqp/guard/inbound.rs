//! From the broker to lapin. Bodies pass as they come; methods and content headers are held until they are whole.

use std::collections::HashSet;

use super::frame::{
    CONTENT, END, Fault, HEAD, Head, Input, OVERHEAD, TYPE_BODY, TYPE_HEADER, TYPE_HEARTBEAT,
    TYPE_METHOD, fault, write,
};
use super::{HEADER_LIMIT, Mark, methods, properties};

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
    /// Channels whose next content was delivered with an exchange or routing key that is no UTF-8.
    unnamed: HashSet<u16>,
    /// Nothing has come yet.
    first: bool,
}

enum State {
    Head,
    /// So many bytes are to pass, the last of them the frame's end.
    Passing(usize),
    Holding {
        head: Head,
        missing: usize,
    },
    /// The broker's answer to a version that it does not speak (section 4.2.2): lapin's to read.
    Foreign,
}

impl Inbound {
    pub(super) fn new(frame_max: usize) -> Self {
        Self {
            frame_max,
            state: State::Head,
            held: Vec::new(),
            scratch: Vec::new(),
            unnamed: HashSet::new(),
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
                State::Passing(left) => self.pass(&mut input, left, out)?,
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

    fn pass(&mut self, input: &mut Input<'_>, left: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let count = input.0.len().min(left);
        let passed = input.take(count).unwrap_or_default();
        out.extend_from_slice(passed);
        self.state = State::Passing(left - count);
        if count == left {
            ended(passed.last())?;
            self.state = State::Head;
        }
        Ok(())
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
        if !methods::repair(payload, &mut self.scratch)? && methods::delivers(payload) {
            self.unnamed.insert(head.channel);
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
        let names = self.unnamed.remove(&head.channel);
        let whole = head.size - CONTENT;
        if !names && encoded.len() == whole {
            self.scratch.clear();
            let reason = properties::repair(encoded, &mut self.scratch);
            let fits = CONTENT + self.scratch.len() + OVERHEAD <= self.frame_max;
            if reason.is_none() && fits {
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

    /// The properties go ahead of the body, which has no limit, and a mark in their place says so.
    fn marked(
        &mut self,
        channel: u16,
        start: &[u8],
        encoded: &[u8],
        mark: &Mark,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let mut start = Input(start);
        let size = start
            .take(CONTENT - 8)
            .zip(start.array().map(u64::from_be_bytes))
            .zip(u64::try_from(mark.kept).ok())
            .and_then(|((class, body), kept)| Some((class, body.checked_add(kept)?)));
        let Some((class, size)) = size else {
            return fault("the broker announced a body of 2^64 bytes");
        };
        let text = mark.text();
        let length = [u8::try_from(text.len()).unwrap_or(u8::MAX)];
        let size = size.to_be_bytes();
        write(
            out,
            TYPE_HEADER,
            channel,
            &[class, &size, &MARKED, &length, text.as_bytes()],
        );
        for part in encoded.chunks(self.frame_max.saturating_sub(OVERHEAD).max(1)) {
            write(out, TYPE_BODY, channel, &[part]);
        }
        Ok(())
    }
}

fn ended(last: Option<&u8>) -> Result<(), Fault> {
    match last {
        Some(&END) => Ok(()),
        _ => fault("the broker's frame does not end with 0xCE"),
    }
}
