//! Access of a task beyond its sandbox.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use petiole_permits::{Access, HttpRule, KeyValue, Secret, TcpRule};

use crate::code::imports::Interfaces;

/// Access of one task: asked for by its module and allowed by the worker, with the values that go with it. Made
/// once for a task, when its module is loaded. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Environment variables whose values are taken out of the task's log lines and failures.
    pub secrets: Vec<(String, Secret)>,
    /// The requests that it may send.
    pub http: Vec<HttpRule>,
    /// The connections that it may make.
    pub tcp: Vec<TcpRule>,
    /// The addresses outside of the public internet that names in `http` and `tcp` may resolve to.
    pub networks: Vec<IpNet>,
    /// Storage that outlives the run.
    pub keyvalue: Option<KeyValueSpace>,
    /// Folders of the host.
    pub folders: Vec<Folder>,
    /// The bytes that may be written to `/tmp`; none for no `/tmp`.
    pub temp: Option<u64>,
    /// Clocks go on; else they stand still at the task's start.
    pub clocks: bool,
    /// Random numbers are random; else they follow from the task's id.
    pub random: bool,
}

/// A module's part of the key-value storage.
#[derive(Debug, Clone)]
pub struct KeyValueSpace {
    /// The storage that modules share.
    pub store: Arc<dyn KeyValue>,
    /// The beginning of every key of the module.
    pub prefix: String,
}

/// A folder of the host that a task sees.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its name in the task's root folder, without a slash.
    pub guest: String,
    /// The access to it.
    pub access: Access,
}

impl Granted {
    /// Nothing but clocks and random numbers: the default policy.
    pub fn none() -> Self {
        Self {
            env: Vec::new(),
            secrets: Vec::new(),
            http: Vec::new(),
            tcp: Vec::new(),
            networks: Vec::new(),
            keyvalue: None,
            folders: Vec::new(),
            temp: None,
            clocks: true,
            random: true,
        }
    }

    /// The optional interfaces that a module needs for it.
    pub fn interfaces(&self) -> Interfaces {
        Interfaces {
            http: !self.http.is_empty(),
            keyvalue: self.keyvalue.is_some(),
        }
    }
}
