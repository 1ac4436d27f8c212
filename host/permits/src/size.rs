//! Sizes as people write them: in manifests, configuration, flags and messages.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A unit that others end with comes after them.
const UNITS: [(&str, u64); 12] = [
    ("KiB", KIB),
    ("MiB", MIB),
    ("GiB", GIB),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", KIB),
    ("k", KIB),
    ("M", MIB),
    ("G", GIB),
    ("B", 1),
];

/// A number of bytes. Written as a number, or a whole number with a unit: `B`, `KiB` (or `K`), `MiB` (`M`), `GiB` (`G`),
/// `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Not a [`Size`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a size, for example 256MiB: a whole number of bytes, KiB (or K), MiB (M), GiB (G), kB, MB or GB"
)]
pub struct SizeError(String);

impl Size {
    /// A size of this many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Rounded down to whole MiB, unless that leaves none.
    pub fn in_whole_mib(self) -> Self {
        match self.0 - self.0 % MIB {
            0 => self,
            whole => Self(whole),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.trim_end().strip_suffix(unit)?, *bytes)))
            .unwrap_or((text, 1));
        let number: Option<u64> = number.trim().parse().ok();
        number
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| SizeError(format!("{text:?}")))
    }
}

/// In the largest binary unit that divides it: `64MiB`. In the alternate form as in a sentence, without GiB: `64 MiB`,
/// `1025 bytes`.
impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let divided_by = |unit: u64| self.0 > 0 && self.0.is_multiple_of(unit);
        match (self.0, f.alternate()) {
            (bytes, false) if divided_by(GIB) => write!(f, "{}GiB", bytes / GIB),
            (bytes, false) if divided_by(MIB) => write!(f, "{}MiB", bytes / MIB),
            (bytes, false) if divided_by(KIB) => write!(f, "{}KiB", bytes / KIB),
            (0, false) => f.write_str("0"),
            (bytes, false) => write!(f, "{bytes}B"),
            (bytes, true) if divided_by(MIB) => write!(f, "{} MiB", bytes / MIB),
            (bytes, true) if divided_by(KIB) => write!(f, "{} KiB", bytes / KIB),
            (bytes, true) => write!(f, "{bytes} bytes"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes, or a text such as \"256MiB\"")
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes)
            .map(Size)
            .map_err(|_| E::custom(SizeError(bytes.to_string())))
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("0B", 0, "0"),
            ("1", 1, "1B"),
            ("512", 512, "512B"),
            ("1000B", 1000, "1000B"),
            ("1 kB", 1000, "1000B"),
            ("1KB", 1000, "1000B"),
            ("2MB", 2_000_000, "2000000B"),
            ("64MB", 64_000_000, "62500KiB"),
            ("1GB", 1_000_000_000, "1000000000B"),
            ("1024", 1024, "1KiB"),
            (" 2 K ", 2048, "2KiB"),
            ("2k", 2048, "2KiB"),
            ("64M", 64 << 20, "64MiB"),
            ("256MiB", 256 << 20, "256MiB"),
            ("3G", 3 << 30, "3GiB"),
            ("2 GiB", 2 << 30, "2GiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse::<Size>().unwrap(), size);
        }
        for text in ["", "MiB", "-1", "1.5GiB", "12XiB", "99999999999GiB", "1 2"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?} is not a size")),
                "{error}"
            );
        }
    }

    #[test]
    fn sizes_stand_in_sentences() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1025, "1025 bytes"),
            (4096, "4 KiB"),
            (96 << 20, "96 MiB"),
            (4 << 30, "4096 MiB"),
        ] {
            assert_eq!(format!("{:#}", Size::new(bytes)), text);
        }
    }
}
