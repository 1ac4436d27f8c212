//! The `component-type` section of a task: tells the linker the WIT type of the exported function.
//!
//! Its content is a component that holds a world as a type (`wit-component`, `metadata::encode`), in the
//! encoding of the component model's `Binary.md`. All of it runs at compile time. The linker joins the
//! worlds of all tasks of a component; types of one name must then be equal.

// Runs at compile time only, where a bad index is a compile error.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use super::kind::Kind;

/// A task's name and type, names in kebab-case.
pub struct Task {
    pub name: &'static str,
    pub params: &'static [(&'static str, &'static Kind)],
    pub result: Option<&'static Kind>,
}

const MAX_BYTES: usize = 8 << 10;
const MAX_NAMED_TYPES: usize = 64;

/// The section of a task.
pub const fn encode(task: &Task) -> Bytes {
    let mut world = Types::new();
    let mut function = Bytes::new().push(0x40).leb(task.params.len());
    let mut i = 0;
    while i < task.params.len() {
        let param = world.refer(task.params[i].1);
        function = function.text(task.params[i].0).reference(param);
        i += 1;
    }
    function = match task.result {
        Some(result) => function.push(0x00).reference(world.refer(result)),
        None => function.push(0x01).push(0x00),
    };
    let index = world.define(function);
    world.declare(
        Bytes::new()
            .push(0x04)
            .name(task.name)
            .push(0x01)
            .leb(index),
    );

    let world_type = Bytes::new()
        .push(0x01)
        .push(0x41)
        .leb(world.declarations)
        .append(&world.body);
    let id = Bytes::new().id_of(task.name);
    let outer = Bytes::new()
        .leb(1)
        .push(0x41)
        .leb(2)
        .append(&world_type)
        .push(0x04)
        .push(0x00)
        .sized(&id)
        .push(0x04)
        .leb(0);
    let export = Bytes::new()
        .leb(1)
        .name("task")
        .push(0x03)
        .leb(0)
        .push(0x00);
    Bytes::new()
        .append(&Bytes::from(b"\0asm\x0d\0\x01\0"))
        .push(0)
        .sized(
            &Bytes::new()
                .text("wit-component-encoding")
                .push(0x04)
                .push(0x00),
        )
        .push(7)
        .sized(&outer)
        .push(11)
        .sized(&export)
}

/// The encoded section as an array, which a static in a section must be.
pub const fn bytes<const LEN: usize>(section: &Bytes) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let mut i = 0;
    while i < LEN {
        bytes[i] = section.buffer[i];
        i += 1;
    }
    bytes
}

/// A type where it is used: its code, or the index of its definition.
#[derive(Clone, Copy)]
enum Reference {
    Primitive(u8),
    Index(usize),
}

/// The declarations of a world.
struct Types {
    body: Bytes,
    declarations: usize,
    defined: usize,
    named: [Option<(&'static Kind, usize)>; MAX_NAMED_TYPES],
}

impl Types {
    const fn new() -> Types {
        Types {
            body: Bytes::new(),
            declarations: 0,
            defined: 0,
            named: [None; MAX_NAMED_TYPES],
        }
    }

    const fn refer(&mut self, kind: &'static Kind) -> Reference {
        Reference::Primitive(match kind {
            Kind::Bool => 0x7f,
            Kind::S8 => 0x7e,
            Kind::U8 => 0x7d,
            Kind::S16 => 0x7c,
            Kind::U16 => 0x7b,
            Kind::S32 => 0x7a,
            Kind::U32 => 0x79,
            Kind::S64 => 0x78,
            Kind::U64 => 0x77,
            Kind::F32 => 0x76,
            Kind::F64 => 0x75,
            Kind::Char => 0x74,
            Kind::String => 0x73,
            Kind::Record(name, _) | Kind::Enum(name, _) | Kind::Variant(name, _) => {
                return Reference::Index(self.named(name, kind));
            }
            Kind::List(_) | Kind::Option(_) | Kind::Result(..) | Kind::Tuple(_) => {
                let definition = self.definition(kind);
                return Reference::Index(self.define(definition));
            }
        })
    }

    /// The index of a type that has a name; it is defined, and given its name, where it first appears.
    const fn named(&mut self, name: &str, kind: &'static Kind) -> usize {
        let mut i = 0;
        while i < MAX_NAMED_TYPES {
            match self.named[i] {
                Some((known, index)) if equal(known.name().as_bytes(), name.as_bytes()) => {
                    if !same(known, kind) {
                        panic!(
                            "two different types have the same name in kebab-case: rename one by #[petiole(name = \"...\")]"
                        );
                    }
                    return index;
                }
                Some(_) => i += 1,
                None => break,
            }
        }
        let definition = self.definition(kind);
        let defined = self.define(definition);
        self.declare(
            Bytes::new()
                .push(0x03)
                .name(name)
                .push(0x03)
                .push(0x00)
                .leb(defined),
        );
        let index = self.defined;
        self.defined += 1;
        let mut slot = 0;
        while slot < MAX_NAMED_TYPES && self.named[slot].is_some() {
            slot += 1;
        }
        if slot == MAX_NAMED_TYPES {
            panic!("a task uses too many types: take petiole::Json for some of them");
        }
        self.named[slot] = Some((kind, index));
        index
    }

    const fn definition(&mut self, kind: &'static Kind) -> Bytes {
        match kind {
            Kind::List(element) => Bytes::new().push(0x70).reference(self.refer(element)),
            Kind::Option(some) => Bytes::new().push(0x6b).reference(self.refer(some)),
            Kind::Result(ok, err) => {
                let (ok, err) = (self.refer_optional(*ok), self.refer_optional(*err));
                Bytes::new().push(0x6a).optional(ok).optional(err)
            }
            Kind::Tuple(fields) => {
                let mut bytes = Bytes::new().push(0x6f).leb(fields.len());
                let mut i = 0;
                while i < fields.len() {
                    bytes = bytes.reference(self.refer(fields[i]));
                    i += 1;
                }
                bytes
            }
            Kind::Record(_, fields) => {
                let mut bytes = Bytes::new().push(0x72).leb(fields.len());
                let mut i = 0;
                while i < fields.len() {
                    bytes = bytes.text(fields[i].0).reference(self.refer(fields[i].1));
                    i += 1;
                }
                bytes
            }
            Kind::Enum(_, cases) => {
                let mut bytes = Bytes::new().push(0x6d).leb(cases.len());
                let mut i = 0;
                while i < cases.len() {
                    bytes = bytes.text(cases[i]);
                    i += 1;
                }
                bytes
            }
            Kind::Variant(_, cases) => {
                let mut bytes = Bytes::new().push(0x71).leb(cases.len());
                let mut i = 0;
                while i < cases.len() {
                    let payload = self.refer_optional(cases[i].1);
                    bytes = bytes.text(cases[i].0).optional(payload).push(0x00);
                    i += 1;
                }
                bytes
            }
            _ => panic!("a primitive type has no definition"),
        }
    }

    const fn refer_optional(&mut self, kind: Option<&'static Kind>) -> Option<Reference> {
        match kind {
            Some(kind) => Some(self.refer(kind)),
            None => None,
        }
    }

    const fn define(&mut self, definition: Bytes) -> usize {
        self.declare(Bytes::new().push(0x01).append(&definition));
        self.defined += 1;
        self.defined - 1
    }

    const fn declare(&mut self, declaration: Bytes) {
        self.body = self.body.append(&declaration);
        self.declarations += 1;
    }
}

impl Kind {
    const fn name(&self) -> &'static str {
        match self {
            Kind::Record(name, _) | Kind::Enum(name, _) | Kind::Variant(name, _) => name,
            _ => "",
        }
    }
}

/// Bytes put together at compile time.
#[derive(Clone, Copy)]
pub struct Bytes {
    buffer: [u8; MAX_BYTES],
    len: usize,
}

impl Bytes {
    const fn new() -> Bytes {
        Bytes {
            buffer: [0; MAX_BYTES],
            len: 0,
        }
    }

    const fn from(bytes: &[u8]) -> Bytes {
        Bytes::new().slice(bytes, bytes.len())
    }

    #[allow(clippy::len_without_is_empty)] // never empty
    pub const fn len(&self) -> usize {
        self.len
    }

    const fn push(mut self, byte: u8) -> Bytes {
        if self.len == MAX_BYTES {
            panic!("a task's types are too large: take petiole::Json for some of them");
        }
        self.buffer[self.len] = byte;
        self.len += 1;
        self
    }

    const fn slice(mut self, bytes: &[u8], len: usize) -> Bytes {
        let mut i = 0;
        while i < len {
            self = self.push(bytes[i]);
            i += 1;
        }
        self
    }

    const fn append(self, other: &Bytes) -> Bytes {
        self.slice(&other.buffer, other.len)
    }

    const fn leb(mut self, mut value: usize) -> Bytes {
        while value >= 0x80 {
            self = self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8)
    }

    const fn sized(self, content: &Bytes) -> Bytes {
        self.leb(content.len).append(content)
    }

    const fn text(self, text: &str) -> Bytes {
        self.leb(text.len()).slice(text.as_bytes(), text.len())
    }

    /// The name of an import or export.
    const fn name(self, name: &str) -> Bytes {
        self.push(0x00).text(name)
    }

    const fn reference(self, reference: Reference) -> Bytes {
        match reference {
            Reference::Primitive(code) => self.push(code),
            // A signed number: one more bit than it needs unsigned.
            Reference::Index(index) if index < 0x40 => self.push(index as u8),
            Reference::Index(index) => self.push((index & 0x7f) as u8 | 0x80).leb(index >> 7),
        }
    }

    const fn optional(self, reference: Option<Reference>) -> Bytes {
        match reference {
            Some(reference) => self.push(0x01).reference(reference),
            None => self.push(0x00),
        }
    }

    /// The world's id: a package of its own, so that the worlds of two tasks never clash.
    const fn id_of(self, task: &str) -> Bytes {
        self.slice(b"task:", 5)
            .slice(task.as_bytes(), task.len())
            .slice(b"/task", 5)
    }
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Compares two types: `PartialEq`, at compile time.
const fn same(a: &'static Kind, b: &'static Kind) -> bool {
    let mut seen_a = Types::new();
    let mut seen_b = Types::new();
    let (a, b) = (seen_a.definition(a), seen_b.definition(b));
    equal(&a.buffer, &b.buffer) && equal(&seen_a.body.buffer, &seen_b.body.buffer)
}

#[cfg(test)]
mod tests {
    use super::{Kind, Task, encode};

    const ROW: Kind = Kind::Record("row", &[("value", &Kind::U8)]);
    const OTHER_ROW: Kind = Kind::Record("row", &[("value", &Kind::String)]);

    fn world(params: &'static [(&'static str, &'static Kind)]) -> Vec<u8> {
        let section = encode(&Task {
            name: "t",
            params,
            result: None,
        });
        section.buffer.iter().copied().take(section.len()).collect()
    }

    /// `wasm-tools validate` and `print` take these bytes for what the comments say.
    #[test]
    fn a_world_is_encoded_as_wit_component_does() {
        let mut expected = b"\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0".to_vec();
        expected.extend(b"\x07\x37\x01\x41\x02\x01\x41\x04"); // a component type of a component type
        expected.extend(b"\x01\x72\x01\x05value\x7d"); // type 0: record { value: u8 }
        expected.extend(b"\x03\0\x03row\x03\0\0"); // type 1: imported as "row", equal to 0
        expected.extend(b"\x01\x40\x01\x01r\x01\x01\0"); // type 2: func(r: row)
        expected.extend(b"\x04\0\x01t\x01\x02"); // exported as "t"
        expected.extend(b"\x04\0\x0btask:t/task\x04\0"); // the world's id
        expected.extend(b"\x0b\x0a\x01\0\x04task\x03\0\0"); // and its name
        let encoded = world(&[("r", &ROW)]);
        assert_eq!(encoded, expected, "{}", encoded.escape_ascii());
    }

    #[test]
    fn a_type_that_is_used_twice_is_defined_once() {
        let names = |world: Vec<u8>| world.windows(4).filter(|bytes| bytes == b"\x03row").count();
        assert_eq!(names(world(&[("a", &ROW), ("b", &Kind::List(&ROW))])), 1);
    }

    #[test]
    #[should_panic(expected = "two different types have the same name")]
    fn two_types_of_one_name_are_told() {
        world(&[("a", &ROW), ("b", &OTHER_ROW)]);
    }
}
