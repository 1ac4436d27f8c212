//! The capabilities that a module asks for, and those that a worker allows: the same list.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::{Access, HttpRule, Refused, Size, TcpRule};

/// The longest name of a variable or folder, in bytes.
const MAX_NAME: usize = 255;

/// The names, rules or folders of one kind that a manifest may ask for. Each of a module's tasks may ask for as
/// many, and has those that it is given in memory.
pub const MAX_ASKED: usize = 64;

/// Things that a task may reach beyond its sandbox. The default is nothing but clocks and random numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Capabilities {
    /// Values by name, which the task sees as environment variables.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub env: BTreeSet<String>,
    /// The same, of values that are never shown.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Requests that it may send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRule>,
    /// Connections that it may make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpRule>,
    /// Storage that outlives the run (`wasi:keyvalue`), the module's own.
    #[serde(skip_serializing_if = "is_false")]
    pub keyvalue: bool,
    /// Folders by the operator's name; the guest sees `/NAME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<String, Access>,
    /// Bytes that may be written to `/tmp`, which is the run's own and gone with it; none for no `/tmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temp: Option<Size>,
    /// True if time goes on; else the clocks stand still at the task's start.
    #[serde(skip_serializing_if = "is_true")]
    pub clocks: bool,
    /// True if random numbers are random; else they follow from the task's id.
    #[serde(skip_serializing_if = "is_true")]
    pub random: bool,
}

/// A list of capabilities can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A name of no variable.
    #[error("{0:?} is no variable's name: letters, digits and _, no digit first")]
    Variable(String),
    /// The guest could not tell which it sees.
    #[error("{0} is asked for in env and in secrets: ask for it once")]
    Twice(String),
    /// A name of no folder.
    #[error("{0:?} is no folder's name: letters, digits, _, - and ., no . first, and not tmp")]
    Folder(String),
    /// A key of the worker's own.
    #[error("networks are the operator's to allow: in [grants] of the worker's configuration")]
    Networks,
}

/// Everything that either a manifest's `[capabilities]` or a worker's `[grants]` may say.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fields {
    env: BTreeSet<String>,
    secrets: BTreeSet<String>,
    http: Vec<HttpRule>,
    tcp: Vec<TcpRule>,
    keyvalue: bool,
    folders: BTreeMap<String, Access>,
    #[serde(deserialize_with = "at_least_a_byte")]
    temp: Option<Size>,
    #[serde(default = "yes")]
    clocks: bool,
    #[serde(default = "yes")]
    random: bool,
    pub(crate) networks: Option<Vec<IpNet>>,
}

impl Capabilities {
    /// A list that is longer than [`MAX_ASKED`]: its key, and how many it has.
    pub fn too_long(&self) -> Option<(&'static str, usize)> {
        let lists = [
            ("env", self.env.len()),
            ("secrets", self.secrets.len()),
            ("http", self.http.len()),
            ("tcp", self.tcp.len()),
            ("folders", self.folders.len()),
        ];
        lists.into_iter().find(|(_, count)| *count > MAX_ASKED)
    }

    /// The capabilities both asked for and allowed, and those only asked for.
    pub fn intersect(&self, allowed: &Self) -> (Self, Vec<Refused>) {
        let Self {
            env,
            secrets,
            http,
            tcp,
            keyvalue,
            folders,
            temp,
            clocks,
            random,
        } = self;
        let granted = Self {
            env: env.intersection(&allowed.env).cloned().collect(),
            secrets: secrets.intersection(&allowed.secrets).cloned().collect(),
            http: pairs(http, &allowed.http, HttpRule::intersection),
            tcp: pairs(tcp, &allowed.tcp, TcpRule::intersection),
            keyvalue: *keyvalue && allowed.keyvalue,
            folders: folders
                .iter()
                .filter_map(|(name, asked)| {
                    let allowed = allowed.folders.get(name)?;
                    Some((name.clone(), *asked.min(allowed)))
                })
                .collect(),
            temp: temp
                .zip(allowed.temp)
                .map(|(asked, allowed)| asked.min(allowed)),
            clocks: *clocks && allowed.clocks,
            random: *random && allowed.random,
        };
        let refused = self.refused(allowed);
        (granted, refused)
    }

    fn refused(&self, allowed: &Self) -> Vec<Refused> {
        let mut refused = Vec::new();
        let env = self.env.difference(&allowed.env);
        refused.extend(env.cloned().map(Refused::Env));
        let secrets = self.secrets.difference(&allowed.secrets);
        refused.extend(secrets.cloned().map(Refused::Secret));
        let http = self.http.iter();
        refused.extend(
            http.filter_map(|asked| asked.beyond(&allowed.http))
                .map(Refused::Http),
        );
        let tcp = self.tcp.iter();
        refused.extend(
            tcp.filter(|asked| !allowed.tcp.iter().any(|rule| rule.covers(asked)))
                .cloned()
                .map(Refused::Tcp),
        );
        if self.keyvalue && !allowed.keyvalue {
            refused.push(Refused::KeyValue);
        }
        for (name, asked) in &self.folders {
            if allowed
                .folders
                .get(name)
                .is_none_or(|access| access < asked)
            {
                refused.push(Refused::Folder(name.clone(), *asked));
            }
        }
        if let Some(asked) = self.temp
            && allowed.temp.is_none_or(|size| size < asked)
        {
            refused.push(Refused::Temp {
                asked,
                allowed: allowed.temp,
            });
        }
        if self.clocks && !allowed.clocks {
            refused.push(Refused::Clocks);
        }
        if self.random && !allowed.random {
            refused.push(Refused::Random);
        }
        refused
    }

    /// Everything that either allows; clocks and random numbers only where neither takes them away.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.env.extend(other.env);
        self.secrets.extend(other.secrets);
        extend(&mut self.http, other.http);
        extend(&mut self.tcp, other.tcp);
        self.keyvalue |= other.keyvalue;
        for (name, access) in other.folders {
            let own = self.folders.entry(name).or_insert(access);
            *own = access.max(*own);
        }
        self.temp = self.temp.max(other.temp);
        self.clocks &= other.clocks;
        self.random &= other.random;
        self
    }
}

/// The intersection of each asked rule with each allowed one, without repetitions.
fn pairs<T: PartialEq>(
    asked: &[T],
    allowed: &[T],
    intersection: impl Fn(&T, &T) -> Option<T>,
) -> Vec<T> {
    let mut both = Vec::new();
    for asked in asked {
        extend(
            &mut both,
            allowed.iter().filter_map(|rule| intersection(asked, rule)),
        );
    }
    both
}

fn extend<T: PartialEq>(rules: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for rule in more {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            env: BTreeSet::new(),
            secrets: BTreeSet::new(),
            http: Vec::new(),
            tcp: Vec::new(),
            keyvalue: false,
            folders: BTreeMap::new(),
            temp: None,
            clocks: true,
            random: true,
        }
    }
}

fn at_least_a_byte<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Size>, D::Error> {
    match Size::deserialize(deserializer)? {
        size if size.bytes() == 0 => Err(D::Error::custom("0 is not a size: from 1B")),
        size => Ok(Some(size)),
    }
}

fn yes() -> bool {
    true
}

impl TryFrom<Fields> for Capabilities {
    type Error = CapabilityError;

    fn try_from(fields: Fields) -> Result<Self, CapabilityError> {
        let Fields {
            env,
            secrets,
            http,
            tcp,
            keyvalue,
            folders,
            temp,
            clocks,
            random,
            networks,
        } = fields;
        if networks.is_some() {
            return Err(CapabilityError::Networks);
        }
        if let Some(name) = env.iter().chain(&secrets).find(|name| !is_variable(name)) {
            return Err(CapabilityError::Variable(name.clone()));
        }
        if let Some(name) = env.intersection(&secrets).next() {
            return Err(CapabilityError::Twice(name.clone()));
        }
        if let Some(name) = folders.keys().find(|name| !is_folder(name)) {
            return Err(CapabilityError::Folder(name.clone()));
        }
        Ok(Self {
            env,
            secrets,
            http,
            tcp,
            keyvalue,
            folders,
            temp,
            clocks,
            random,
        })
    }
}

/// Decides if a manifest can ask for a value of this name.
pub fn is_variable(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Decides if a manifest can ask for a folder of this name: one part of a path that needs no quoting anywhere.
/// `/tmp` is [`Capabilities::temp`].
pub fn is_folder(name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=MAX_NAME).contains(&name.len())
        && name != "tmp"
        && !name.starts_with('.')
        && name.chars().all(is_name)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_true(value: &bool) -> bool {
    *value
}
