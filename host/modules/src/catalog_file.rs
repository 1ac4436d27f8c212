//! The catalog on disk: a numbered file per state, of which the highest number counts.
//!
//! A change never touches a file that is there, so a reader needs no lock, and the number doubles as
//! the change token that workers poll.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::store::{Lock, io_error, remove_file};
use crate::{CatalogError, Module, ModuleName, Store, StoreError};

/// Earlier states that are left in the folder, so that a reader has time to open what it found there.
const STATES_KEPT: u64 = 8;
/// The times that a reader looks, where the file it found is gone each time.
const READ_ATTEMPTS: u32 = 10;

/// A state of the catalog: another number, another state. The default is the empty catalog of a new
/// store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generation(u64);

pub(crate) type Modules = BTreeMap<ModuleName, Module>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    modules: Vec<Module>,
}

/// The latest state's number: one listing of a short folder.
pub(crate) fn generation(store: &Store) -> Result<Generation, StoreError> {
    Ok(Generation(
        generations(store)?.into_iter().max().unwrap_or(0),
    ))
}

fn generations(store: &Store) -> Result<Vec<u64>, StoreError> {
    let folder = store.catalog_folder();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
        let name = entry.map_err(io_error("list", &folder))?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".json"))
            .and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

pub(crate) fn read(store: &Store) -> Result<(Generation, Modules), CatalogError> {
    for _ in 0..READ_ATTEMPTS {
        let generation = generation(store)?;
        if generation == Generation::default() {
            return Ok((generation, Modules::new()));
        }
        let path = path(store, generation);
        match fs::read(&path) {
            Ok(json) => return Ok((generation, parse(path, &json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &path)(error).into()),
        }
    }
    Err(CatalogError::Unsettled {
        attempts: READ_ATTEMPTS,
    })
}

fn parse(path: PathBuf, json: &[u8]) -> Result<Modules, CatalogError> {
    let file: File =
        serde_json::from_slice(json).map_err(|source| CatalogError::Unreadable { path, source })?;
    Ok(file
        .modules
        .into_iter()
        .map(|module| (module.name.clone(), module))
        .collect())
}

/// Writes the state that follows `after`. The caller holds the exclusive lock, under which it read
/// `after`.
pub(crate) fn write(
    store: &Store,
    after: Generation,
    modules: &Modules,
    _lock: &Lock,
) -> Result<(), CatalogError> {
    let next = Generation(after.0.saturating_add(1));
    let path = path(store, next);
    let file = File {
        modules: modules.values().cloned().collect(),
    };
    let json = serde_json::to_vec_pretty(&file).map_err(|source| CatalogError::Unreadable {
        path: path.clone(),
        source,
    })?;
    store.write(&path, &json)?;
    for old in generations(store)? {
        if old.saturating_add(STATES_KEPT) < next.0 {
            remove_file(&self::path(store, Generation(old)))?;
        }
    }
    Ok(())
}

fn path(store: &Store, Generation(number): Generation) -> PathBuf {
    store.catalog_folder().join(format!("{number:08}.json"))
}
