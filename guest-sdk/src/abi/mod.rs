//! Rust types as WIT types: the code that `#[petiole::task]` and the derive expand to.
//!
//! `wit_bindgen::generate!` needs a text of WIT, which a macro can't write for a type that it only
//! knows the name of. Here each type has its own WIT type as a constant ([`Kind`]), and the compiler
//! puts them together: the section that describes the task to the linker, the signature of the exported
//! core function, and the conversion of its values.

mod flat;
mod kind;
mod place;
mod types;
mod world;

pub use flat::{Cons, Core, Flat, Head, MAX_FLAT_PARAMS, Nil, Params, Tail};
pub use kind::Kind;
pub use place::{Fields, Place, invalid};
pub use world::{Bytes, Task, bytes, encode};

/// A type that a task can take and return.
///
/// Integers, floats, `bool`, `char`, `String`, `Vec<T>`, `Option<T>`, `Result<T, E>`, tuples and
/// [`Json`](crate::Json) are; a struct or enum becomes one by `#[derive(petiole::Type)]`. The methods
/// are not meant to be written by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be passed to or from a task",
    label = "no WIT type stands for `{Self}`",
    note = "for a struct or enum of this crate: `#[derive(petiole::Type)]`",
    note = "for a map: `Vec<(String, T)>`; for anything at all: `petiole::Json`"
)]
pub trait Type: Sized {
    /// The WIT type.
    #[doc(hidden)]
    const KIND: &'static Kind;
    /// The core values that it is passed in.
    #[doc(hidden)]
    type Flat: Flat;

    /// Reads a value from memory.
    #[doc(hidden)]
    fn load(at: Place) -> Self;
    /// Writes a value to memory.
    #[doc(hidden)]
    fn store(self, at: Place);

    /// Reads a list of this many values, and frees its memory.
    #[doc(hidden)]
    fn load_list(at: Place, len: usize) -> Vec<Self> {
        let size = Self::KIND.size();
        let list = (0..len)
            .map(|index| Self::load(at.offset(index * size)))
            .collect();
        at.free(len * size, Self::KIND.align());
        list
    }

    /// Writes a list to new memory.
    #[doc(hidden)]
    fn store_list(list: Vec<Self>) -> Place {
        let size = Self::KIND.size();
        let at = Place::allocate(list.len() * size, Self::KIND.align());
        for (index, value) in list.into_iter().enumerate() {
            value.store(at.offset(index * size));
        }
        at
    }
}

/// A [`Type`], or `()` where WIT may leave the type out: as a result, or as a side of one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be passed to or from a task",
    label = "no WIT type stands for `{Self}`",
    note = "for a struct or enum of this crate: `#[derive(petiole::Type)]`",
    note = "for a map: `Vec<(String, T)>`; for anything at all: `petiole::Json`"
)]
pub trait Payload: Sized {
    const PAYLOAD: Option<&'static Kind>;
    type FlatPayload: Flat;

    fn load_payload(at: Place) -> Self;
    fn store_payload(self, at: Place);
}

impl<T: Type> Payload for T {
    const PAYLOAD: Option<&'static Kind> = Some(T::KIND);
    type FlatPayload = T::Flat;

    fn load_payload(at: Place) -> T {
        T::load(at)
    }

    fn store_payload(self, at: Place) {
        self.store(at);
    }
}

impl Payload for () {
    const PAYLOAD: Option<&'static Kind> = None;
    type FlatPayload = Nil;

    fn load_payload(_: Place) {}

    fn store_payload(self, _: Place) {}
}

/// The return type of the exported core function for a result of type `R`.
pub type Returned<R> = <<R as Payload>::FlatPayload as Flat>::Returned;

/// Runs a task on the core values that the host passed: `P` is the tuple of its parameters.
///
/// Called by the code that `#[petiole::task]` generates, with the values in the order of the core function whose
/// parameters are [`Params`] of `P`.
pub fn call<P: Payload, R: Payload>(
    values: [u64; MAX_FLAT_PARAMS],
    task: impl FnOnce(P) -> R,
) -> Returned<R> {
    let params = match P::PAYLOAD {
        Some(_) if const { kind::flat_len(P::PAYLOAD) > MAX_FLAT_PARAMS } => {
            let [pointer, ..] = values;
            let Ok(pointer) = usize::try_from(pointer) else {
                invalid("a pointer out of range")
            };
            // SAFETY: the host wrote the parameters, one after the other, to memory that it got from
            // `cabi_realloc` with their size and alignment.
            #[allow(unsafe_code)]
            let at = unsafe { Place::new(pointer as *mut u8) };
            P::load_payload(at)
        }
        Some(kind) => {
            const {
                let fits = kind::size(P::PAYLOAD) <= size_of::<[u64; MAX_FLAT_PARAMS]>();
                assert!(fits || kind::flat_len(P::PAYLOAD) > MAX_FLAT_PARAMS);
            }
            place::with_spilled(kind, &values, P::load_payload)
        }
        None => P::load_payload(Place::allocate(0, 1)),
    };
    Returned::<R>::from_bits(place::give_back(task(params)))
}
