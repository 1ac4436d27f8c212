//! Bytes of field tables, as they are encoded (AMQP 0-9-1, section 4.2.5.5).

use serde_json::{Map, Value};

use super::{DEPTH_LIMIT, Field, QUOTED, SHORT_STRING_LIMIT, Unsendable, beginning};

/// Length before tables, arrays and long strings.
const LENGTH: usize = 4;
/// A value's type.
const TAG: usize = 1;

/// A short string: its length in one byte, and itself.
pub(super) fn text_size(text: &str) -> usize {
    1 + text.len()
}

/// The headers.
pub(super) fn table_size(headers: &Map<String, Value>) -> Result<usize, Unsendable> {
    let mut size = LENGTH;
    for (name, value) in headers {
        check_name(name)?;
        let value = sized(value, DEPTH_LIMIT).map_err(|fault| fault.under(name))?;
        size += text_size(name) + value;
    }
    Ok(size)
}

/// One header's value.
pub(super) fn value_size(value: &Value) -> Option<usize> {
    sized(value, DEPTH_LIMIT).ok()
}

enum Fault {
    Depth,
    Name(Unsendable),
}

impl Fault {
    fn under(self, header: &str) -> Unsendable {
        match self {
            Self::Depth => Unsendable::Depth {
                name: beginning(header, QUOTED).to_owned(),
                limit: DEPTH_LIMIT,
            },
            Self::Name(unsendable) => unsendable,
        }
    }
}

fn sized(value: &Value, depth: usize) -> Result<usize, Fault> {
    let inner = || depth.checked_sub(1).ok_or(Fault::Depth);
    let size = match Field::of(value) {
        Field::Void => 0,
        Field::Boolean(_) | Field::I8(_) | Field::U8(_) => 1,
        Field::I16(_) | Field::U16(_) => 2,
        Field::I32(_) | Field::U32(_) | Field::F32(_) => 4,
        Field::Decimal { .. } => 5,
        Field::I64(_) | Field::F64(_) | Field::Timestamp(_) => 8,
        Field::Text(bytes) | Field::Bytes(bytes) => LENGTH + bytes.len(),
        Field::Array(values) => {
            let depth = inner()?;
            let sizes: usize = values
                .iter()
                .map(|value| sized(value, depth))
                .sum::<Result<_, _>>()?;
            LENGTH + sizes
        }
        Field::Table(table) => {
            let depth = inner()?;
            let mut size = LENGTH;
            for (name, value) in table {
                check_name(name).map_err(Fault::Name)?;
                size += text_size(name) + sized(value, depth)?;
            }
            size
        }
    };
    Ok(TAG + size)
}

fn check_name(name: &str) -> Result<(), Unsendable> {
    if name.len() > SHORT_STRING_LIMIT {
        return Err(Unsendable::HeaderName {
            name: beginning(name, QUOTED).to_owned(),
            size: name.len(),
            limit: SHORT_STRING_LIMIT,
        });
    }
    Ok(())
}
