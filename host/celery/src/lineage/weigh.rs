//! The number of tasks that may come of a signature. One that no guest may send is refused later, and its count then
//! makes no difference.

use serde_json::{Map, Value};

use super::{FOLLOWING, TASKS};
use crate::Signature;

impl Signature {
    /// The most tasks it may become (which callbacks run depends on outcomes): itself or the tasks it consists of, with
    /// everything that follows each of them.
    pub fn tasks(&self) -> usize {
        let kind = self.subtask_type.as_deref();
        weigh(kind, Some(&self.kwargs), Some(&self.options)).tasks
    }
}

/// Tasks that may come of a signature.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// The most tasks.
    tasks: usize,
    /// Those of them that call what follows the signature as a whole: its options go to each of them.
    ends: usize,
}

fn weigh(
    kind: Option<&str>,
    kwargs: Option<&Map<String, Value>>,
    options: Option<&Map<String, Value>>,
) -> Weight {
    let mut own = Weight { tasks: 1, ends: 1 };
    if let Some(kind @ ("chain" | "group")) = kind {
        own = Weight::default();
        for part in each(kwargs, TASKS).map(weigh_json) {
            own.tasks = own.tasks.saturating_add(part.tasks);
            own.ends = match kind {
                "group" => own.ends.saturating_add(part.ends),
                // Only its last step ends it; each of the others has one end.
                _ => own.ends.max(part.ends),
            };
        }
    }
    let ends = own.ends.max(1);
    let following = FOLLOWING.iter().flat_map(|name| each(options, name));
    let following = following
        .map(|signature| weigh_json(signature).tasks)
        .fold(0, usize::saturating_add);
    Weight {
        tasks: own.tasks.saturating_add(following.saturating_mul(ends)),
        ends,
    }
}

fn weigh_json(signature: &Value) -> Weight {
    let object = |name| signature.get(name).and_then(Value::as_object);
    let kind = signature.get("subtask_type").and_then(Value::as_str);
    weigh(kind, object("kwargs"), object("options"))
}

/// The signatures under a name: one, or a list of them.
fn each<'a>(
    fields: Option<&'a Map<String, Value>>,
    name: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    let value = fields.and_then(|fields| fields.get(name));
    let values = match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    values.iter()
}
