//! The core WebAssembly values that a type is passed in, as a list of types: the signature of the
//! core function that a component exports is written with it (`CanonicalABI.md`, "Flattening").

use core::marker::PhantomData;

/// A core WebAssembly value, or `()` for none: a parameter of type `()` takes no room in a signature.
pub trait Core: Copy {
    /// The type that holds this value in one case of a variant and `Other` in another.
    type Join<Other: Core>: Core;
    type WithI32: Core;
    type WithI64: Core;
    type WithF32: Core;
    type WithF64: Core;

    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

macro_rules! core_value {
    ($core:ty, $with:ident: $i32:ty, $i64:ty, $f32:ty, $f64:ty; $self:ident, $bits:ident => $to:expr, $from:expr) => {
        impl Core for $core {
            type Join<Other: Core> = Other::$with;
            type WithI32 = $i32;
            type WithI64 = $i64;
            type WithF32 = $f32;
            type WithF64 = $f64;

            fn bits($self) -> u64 {
                $to
            }

            // A value narrower than its slot is in the slot's low bits.
            #[allow(clippy::cast_possible_truncation)]
            fn from_bits($bits: u64) -> Self {
                $from
            }
        }
    };
}

core_value!(u32, WithI32: u32, u64, u32, u64; self, bits => u64::from(self), bits as u32);
core_value!(u64, WithI64: u64, u64, u64, u64; self, bits => self, bits);
core_value!(f32, WithF32: u32, u64, f32, u64; self, bits => u64::from(self.to_bits()), f32::from_bits(bits as u32));
core_value!(f64, WithF64: u64, u64, u64, f64; self, bits => self.to_bits(), f64::from_bits(bits));

impl Core for () {
    type Join<Other: Core> = Other;
    type WithI32 = u32;
    type WithI64 = u64;
    type WithF32 = f32;
    type WithF64 = f64;

    fn bits(self) -> u64 {
        0
    }

    fn from_bits(_: u64) -> Self {}
}

/// A list of core values: [`Nil`] or [`Cons`].
pub trait Flat {
    type Head: Core;
    type Tail: Flat;
    /// This list, then `Rest`.
    type Append<Rest: Flat>: Flat;
    /// The list that holds either this one or `Other`: the payload of a variant.
    type Join<Other: Flat>: Flat;
    type JoinCons<Head: Core, Tail: Flat>: Flat;
    type IfEmpty<Then: Flat, Else: Flat>: Flat;
    /// The return type of a function with this result: nothing, the one value, or a pointer to the result.
    type Returned: Core;
    type ReturnedAfter<First: Core>: Core;
}

/// The empty list.
pub struct Nil;

/// A value, then a list.
pub struct Cons<Head, Tail>(PhantomData<(Head, Tail)>);

impl Flat for Nil {
    type Head = ();
    type Tail = Nil;
    type Append<Rest: Flat> = Rest;
    type Join<Other: Flat> = Other;
    type JoinCons<Head: Core, Tail: Flat> = Cons<Head, Tail>;
    type IfEmpty<Then: Flat, Else: Flat> = Then;
    type Returned = ();
    type ReturnedAfter<First: Core> = First;
}

impl<H: Core, T: Flat> Flat for Cons<H, T> {
    type Head = H;
    type Tail = T;
    type Append<Rest: Flat> = Cons<H, T::Append<Rest>>;
    type Join<Other: Flat> = Other::JoinCons<H, T>;
    type JoinCons<Head: Core, Tail: Flat> = Cons<Head::Join<H>, Tail::Join<T>>;
    type IfEmpty<Then: Flat, Else: Flat> = Else;
    type Returned = T::ReturnedAfter<H>;
    type ReturnedAfter<First: Core> = u32;
}

/// The canonical ABI passes more than this many values by a pointer to memory.
pub const MAX_FLAT_PARAMS: usize = 16;

pub type Head<F> = <F as Flat>::Head;
pub type Tail<F> = <F as Flat>::Tail;
type Drop4<F> = Tail<Tail<Tail<Tail<F>>>>;
type Drop16<F> = Drop4<Drop4<Drop4<Drop4<F>>>>;

/// The parameters of a core function whose values are `F`.
pub type Params<F> = <Drop16<F> as Flat>::IfEmpty<F, Cons<u32, Nil>>;
