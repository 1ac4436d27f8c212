//! The properties of a content header (AMQP 0-9-1 section 4.2.6.1), made readable: what goes out is always well
//! formed, its tables nested no deeper than we read them, and all its short strings UTF-8.

use super::frame::{Input, length, write_short};
use petiole_celery::wire::DEPTH_LIMIT;

enum Kind {
    Short,
    Table,
    /// This many bytes.
    Fixed(usize),
}

/// In the order of their flags, the highest bit first.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Short),
    ("content_encoding", Kind::Short),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Fixed(1)),
    ("priority", Kind::Fixed(1)),
    ("correlation_id", Kind::Short),
    ("reply_to", Kind::Short),
    ("expiration", Kind::Short),
    ("message_id", Kind::Short),
    ("timestamp", Kind::Fixed(8)),
    ("type", Kind::Short),
    ("user_id", Kind::Short),
    ("app_id", Kind::Short),
    ("cluster_id", Kind::Short),
];
const HIGHEST: u16 = 1 << 15;
/// Flags that no property of this class has; the last would say that more flags follow.
const UNUSED: u16 = 0b11;

/// Bytes of memory that a header's value takes where JSON has a form for it, beside its own text.
const PLAIN: usize = 80;
/// And where JSON has none.
const TYPED: usize = 720;
/// And what a name adds to it.
const NAMED: usize = 160;

/// Findings of a repair.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    /// The reason not to run the message, if more than a header's name had to be changed.
    pub(super) reason: Option<String>,
    /// Approximate bytes of memory that the headers take, beside their text.
    pub(super) memory: usize,
}

/// Appends the readable form of encoded properties.
pub(super) fn repair(encoded: &[u8], out: &mut Vec<u8>) -> Repaired {
    let mut input = Input(encoded);
    let mut repair = Repair {
        out,
        found: Repaired::default(),
    };
    let start = repair.out.len();
    repair.out.extend_from_slice(&[0, 0]);
    let Some(flags) = input.array().map(u16::from_be_bytes) else {
        repair.note(|| "it ends before its flags".to_owned());
        return repair.found;
    };
    let mut kept = 0;
    for (index, (name, kind)) in PROPERTIES.iter().enumerate() {
        let flag = HIGHEST >> index;
        if flags & flag == 0 {
            continue;
        }
        if repair.property(&mut input, name, kind).is_none() {
            repair.note(|| format!("{name} is cut off"));
            break;
        }
        kept |= flag;
    }
    if flags & UNUSED != 0 {
        repair.note(|| format!("unknown property flags {flags:#06x}"));
    }
    if !input.0.is_empty() {
        repair.note(|| format!("{} bytes after the last property", input.0.len()));
    }
    if let Some(place) = repair.out.get_mut(start..start + 2) {
        place.copy_from_slice(&kept.to_be_bytes());
    }
    repair.found
}

struct Repair<'a> {
    out: &'a mut Vec<u8>,
    found: Repaired,
}

/// None where the input ends too early, or can't be read on.
impl Repair<'_> {
    /// Only the first reason is kept.
    fn note(&mut self, reason: impl FnOnce() -> String) {
        self.found.reason.get_or_insert_with(reason);
    }

    fn property(&mut self, input: &mut Input<'_>, name: &str, kind: &Kind) -> Option<()> {
        match kind {
            Kind::Short => {
                let text = input.short()?;
                if !write_short(self.out, text) {
                    self.note(|| format!("{name} {:?} is no UTF-8", String::from_utf8_lossy(text)));
                }
            }
            Kind::Table => self.entries(input, true, DEPTH_LIMIT)?,
            Kind::Fixed(count) => self.out.extend_from_slice(input.take(*count)?),
        }
        Some(())
    }

    /// A table, or an array, with its length. What of it can't be read is left out.
    fn entries(&mut self, input: &mut Input<'_>, named: bool, depth: usize) -> Option<()> {
        let size = input.length()?;
        let mut inner = Input(match input.take(size) {
            Some(inner) => inner,
            None => {
                let rest = input.0.len();
                self.note(|| format!("a table or array of {size} bytes where {rest} are left"));
                input.take(rest)?
            }
        });
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        while !inner.0.is_empty() {
            let before = self.out.len();
            if self.entry(&mut inner, named, depth).is_none() {
                self.note(|| "a header's name or value is cut off".to_owned());
                self.out.truncate(before);
                break;
            }
        }
        let written = length(self.out.len() - start - 4);
        self.out
            .get_mut(start..start + 4)?
            .copy_from_slice(&written);
        Some(())
    }

    fn entry(&mut self, input: &mut Input<'_>, named: bool, depth: usize) -> Option<()> {
        if named {
            write_short(self.out, input.short()?);
            self.found.memory += NAMED;
        }
        self.value(input, depth)
    }

    /// RabbitMQ's types (its page "AMQP 0-9-1 errata", section 3), which lapin reads too.
    fn value(&mut self, input: &mut Input<'_>, depth: usize) -> Option<()> {
        let kind = input.octet()?;
        self.found.memory += match kind {
            b'V' | b't' | b'I' | b'd' | b'S' | b'A' | b'F' => PLAIN,
            _ => TYPED,
        };
        let count = match kind {
            b'A' | b'F' => return self.nested(input, kind, depth),
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'u' | b'U' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' => 4 + input.ahead().length()?,
            _ => {
                self.note(|| format!("a header's value has the unknown type {kind:#04x}"));
                return None;
            }
        };
        let value = input.take(count)?;
        self.found.memory += match (kind, value.get(4..)) {
            // As base64.
            (b'x', Some(bytes)) => bytes.len() / 2,
            (b'S', Some(bytes)) if str::from_utf8(bytes).is_err() => TYPED + bytes.len() / 2,
            _ => 0,
        };
        self.out.push(kind);
        self.out.extend_from_slice(value);
        Some(())
    }

    fn nested(&mut self, input: &mut Input<'_>, kind: u8, depth: usize) -> Option<()> {
        let Some(deeper) = depth.checked_sub(1) else {
            let size = input.length()?;
            input.take(size)?;
            self.note(|| format!("headers nested deeper than {DEPTH_LIMIT}"));
            self.out.push(b'V');
            return Some(());
        };
        self.out.push(kind);
        self.entries(input, kind == b'F', deeper)
    }
}
