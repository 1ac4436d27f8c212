//! A signature's options as they stand, in layers: those that a workflow sets, those of the workflow it is in, its own.

use std::rc::Rc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::json::size;

/// Options of a chain that are not passed on to its first task.
const CONSUMED_BY_CHAIN: [&str; 9] = [
    "task_id",
    "group_id",
    "group_index",
    "chord",
    "link",
    "link_error",
    "root_id",
    "parent_id",
    "chain",
];

/// Options of a group that are not passed on to its members.
const CONSUMED_BY_GROUP: [&str; 3] = ["task_id", "group_id", "group_index"];

/// Each comes from the first of `set` (the fields below),
/// `above` and its own.
#[derive(Clone)]
pub(crate) struct LayeredOptions<'a> {
    pub(crate) own: &'a Map<String, Value>,
    /// Those of the workflow it is in, but for some names.
    above: Option<(&'a LayeredOptions<'a>, &'static [&'static str])>,
    pub(crate) task_id: Option<String>,
    group_id: Option<OptionValue<'a>>,
    group_index: Option<OptionValue<'a>>,
    chord: Option<OptionValue<'a>>,
    link: Option<Rc<[&'a Value]>>,
    link_error: Option<Rc<[&'a Value]>>,
}

/// An option's value.
#[derive(Clone, Copy, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum OptionValue<'a> {
    Json(&'a Value),
    Text(&'a str),
    Index(usize),
    Signatures(&'a [&'a Value]),
}

impl OptionValue<'_> {
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

impl<'a> LayeredOptions<'a> {
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

    /// Those of the first step of a chain.
    pub(crate) fn begin(&mut self, chain: &'a Self) {
        self.above = Some((chain, &CONSUMED_BY_CHAIN));
    }

    /// Those of a member of a group.
    pub(crate) fn belong_to(&mut self, group: &'a Self, id: &'a str) {
        self.above = Some((group, &CONSUMED_BY_GROUP));
        if !self.own.contains_key("group_id") {
            self.group_id = Some(OptionValue::Text(id));
        }
    }

    pub(crate) fn set_index(&mut self, index: usize) {
        self.group_index = Some(OptionValue::Index(index));
    }

    /// Makes the last step stand for its chain: gives it the chain's place and chord where it has none of its own.
    pub(crate) fn stand_for(&mut self, chain: &'a Self) {
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

    pub(crate) fn set_links(&mut self, name: &str, signatures: Rc<[&'a Value]>) {
        match name {
            "link" => self.link = Some(signatures),
            _ => self.link_error = Some(signatures),
        }
    }

    fn set(&self, name: &str) -> Option<OptionValue<'_>> {
        match name {
            "task_id" => self.task_id.as_deref().map(OptionValue::Text),
            "group_id" => self.group_id,
            "group_index" => self.group_index,
            "chord" => self.chord,
            "link" => self.link.as_deref().map(OptionValue::Signatures),
            "link_error" => self.link_error.as_deref().map(OptionValue::Signatures),
            _ => None,
        }
    }

    /// The value of an option, null where it is null.
    pub(crate) fn get(&self, name: &str) -> Option<OptionValue<'_>> {
        let above = || {
            let (above, except) = self.above?;
            above.get(name).filter(|_| !except.contains(&name))
        };
        let own = || self.own.get(name).map(OptionValue::Json);
        self.set(name).or_else(above).or_else(own)
    }

    /// Bytes that they take where they are copied to, at most.
    pub(crate) fn size(&self) -> usize {
        let above = self.above.map_or(0, |(above, _)| above.size());
        size(&Entries(self)).saturating_add(above)
    }
}

/// Options as they stand in a signature. Those of above are only for what is sent at once.
pub(crate) struct Entries<'a>(pub(crate) &'a LayeredOptions<'a>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(options) = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in options.own {
            map.serialize_entry(name, &options.set(name).unwrap_or(OptionValue::Json(value)))?;
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
