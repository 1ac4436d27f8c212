//! The Rust types that have a WIT type of their own.

use super::{Cons, Fields, Flat, Kind, Nil, Payload, Place, Type, invalid};

macro_rules! number {
    ($($rust:ty: $kind:ident, $core:ty;)*) => { $(
        impl Type for $rust {
            const KIND: &'static Kind = &Kind::$kind;
            type Flat = Cons<$core, Nil>;

            fn load(at: Place) -> Self {
                at.read()
            }

            fn store(self, at: Place) {
                at.write(self);
            }

            fn load_list(at: Place, len: usize) -> Vec<Self> {
                at.into_vec(len)
            }

            fn store_list(list: Vec<Self>) -> Place {
                Place::leak(list)
            }
        }
    )* };
}

number! {
    i8: S8, u32;
    u8: U8, u32;
    i16: S16, u32;
    u16: U16, u32;
    i32: S32, u32;
    u32: U32, u32;
    i64: S64, u64;
    u64: U64, u64;
    f32: F32, f32;
    f64: F64, f64;
}

impl Type for bool {
    const KIND: &'static Kind = &Kind::Bool;
    type Flat = Cons<u32, Nil>;

    fn load(at: Place) -> bool {
        at.read::<u8>() != 0
    }

    fn store(self, at: Place) {
        at.write(u8::from(self));
    }
}

impl Type for char {
    const KIND: &'static Kind = &Kind::Char;
    type Flat = Cons<u32, Nil>;

    fn load(at: Place) -> char {
        char::from_u32(at.read())
            .unwrap_or_else(|| invalid("a char that is no Unicode scalar value"))
    }

    fn store(self, at: Place) {
        at.write(u32::from(self));
    }
}

impl Type for String {
    const KIND: &'static Kind = &Kind::String;
    type Flat = Cons<u32, Cons<u32, Nil>>;

    fn load(at: Place) -> String {
        let (text, len) = at.read_list();
        String::from_utf8(text.into_vec(len))
            .unwrap_or_else(|_| invalid("a string that is not UTF-8"))
    }

    fn store(self, at: Place) {
        let len = self.len();
        at.write_list(Place::leak(self.into_bytes()), len);
    }
}

impl<T: Type> Type for Vec<T> {
    const KIND: &'static Kind = &Kind::List(T::KIND);
    type Flat = Cons<u32, Cons<u32, Nil>>;

    fn load(at: Place) -> Vec<T> {
        let (list, len) = at.read_list();
        T::load_list(list, len)
    }

    fn store(self, at: Place) {
        let len = self.len();
        at.write_list(T::store_list(self), len);
    }
}

impl<T: Type> Type for Option<T> {
    const KIND: &'static Kind = &Kind::Option(T::KIND);
    type Flat = Cons<u32, T::Flat>;

    fn load(at: Place) -> Option<T> {
        match at.read_case(Self::KIND) {
            (0, _) => None,
            (_, payload) => Some(T::load(payload)),
        }
    }

    fn store(self, at: Place) {
        match self {
            None => {
                at.write_case(Self::KIND, 0);
            }
            Some(value) => value.store(at.write_case(Self::KIND, 1)),
        }
    }
}

impl<T: Payload, E: Payload> Type for Result<T, E> {
    const KIND: &'static Kind = &Kind::Result(T::PAYLOAD, E::PAYLOAD);
    type Flat = Cons<u32, <T::FlatPayload as Flat>::Join<E::FlatPayload>>;

    fn load(at: Place) -> Result<T, E> {
        match at.read_case(Self::KIND) {
            (0, payload) => Ok(T::load_payload(payload)),
            (_, payload) => Err(E::load_payload(payload)),
        }
    }

    fn store(self, at: Place) {
        match self {
            Ok(value) => value.store_payload(at.write_case(Self::KIND, 0)),
            Err(error) => error.store_payload(at.write_case(Self::KIND, 1)),
        }
    }
}

macro_rules! tuples {
    ($first:ident $($rest:ident)*) => {
        tuples!(@impl $first $($rest)*);
        tuples!($($rest)*);
    };
    () => {};
    (@impl $($field:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<$($field: Type),*> Type for ($($field,)*) {
            const KIND: &'static Kind = &Kind::Tuple(&[$($field::KIND),*]);
            type Flat = tuples!(@flat $($field)*);

            fn load(at: Place) -> Self {
                let mut fields = Fields::of(at);
                ($(fields.load::<$field>(),)*)
            }

            #[allow(non_snake_case)]
            fn store(self, at: Place) {
                let ($($field,)*) = self;
                let mut fields = Fields::of(at);
                $(fields.store($field);)*
            }
        }
    };
    (@flat) => { Nil };
    (@flat $first:ident $($rest:ident)*) => { <$first::Flat as Flat>::Append<tuples!(@flat $($rest)*)> };
}

// WIT allows tuples of 16.
tuples!(A B C D E F G H I J K L M N O P);
