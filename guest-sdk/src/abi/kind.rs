//! WIT types as constants, from which their layout in memory follows.
//!
//! The rules are those of the component model's canonical ABI (`CanonicalABI.md`: "Alignment",
//! "Element Size" and "Flattening").

/// A WIT type.
#[derive(Debug, PartialEq)]
pub enum Kind {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(&'static Kind),
    Option(&'static Kind),
    Result(Option<&'static Kind>, Option<&'static Kind>),
    Tuple(&'static [&'static Kind]),
    Record(&'static str, &'static [(&'static str, &'static Kind)]),
    Enum(&'static str, &'static [&'static str]),
    Variant(
        &'static str,
        &'static [(&'static str, Option<&'static Kind>)],
    ),
}

/// The three ways in which a type lies in memory.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Size in bytes, alignment, number of core values.
    Scalar(usize, usize, usize),
    /// This many fields, one after the other.
    Fields(usize),
    /// This many cases: a discriminant, then the payload of one of them.
    Cases(usize),
}

// Indices come from the counts of `shape`. They are compared all the same: what may be out of bounds may panic, and
// then a task that can't would import the standard streams for its message.
#[allow(clippy::indexing_slicing)]
impl Kind {
    pub(super) const fn shape(&self) -> Shape {
        match self {
            Kind::Bool | Kind::S8 | Kind::U8 => Shape::Scalar(1, 1, 1),
            Kind::S16 | Kind::U16 => Shape::Scalar(2, 2, 1),
            Kind::S32 | Kind::U32 | Kind::F32 | Kind::Char => Shape::Scalar(4, 4, 1),
            Kind::S64 | Kind::U64 | Kind::F64 => Shape::Scalar(8, 8, 1),
            Kind::String | Kind::List(_) => Shape::Scalar(8, 4, 2),
            Kind::Tuple(fields) => Shape::Fields(fields.len()),
            Kind::Record(_, fields) => Shape::Fields(fields.len()),
            Kind::Option(_) | Kind::Result(..) => Shape::Cases(2),
            Kind::Enum(_, cases) => Shape::Cases(cases.len()),
            Kind::Variant(_, cases) => Shape::Cases(cases.len()),
        }
    }

    /// The type of field `index` of a `Shape::Fields`.
    pub(super) const fn field(&self, index: usize) -> &'static Kind {
        match self {
            Kind::Tuple(fields) if index < fields.len() => fields[index],
            Kind::Record(_, fields) if index < fields.len() => fields[index].1,
            _ => &Kind::Bool,
        }
    }

    /// The payload of case `index` of a `Shape::Cases`.
    pub(super) const fn case(&self, index: usize) -> Option<&'static Kind> {
        match self {
            Kind::Option(some) if index == 1 => Some(some),
            Kind::Result(ok, _) if index == 0 => *ok,
            Kind::Result(_, err) => *err,
            Kind::Variant(_, cases) if index < cases.len() => cases[index].1,
            _ => None,
        }
    }

    pub(super) const fn align(&self) -> usize {
        match self.shape() {
            Shape::Scalar(_, align, _) => align,
            Shape::Fields(count) => {
                let (mut align, mut i) = (1, 0);
                while i < count {
                    align = max(align, self.field(i).align());
                    i += 1;
                }
                align
            }
            Shape::Cases(count) => max(discriminant_size(count), self.payload_align(count)),
        }
    }

    pub(super) const fn size(&self) -> usize {
        match self.shape() {
            Shape::Scalar(size, _, _) => size,
            Shape::Fields(count) => {
                let (mut size, mut i) = (0usize, 0);
                while i < count {
                    let field = self.field(i);
                    size = align_to(size, field.align()) + field.size();
                    i += 1;
                }
                align_to(size, self.align())
            }
            Shape::Cases(count) => {
                let (mut payload, mut i) = (0, 0);
                while i < count {
                    if let Some(case) = self.case(i) {
                        payload = max(payload, case.size());
                    }
                    i += 1;
                }
                align_to(self.payload_offset() + payload, self.align())
            }
        }
    }

    /// The number of core values it is passed in.
    pub(super) const fn flat_len(&self) -> usize {
        match self.shape() {
            Shape::Scalar(_, _, values) => values,
            Shape::Fields(count) => {
                let (mut values, mut i) = (0, 0);
                while i < count {
                    values += self.field(i).flat_len();
                    i += 1;
                }
                values
            }
            Shape::Cases(count) => {
                let (mut values, mut i) = (0, 0);
                while i < count {
                    if let Some(case) = self.case(i) {
                        values = max(values, case.flat_len());
                    }
                    i += 1;
                }
                values + 1
            }
        }
    }

    /// Bytes of a `Shape::Cases` before its payload.
    pub(super) const fn payload_offset(&self) -> usize {
        match self.shape() {
            Shape::Cases(count) => align_to(discriminant_size(count), self.payload_align(count)),
            _ => 0,
        }
    }

    const fn payload_align(&self, count: usize) -> usize {
        let (mut align, mut i) = (1, 0);
        while i < count {
            if let Some(case) = self.case(i) {
                align = max(align, case.align());
            }
            i += 1;
        }
        align
    }
}

/// Bytes of the discriminant of a type with this many cases.
pub(super) const fn discriminant_size(cases: usize) -> usize {
    if cases <= 1 << 8 {
        1
    } else if cases <= 1 << 16 {
        2
    } else {
        4
    }
}

/// Bytes in memory.
pub(super) const fn size(payload: Option<&Kind>) -> usize {
    match payload {
        Some(kind) => kind.size(),
        None => 0,
    }
}

/// The number of core values it is passed in.
pub(super) const fn flat_len(payload: Option<&Kind>) -> usize {
    match payload {
        Some(kind) => kind.flat_len(),
        None => 0,
    }
}

/// `CanonicalABI.md`, "Alignment": a power of two.
pub(super) const fn align_to(offset: usize, alignment: usize) -> usize {
    let rest = alignment - 1;
    (offset + rest) & !rest
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn layout_follows_the_canonical_abi() {
        const RECORD: Kind = Kind::Record(
            "r",
            &[("a", &Kind::U8), ("b", &Kind::U64), ("c", &Kind::U16)],
        );
        const VARIANT: Kind = Kind::Variant(
            "v",
            &[
                ("a", Some(&Kind::U64)),
                ("b", Some(&Kind::String)),
                ("c", None),
            ],
        );
        for (kind, size, align, flat) in [
            (&Kind::Bool, 1, 1, 1),
            (&Kind::String, 8, 4, 2),
            (&RECORD, 24, 8, 3),
            (&VARIANT, 16, 8, 3),
            (&Kind::Option(&Kind::U8), 2, 1, 2),
            (&Kind::Option(&Kind::Option(&Kind::U32)), 12, 4, 3),
            (&Kind::Result(None, None), 1, 1, 1),
            (&Kind::Result(Some(&RECORD), Some(&Kind::String)), 32, 8, 4),
            (&Kind::Enum("e", &["a", "b"]), 1, 1, 1),
            (&Kind::Tuple(&[&Kind::Char, &Kind::F64]), 16, 8, 2),
        ] {
            assert_eq!(
                (kind.size(), kind.align(), kind.flat_len()),
                (size, align, flat),
                "{kind:?}"
            );
        }
    }
}
