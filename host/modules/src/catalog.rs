use jiff::Timestamp;

use crate::catalog_file::{self, Generation, Modules};
use crate::{CatalogError, Digest, Module, ModuleName, Store, StoreError, Upload, VersionNumber};

/// Names the versions of a store's modules, and says which is active. Several processes may read and
/// change it at once; every change is whole, and on the disk when the call returns.
#[derive(Debug, Clone)]
pub struct Catalog {
    store: Store,
}

/// The catalog at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// To ask [`Catalog::changed_since`] with.
    pub generation: Generation,
    /// Sorted by name.
    pub modules: Vec<Module>,
}

impl Store {
    /// The catalog of this store.
    pub fn catalog(&self) -> Catalog {
        Catalog {
            store: self.clone(),
        }
    }
}

impl Catalog {
    /// Adds a version of a module, creating the module where it is new. It is not active yet. The
    /// same component with the same manifest is the version that it was before; a signature that comes with
    /// it takes the place of an earlier one. Beyond
    /// [`VERSIONS_KEPT`](crate::VERSIONS_KEPT), old ones are dropped; components that no version
    /// names any more are deleted from the store an hour after they were put there.
    ///
    /// # Errors
    /// When the component is not in the store, or the catalog can't be read or written.
    pub fn add(
        &self,
        name: &ModuleName,
        digest: Digest,
        size: u64,
        upload: Upload,
        now: Timestamp,
    ) -> Result<VersionNumber, CatalogError> {
        self.change(Some(now), |modules| {
            let path = self.store.path(&digest);
            if !path.exists() {
                return Err(StoreError::Missing { digest }.into());
            }
            let module = modules
                .entry(name.clone())
                .or_insert_with(|| Module::new(name.clone()));
            module.add(digest, size, upload, now)
        })
    }

    /// Makes a version the one that runs. `by` is who wants it so, as an audit says it.
    ///
    /// # Errors
    /// When there is no such version, or the catalog can't be read or written.
    pub fn activate(
        &self,
        name: &ModuleName,
        number: VersionNumber,
        by: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.change(None, |modules| {
            find(modules, name)?.activate(number, by, now)
        })
    }

    /// Makes the version active that was active before; again, the one before that.
    ///
    /// # Errors
    /// When there was none, or the catalog can't be read or written.
    pub fn rollback(
        &self,
        name: &ModuleName,
        by: &str,
        now: Timestamp,
    ) -> Result<VersionNumber, CatalogError> {
        self.change(None, |modules| find(modules, name)?.rollback(by, now))
    }

    /// Removes a version, or the whole module where no version is named. A version that is active
    /// is removed by `force` only, and then none is active. Components that no version names any more are
    /// deleted, as [`add`](Self::add) does.
    ///
    /// # Errors
    /// When there is no such module or version, it is active, or the catalog can't be read or written.
    pub fn remove(
        &self,
        name: &ModuleName,
        number: Option<VersionNumber>,
        force: bool,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.change(Some(now), |modules| {
            let module = find(modules, name)?;
            match number {
                Some(number) => module.remove(number, force)?,
                None => drop(modules.remove(name)),
            }
            Ok(())
        })
    }

    /// All modules, sorted by name.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub fn list(&self) -> Result<Vec<Module>, CatalogError> {
        Ok(self.snapshot()?.modules)
    }

    /// One module.
    ///
    /// # Errors
    /// When there is none of this name, or the catalog can't be read.
    pub fn show(&self, name: &ModuleName) -> Result<Module, CatalogError> {
        let (_, mut modules) = catalog_file::read(&self.store)?;
        modules
            .remove(name)
            .ok_or_else(|| CatalogError::UnknownModule { name: name.clone() })
    }

    /// All modules, and the token of this state.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub fn snapshot(&self) -> Result<Snapshot, CatalogError> {
        let (generation, modules) = catalog_file::read(&self.store)?;
        Ok(Snapshot {
            generation,
            modules: modules.into_values().collect(),
        })
    }

    /// The catalog, unless it is still the one that was seen. Cheap enough to be asked every second.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub fn changed_since(&self, seen: Generation) -> Result<Option<Snapshot>, CatalogError> {
        if catalog_file::generation(&self.store)? == seen {
            return Ok(None);
        }
        self.snapshot().map(Some)
    }

    /// Carries out a change under the store's lock; `collect` is the time at which components that
    /// no version names are looked for.
    fn change<T>(
        &self,
        collect: Option<Timestamp>,
        change: impl FnOnce(&mut Modules) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let lock = self.store.lock_exclusive()?;
        let (generation, before) = catalog_file::read(&self.store)?;
        let mut modules = before.clone();
        let answer = change(&mut modules)?;
        if modules != before {
            catalog_file::write(&self.store, generation, &modules, &lock)?;
        }
        if let Some(now) = collect {
            let named = modules
                .values()
                .flat_map(|module| &module.versions)
                .map(|version| version.digest)
                .collect();
            // The change is made; what could not be deleted is looked for again with the next one.
            let _ = self.store.collect(&named, now, &lock);
        }
        Ok(answer)
    }
}

fn find<'a>(modules: &'a mut Modules, name: &ModuleName) -> Result<&'a mut Module, CatalogError> {
    modules
        .get_mut(name)
        .ok_or_else(|| CatalogError::UnknownModule { name: name.clone() })
}
