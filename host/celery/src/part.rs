//! A signature of a canvas in its place: with what the workflows around it add, none of it copied.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::Value;

use crate::layered::{Entries, LayeredOptions};
use crate::signature::{SignatureRef, malformed};
use crate::{ChildKind, Refusal, SignatureError, child_id};

/// A signature in its place.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub(crate) signature: SignatureRef<'a>,
    pub(crate) options: LayeredOptions<'a>,
    /// Those of the chain that it begins: before its own.
    chain_args: &'a [Value],
    /// True if what its sender passes on (a result) comes before its own arguments. An immutable chain passes nothing
    /// on to its first task.
    takes_args: bool,
}

impl<'a> Part<'a> {
    pub(crate) fn of(signature: SignatureRef<'a>) -> Self {
        Self {
            signature,
            options: LayeredOptions::own(signature.options),
            chain_args: &[],
            takes_args: true,
        }
    }

    pub(crate) fn from_json(value: &'a Value) -> Result<Self, SignatureError> {
        SignatureRef::from_json(value).map(Self::of)
    }

    /// The same with an id: the one it has, or else this.
    pub(crate) fn named(mut self, default: impl FnOnce() -> String) -> Self {
        let own = || self.signature.task_id().map_or_else(default, str::to_owned);
        self.options.task_id.get_or_insert_with(own);
        self
    }

    /// The same with this id, whatever it fixes.
    pub(crate) fn sent_as(mut self, id: &str) -> Self {
        self.options.task_id = Some(id.to_owned());
        self
    }

    /// The id that it has been given; empty before.
    pub(crate) fn id(&self) -> &str {
        self.options.task_id.as_deref().unwrap_or_default()
    }

    /// The first step of a chain.
    pub(crate) fn begins(mut self, chain: &'a Self) -> Self {
        self.options.begin(&chain.options);
        self.takes_args = chain.takes_args && !chain.signature.immutable;
        // They come between those of its sender and its own.
        self.chain_args = chain.signature.args;
        self
    }

    /// A member of a group.
    pub(crate) fn belongs_to(mut self, group: &'a Self) -> Self {
        self.options.belong_to(&group.options, group.id());
        self.takes_args = group.takes_args;
        self
    }

    /// Its arguments, with those that its sender passes on.
    pub(crate) fn args<'s>(&self, passed_on: &'s [Value]) -> Vec<&'s Value>
    where
        'a: 's,
    {
        let given: [&[Value]; 2] = match (self.signature.immutable, self.takes_args) {
            (true, _) => [&[], &[]],
            (false, true) => [passed_on, self.chain_args],
            (false, false) => [&[], self.chain_args],
        };
        let own = self.signature.args.iter();
        given.into_iter().flatten().chain(own).collect()
    }
}

/// As it is embedded in a message that goes before it. The tasks of a group have their ids already.
impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signature = &self.signature;
        let mut fields = serializer.serialize_struct("Signature", 6)?;
        fields.serialize_field("task", signature.task)?;
        fields.serialize_field("args", signature.args)?;
        if signature.is_group() && self.options.task_id.is_some() {
            fields.serialize_field("kwargs", &GroupKwargs(self))?;
        } else {
            fields.serialize_field("kwargs", signature.kwargs)?;
        }
        fields.serialize_field("options", &Entries(&self.options))?;
        fields.serialize_field("subtask_type", &signature.subtask_type)?;
        fields.serialize_field("immutable", &signature.immutable)?;
        fields.end()
    }
}

/// The keyword arguments of a group, with its tasks laid out flat.
struct GroupKwargs<'a>(&'a Part<'a>);

impl Serialize for GroupKwargs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(group) = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in group.signature.kwargs {
            if name == "tasks" {
                let members = members(group).map_err(serde::ser::Error::custom)?;
                map.serialize_entry(name, &members)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

/// A group's tasks, each with its id and its place.
pub(crate) fn members<'a>(group: &Part<'a>) -> Result<Vec<Part<'a>>, Refusal> {
    let mut members = Vec::new();
    flatten(group.signature, &mut members)?;
    Ok(placed(members, group.id()))
}

/// The same of tasks that are signatures already: those that are groups are laid out flat.
pub(crate) fn gathered<'a>(tasks: Vec<Part<'a>>, id: &str) -> Result<Vec<Part<'a>>, Refusal> {
    let mut members = Vec::with_capacity(tasks.len());
    for task in tasks {
        if task.signature.is_group() {
            flatten(task.signature, &mut members)?;
        } else {
            members.push(task);
        }
    }
    Ok(placed(members, id))
}

fn placed<'a>(members: Vec<Part<'a>>, id: &str) -> Vec<Part<'a>> {
    let place = |(index, member): (usize, Part<'a>)| {
        let mut member = member.named(|| child_id(id, 0, ChildKind::Group, index));
        member.options.set_index(index);
        member
    };
    members.into_iter().enumerate().map(place).collect()
}

fn flatten<'a>(group: SignatureRef<'a>, members: &mut Vec<Part<'a>>) -> Result<(), Refusal> {
    for member in tasks(&group)? {
        let member = SignatureRef::from_json(member)?;
        if member.is_group() {
            flatten(member, members)?;
        } else {
            members.push(Part::of(member));
        }
    }
    Ok(())
}

pub(crate) fn is_empty_group(signature: &SignatureRef<'_>) -> bool {
    signature.is_group() && tasks(signature).is_ok_and(<[Value]>::is_empty)
}

/// The signatures that a chain or a group is made of.
pub(crate) fn tasks<'a>(workflow: &SignatureRef<'a>) -> Result<&'a [Value], Refusal> {
    match workflow.kwargs.get("tasks") {
        Some(Value::Array(tasks)) => Ok(tasks),
        _ => Err(malformed(format!(
            "{:?} has no array `tasks` in its kwargs",
            workflow.task
        ))),
    }
}
