//! Reading and writing values in the component's linear memory.

#![allow(unsafe_code)]

use super::flat::MAX_FLAT_PARAMS;
use super::kind::{Kind, Shape, align_to, discriminant_size, flat_len};
use super::{Payload, Type};

/// The address of a value of a known type, or of room for one.
///
/// Whoever makes one vouches that the memory is aligned and large enough for that type, and, when it is
/// loaded from, that the host wrote a value of it there. The places inside it follow from its type.
#[derive(Clone, Copy, Debug)]
pub struct Place(*mut u8);

impl Place {
    /// # Safety
    /// As the type says.
    pub(super) unsafe fn new(at: *mut u8) -> Place {
        Place(at)
    }

    /// New memory for this many bytes. It is never freed: it holds what the host reads after the call, and
    /// an instance serves one call.
    pub(super) fn allocate(size: usize, align: usize) -> Place {
        match core::alloc::Layout::from_size_align(size, align) {
            Ok(layout) if size > 0 => {
                // SAFETY: the layout is not empty.
                let at = unsafe { std::alloc::alloc_zeroed(layout) };
                if at.is_null() {
                    std::alloc::handle_alloc_error(layout);
                }
                Place(at)
            }
            _ => Place(core::ptr::without_provenance_mut(align)),
        }
    }

    pub(super) fn address(self) -> usize {
        self.0 as usize
    }

    pub(super) fn offset(self, bytes: usize) -> Place {
        Place(self.0.wrapping_add(bytes))
    }

    pub(super) fn read<T: Copy>(self) -> T {
        // SAFETY: a scalar of this type lies here; see `Place`.
        unsafe { self.0.cast::<T>().read() }
    }

    pub(super) fn write<T: Copy>(self, value: T) {
        // SAFETY: there is room for a scalar of this type here; see `Place`.
        unsafe { self.0.cast::<T>().write(value) }
    }

    /// The pointer and the length of a list or string.
    pub(super) fn read_list(self) -> (Place, usize) {
        let (at, len) = (self.read::<u32>(), self.offset(4).read::<u32>());
        (Place(at as usize as *mut u8), len as usize)
    }

    // Addresses and lengths have 32 bits where this runs.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn write_list(self, at: Place, len: usize) {
        self.write(at.address() as u32);
        self.offset(4).write(len as u32);
    }

    /// Takes over the memory of a list that the host passed.
    pub(super) fn into_vec<T: Copy>(self, len: usize) -> Vec<T> {
        if len == 0 {
            return Vec::new();
        }
        // SAFETY: the host got this memory from `cabi_realloc`, which is this allocator, with this size
        // and alignment, wrote every element, and gives it up with the call.
        unsafe { Vec::from_raw_parts(self.0.cast(), len, len) }
    }

    /// Leaves the elements where they are, for the host to read after the call.
    pub(super) fn leak<T: Copy>(list: Vec<T>) -> Place {
        Place(list.leak().as_mut_ptr().cast())
    }

    /// Frees the memory of a list that the host passed, when its elements were taken out of it.
    pub(super) fn free(self, size: usize, align: usize) {
        if let Ok(layout) = core::alloc::Layout::from_size_align(size, align)
            && size > 0
        {
            // SAFETY: as in `into_vec`.
            unsafe { std::alloc::dealloc(self.0, layout) }
        }
    }

    /// Reads the discriminant of a value of this type: the case, and the address of its payload.
    pub fn read_case(self, kind: &Kind) -> (usize, Place) {
        let Shape::Cases(count) = kind.shape() else {
            invalid("a type without cases")
        };
        let case = match discriminant_size(count) {
            1 => usize::from(self.read::<u8>()),
            2 => usize::from(self.read::<u16>()),
            _ => self.read::<u32>() as usize,
        };
        (case, self.offset(kind.payload_offset()))
    }

    /// Writes the discriminant of a value of this type; returns the address for its payload.
    #[allow(clippy::cast_possible_truncation)] // the discriminant's size follows from the number of cases
    pub fn write_case(self, kind: &Kind, case: usize) -> Place {
        let Shape::Cases(count) = kind.shape() else {
            invalid("a type without cases")
        };
        match discriminant_size(count) {
            1 => self.write(case as u8),
            2 => self.write(case as u16),
            _ => self.write(case as u32),
        }
        self.offset(kind.payload_offset())
    }
}

/// The fields of a record or tuple, one after the other.
pub struct Fields {
    record: Place,
    offset: usize,
}

impl Fields {
    pub fn of(record: Place) -> Fields {
        Fields { record, offset: 0 }
    }

    pub fn load<T: Type>(&mut self) -> T {
        T::load(self.next(T::KIND))
    }

    pub fn store<T: Type>(&mut self, value: T) {
        value.store(self.next(T::KIND));
    }

    pub(super) fn next(&mut self, kind: &Kind) -> Place {
        let offset = align_to(self.offset, kind.align());
        self.offset = offset + kind.size();
        self.record.offset(offset)
    }
}

/// Loads the values that the host passed as they would lie in memory, so that one `load` reads both forms.
pub(super) fn with_spilled<T>(
    kind: &Kind,
    values: &[u64; MAX_FLAT_PARAMS],
    load: impl FnOnce(Place) -> T,
) -> T {
    // A value takes no more room than 8 bytes for each core value that it is passed in.
    let mut room = [0_u64; MAX_FLAT_PARAMS];
    let at = Place(room.as_mut_ptr().cast());
    spill(kind, values, at);
    load(at)
}

fn spill<'a>(kind: &Kind, values: &'a [u64], at: Place) -> &'a [u64] {
    match kind.shape() {
        Shape::Scalar(size, ..) => spill_scalar(kind, size, values, at),
        Shape::Fields(count) => {
            let mut fields = Fields::of(at);
            (0..count).fold(values, |rest, index| {
                let field = kind.field(index);
                spill(field, rest, fields.next(field))
            })
        }
        Shape::Cases(count) => {
            let (taken, rest) = split(values, kind.flat_len());
            let (case, payload) = split(taken, 1);
            let case = case
                .first()
                .and_then(|case| usize::try_from(*case).ok())
                .filter(|case| *case < count);
            let Some(case) = case else {
                invalid("a case that the type does not have")
            };
            let inside = at.write_case(kind, case);
            if let Some(kind) = kind.case(case) {
                spill(kind, payload, inside);
            }
            rest
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // a value narrower than its slot is in the slot's low bits
fn spill_scalar<'a>(kind: &Kind, size: usize, values: &'a [u64], at: Place) -> &'a [u64] {
    let (taken, rest) = split(values, kind.flat_len());
    match (taken, size) {
        ([pointer, len], _) => {
            at.write(*pointer as u32);
            at.offset(4).write(*len as u32);
        }
        ([value], 1) => at.write(*value as u8),
        ([value], 2) => at.write(*value as u16),
        ([value], 4) => at.write(*value as u32),
        ([value], _) => at.write(*value),
        _ => invalid("too few values"),
    }
    rest
}

fn split(values: &[u64], at: usize) -> (&[u64], &[u64]) {
    match values.split_at_checked(at) {
        Some(halves) => halves,
        None => invalid("too few values"),
    }
}

/// Makes the core function's return value of a result: its one value, or its address in new memory.
pub(super) fn give_back<R: Payload>(result: R) -> u64 {
    let Some(kind) = R::PAYLOAD else { return 0 };
    if const { flat_len(R::PAYLOAD) > 1 } {
        let area = Place::allocate(kind.size(), kind.align());
        result.store_payload(area);
        return area.address() as u64;
    }
    // memory is little-endian, so that a narrower value is in the low bits
    let mut value = 0_u64;
    result.store_payload(Place((&raw mut value).cast()));
    value
}

/// The host broke the canonical ABI: nothing in this instance can be relied on any more.
#[cfg(not(target_arch = "wasm32"))]
#[cold]
#[allow(clippy::panic)]
pub fn invalid(what: &str) -> ! {
    panic!("the host passed {what}")
}

/// A bare trap: a panic has a message to print, for which every component would import the standard streams, which
/// are a third of what a small task costs the worker.
#[cfg(target_arch = "wasm32")]
#[cold]
pub fn invalid(_: &str) -> ! {
    core::arch::wasm32::unreachable()
}
