//! A signature of a canvas with what the workflows around it add, none of it copied.

use std::rc::Rc;

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Map, Value};

use super::steps::members;
use super::{CONSUMED_BY_CHAIN, CONSUMED_BY_GROUP};
use crate::SignatureError;
use crate::json::size;
use crate::signature::SignatureRef;

/// A signature in its place.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub(crate) signature: SignatureRef<'a>,
    pub(crate) options: Given<'a>,
    /// Those of the chain that it begins: before its own.
    chain_args: &'a [Value],
    /// Whether what its sender passes on (a result) comes before its own arguments. An immutable chain passes
    /// nothing on to its first task.
    takes_args: bool,
}

/// A signature's options, with those that it is given. Each comes from the first of `set` (the fields below),
/// `above` and its own.
#[derive(Clone)]
pub(crate) struct Given<'a> {
    pub(crate) own: &'a Map<String, Value>,
    /// Those of the workflow it is in, but for some names.
    above: Option<(&'a Given<'a>, &'static [&'static str])>,
    task_id: Option<String>,
    group_id: Option<Opt<'a>>,
    group_index: Option<Opt<'a>>,
    chord: Option<Opt<'a>>,
    link: Option<Rc<[&'a Value]>>,
    link_error: Option<Rc<[&'a Value]>>,
}

/// An option's value.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Opt<'a> {
    Json(&'a Value),
    Text(&'a str),
    Index(usize),
    Signatures(&'a [&'a Value]),
}

impl Opt<'_> {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Json(Value::Null))
    }
}

/// The options that workflows set.
const SET: [&str; 6] = [
    "task_id",
    "group_id",
    "group_index",
    "chord",
    "link",
    "link_error",
];

impl<'a> Part<'a> {
    pub(crate) fn of(signature: SignatureRef<'a>) -> Self {
        Self {
            signature,
            options: Given::own(signature.options),
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
    pub(super) fn begins(mut self, chain: &'a Self) -> Self {
        self.options.above = Some((&chain.options, &CONSUMED_BY_CHAIN));
        self.takes_args = chain.takes_args && !chain.signature.immutable;
        // They come between those of its sender and its own.
        self.chain_args = chain.signature.args;
        self
    }

    /// A member of a group.
    pub(super) fn belongs_to(mut self, group: &'a Self) -> Self {
        self.options.above = Some((&group.options, &CONSUMED_BY_GROUP));
        self.takes_args = group.takes_args;
        if !self.options.own.contains_key("group_id") {
            self.options.group_id = Some(Opt::Text(group.id()));
        }
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

impl<'a> Given<'a> {
    pub(crate) fn own(own: &'a Map<String, Value>) -> Self {
        Self {
            own,
            above: None,
            task_id: None,
            group_id: None,
            group_index: None,
            chord: None,
            link: None,
            link_error: None,
        }
    }

    pub(super) fn set_index(&mut self, index: usize) {
        self.group_index = Some(Opt::Index(index));
    }

    /// What makes the last step stand for its chain, where it has none of its own.
    pub(super) fn stand_for(&mut self, chain: &'a Self) {
        for (name, option) in [
            ("group_id", &mut self.group_id),
            ("group_index", &mut self.group_index),
            ("chord", &mut self.chord),
        ] {
            if !self.own.contains_key(name) {
                *option = chain.get(name);
            }
        }
    }

    pub(super) fn set_links(&mut self, name: &str, signatures: Rc<[&'a Value]>) {
        match name {
            "link" => self.link = Some(signatures),
            _ => self.link_error = Some(signatures),
        }
    }

    fn set(&self, name: &str) -> Option<Opt<'_>> {
        match name {
            "task_id" => self.task_id.as_deref().map(Opt::Text),
            "group_id" => self.group_id,
            "group_index" => self.group_index,
            "chord" => self.chord,
            "link" => self.link.as_deref().map(Opt::Signatures),
            "link_error" => self.link_error.as_deref().map(Opt::Signatures),
            _ => None,
        }
    }

    /// The value of an option, null where it is null.
    pub(crate) fn get(&self, name: &str) -> Option<Opt<'_>> {
        let above = || {
            let (above, except) = self.above?;
            above.get(name).filter(|_| !except.contains(&name))
        };
        let own = || self.own.get(name).map(Opt::Json);
        self.set(name).or_else(above).or_else(own)
    }

    /// Bytes that they take where they are copied to, at most.
    pub(super) fn size(&self) -> usize {
        let above = self.above.map_or(0, |(above, _)| above.size());
        size(&Entries(self)).saturating_add(above)
    }
}

/// Options as they stand in a signature. Those of above are only for what is sent at once.
struct Entries<'a>(&'a Given<'a>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(options) = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in options.own {
            map.serialize_entry(name, &options.set(name).unwrap_or(Opt::Json(value)))?;
        }
        for name in SET {
            if let Some(value) = options.set(name)
                && !options.own.contains_key(name)
            {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
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
