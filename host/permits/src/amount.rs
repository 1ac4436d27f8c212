//! Amounts, in the units of limits.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::Size;

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Size,
    /// Things.
    Count,
    /// Time.
    Time,
}

/// An amount of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Amount {
    /// Bytes.
    Size(Size),
    /// Things.
    Count(u64),
    /// Time.
    Time(Duration),
}

impl Unit {
    /// An amount by its number: bytes, things, or microseconds.
    pub fn amount(self, number: u64) -> Amount {
        match self {
            Self::Size => Amount::Size(Size::new(number)),
            Self::Count => Amount::Count(number),
            Self::Time => Amount::Time(Duration::from_micros(number)),
        }
    }
}

impl Amount {
    /// Bytes, things, or microseconds.
    pub fn number(self) -> u64 {
        match self {
            Self::Size(size) => size.bytes(),
            Self::Count(count) => count,
            Self::Time(time) => u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl From<Size> for Amount {
    fn from(size: Size) -> Self {
        Self::Size(size)
    }
}

/// `64MiB`, `1000`, `2.01 s`; a size in the alternate form as [`Size`] has it.
impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Time(time) => {
                let fraction = format!("{:06}", time.subsec_micros());
                match fraction.trim_end_matches('0') {
                    "" => write!(f, "{} s", time.as_secs()),
                    fraction => write!(f, "{}.{fraction} s", time.as_secs()),
                }
            }
        }
    }
}

/// A number of bytes, of things, or of seconds.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Size(size) => serializer.serialize_u64(size.bytes()),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Time(time) => serializer.serialize_f64(time.as_secs_f64()),
        }
    }
}

/// A type of the fields of [`Limits`](crate::Limits).
pub(crate) trait Field: Copy {
    fn amount(self, unit: Unit) -> Amount;

    /// The amount, or the most that the type can hold.
    fn of(amount: Amount) -> Self;
}

macro_rules! fields {
    ($($type:ty)*) => {$(
        impl Field for $type {
            fn amount(self, unit: Unit) -> Amount {
                unit.amount(u64::try_from(self).unwrap_or(u64::MAX))
            }

            fn of(amount: Amount) -> Self {
                Self::try_from(amount.number()).unwrap_or(Self::MAX)
            }
        }
    )*};
}
fields!(usize u64 u32);

impl Field for Duration {
    fn amount(self, _: Unit) -> Amount {
        Amount::Time(self)
    }

    fn of(amount: Amount) -> Self {
        match amount {
            Amount::Time(time) => time,
            Amount::Size(_) | Amount::Count(_) => Self::from_micros(amount.number()),
        }
    }
}
