//! From lapin to the broker: nothing is written before all that lapin offers is known to be whole frames, each
//! within the limit, the content of a message directly behind its method and of the size it announces.
//!
//! An offer always ends with a frame, since lapin takes a frame that does not fit its buffer back. Only one that is
//! larger than the whole buffer is left in it in parts (4.12.3, `Buffer::rollback`), with lengths that are older bytes,
//! and so perhaps a publisher's. Then the buffer is full, and begins with that frame: such an offer is refused whatever
//! its bytes say.

use std::collections::HashMap;

use super::frame::{
    CONTENT, END, Fault, HEAD, Head, Input, OVERHEAD, TYPE_BODY, TYPE_HEADER, TYPE_HEARTBEAT,
    TYPE_METHOD, fault,
};
use super::{methods, properties};

/// The frames of the largest size that lapin's buffer has room for (`FRAMES_STORAGE`).
const LAPINS_FRAMES: usize = 32;
/// Bytes of the protocol header (AMQP 0-9-1 section 4.2.2).
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

pub(super) struct Outbound {
    pub(super) frame_max: usize,
    /// Bytes of lapin's buffer, which does not shrink.
    buffer: usize,
    /// Nothing was offered yet.
    first: bool,
    /// Bytes that were offered, found right, and not written yet.
    admitted: usize,
    /// The frame that has to come next on a channel.
    due: HashMap<u16, Due>,
    header: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Due {
    Header,
    /// Bytes of body.
    Body(u64),
}

impl Outbound {
    pub(super) fn new(frame_max: usize) -> Self {
        Self {
            frame_max,
            buffer: frame_max.saturating_mul(LAPINS_FRAMES),
            first: true,
            admitted: 0,
            due: HashMap::new(),
            header: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Checks that these bytes, which are all that lapin has to send, may be written.
    pub(super) fn admit(&mut self, offered: [&[u8]; 2]) -> Result<(), Fault> {
        let mut offer = Offer(offered);
        let size = offer.len();
        if offer.skip(self.admitted).is_none() {
            return fault("less was offered than before");
        }
        if std::mem::take(&mut self.first) {
            let mut header = [0; PROTOCOL_HEADER.len()];
            if offer.copy(&mut header).is_none() || header != PROTOCOL_HEADER {
                return fault("the connection does not begin with AMQP's header");
            }
        } else if self.admitted == 0 && size >= self.buffer {
            let mut kind = [0];
            if offer.clone().copy(&mut kind).is_some() && kind != [TYPE_BODY] {
                return fault(format!(
                    "a frame may be larger than the buffer of {} bytes",
                    self.buffer
                ));
            }
        }
        while offer.len() > 0 {
            self.frame(&mut offer)?;
        }
        self.admitted = size;
        Ok(())
    }

    /// Counts off bytes that were written.
    pub(super) fn written(&mut self, count: usize) {
        self.admitted = self.admitted.saturating_sub(count);
    }

    fn frame(&mut self, offer: &mut Offer<'_>) -> Result<(), Fault> {
        let mut head = [0; HEAD];
        if offer.copy(&mut head).is_none() {
            return fault("half a frame was to be sent");
        }
        let head = Head::read(head);
        let limit = self.frame_max.saturating_sub(OVERHEAD);
        if head.size > limit {
            return fault(format!(
                "a frame of {} bytes was to be sent, over the limit of {limit}",
                head.size
            ));
        }
        let whole = match head.kind {
            TYPE_METHOD | TYPE_HEADER => {
                self.header.resize(head.size, 0);
                offer.copy(&mut self.header)
            }
            TYPE_BODY | TYPE_HEARTBEAT => offer.skip(head.size),
            kind => return fault(format!("a frame of the unknown type {kind} was to be sent")),
        };
        let mut end = [0];
        if whole.and_then(|()| offer.copy(&mut end)).is_none() || end != [END] {
            return fault("half a frame was to be sent");
        }
        match head.kind {
            TYPE_METHOD => self.method(head.channel),
            TYPE_HEADER => self.content(head.channel),
            TYPE_BODY => self.body(head),
            _ => Ok(()),
        }
    }

    fn method(&mut self, channel: u16) -> Result<(), Fault> {
        match methods::identify(&self.header) {
            // A channel that is closed drops what it had to send.
            Some((20, 40 | 41)) => {
                self.due.remove(&channel);
            }
            _ if self.due.contains_key(&channel) => {
                return fault("a method was to be sent where a message's content is due");
            }
            Some((60, 40)) => {
                self.due.insert(channel, Due::Header);
            }
            Some((10, 31)) => self.tuned(),
            Some(_) => {}
            None => return fault("a method without a name was to be sent"),
        }
        Ok(())
    }

    /// connection.tune-ok: channel-max, frame-max, heartbeat. Zero is no limit; then ours stays.
    fn tuned(&mut self) {
        let agreed = self.header.get(6..10).and_then(|bytes| bytes.first_chunk());
        let agreed = agreed.and_then(|bytes| usize::try_from(u32::from_be_bytes(*bytes)).ok());
        if let Some(agreed) = agreed.filter(|agreed| *agreed > OVERHEAD) {
            self.frame_max = self.frame_max.min(agreed);
        }
    }

    fn content(&mut self, channel: u16) -> Result<(), Fault> {
        if !matches!(self.due.remove(&channel), Some(Due::Header)) {
            return fault("a content header was to be sent where none is due");
        }
        let mut input = Input(&self.header);
        let Some(size) = input
            .take(CONTENT - 8)
            .and_then(|_| input.array().map(u64::from_be_bytes))
        else {
            return fault("a content header without a size was to be sent");
        };
        self.scratch.clear();
        let unreadable = properties::repair(input.0, &mut self.scratch).reason;
        if unreadable.is_some() || self.scratch != input.0 {
            let reason = unreadable.unwrap_or_else(|| "a header's name is no UTF-8".to_owned());
            return fault(format!(
                "a content header that can't be read was to be sent: {reason}"
            ));
        }
        if size > 0 {
            self.due.insert(channel, Due::Body(size));
        }
        Ok(())
    }

    fn body(&mut self, head: Head) -> Result<(), Fault> {
        let left = match self.due.remove(&head.channel) {
            Some(Due::Body(due)) => u64::try_from(head.size)
                .ok()
                .and_then(|size| due.checked_sub(size)),
            _ => None,
        };
        match left {
            Some(0) => {}
            Some(left) => {
                self.due.insert(head.channel, Due::Body(left));
            }
            None => return fault("more body was to be sent than is due"),
        }
        Ok(())
    }
}

/// Bytes in two parts, as a ring buffer has them.
#[derive(Clone)]
struct Offer<'a>([&'a [u8]; 2]);

impl Offer<'_> {
    fn len(&self) -> usize {
        let [first, second] = self.0;
        first.len() + second.len()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let [first, second] = self.0;
        self.0 = match first.get(count..) {
            Some(rest) => [rest, second],
            None => [second.get(count - first.len()..)?, &[]],
        };
        Some(())
    }

    /// Fills `to` from the front, and takes it off.
    fn copy(&mut self, to: &mut [u8]) -> Option<()> {
        let [first, second] = self.0;
        let count = to.len().min(first.len());
        let (start, rest) = to.split_at_mut_checked(count)?;
        start.copy_from_slice(first.get(..count)?);
        rest.copy_from_slice(second.get(..rest.len())?);
        self.skip(to.len())
    }
}
