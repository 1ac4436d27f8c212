//! Bounds the memories of a sandbox together, and its tables.

use wasmtime::ResourceLimiter;

use crate::engine::TABLE_ELEMENTS;
use crate::limits::{Limit, LimitExceeded, Limits};

/// Counts what a sandbox has, and denies what goes over.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Account,
    table: Account,
    hit: Option<LimitExceeded>,
}

#[derive(Debug)]
struct Account {
    /// Of all together.
    limit: usize,
    /// Of each: what the pool has room for.
    limit_of_one: usize,
    used: usize,
    peak: usize,
    /// What was granted last: taken back if the growth fails after all.
    granted: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: Account::new(limits.memory, limits.memory),
            table: Account::new(limits.table_elements, TABLE_ELEMENTS),
            hit: None,
        }
    }

    /// The largest sum of the memories, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        self.memory.peak
    }

    /// The last denial, where no growth of its kind has succeeded since.
    pub(crate) fn hit(&self) -> Option<LimitExceeded> {
        self.hit
    }

    fn forget(&mut self, limit: Limit) {
        self.hit = self.hit.filter(|hit| hit.limit != limit);
    }
}

impl Account {
    fn new(limit: usize, limit_of_one: usize) -> Self {
        Self {
            limit,
            limit_of_one,
            used: 0,
            peak: 0,
            granted: 0,
        }
    }

    /// The limit and what was asked for, where that is over it.
    fn grow(&mut self, current: usize, desired: usize) -> Result<(), (usize, usize)> {
        self.granted = 0;
        let more = desired.saturating_sub(current);
        let sum = self.used.saturating_add(more);
        if sum > self.limit {
            return Err((self.limit, sum));
        }
        if desired > self.limit_of_one {
            return Err((self.limit_of_one, desired));
        }
        self.granted = more;
        self.used = sum;
        Ok(())
    }

    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.granted));
    }
}

/// A denied growth is `memory.grow`'s -1, which an interpreter may survive by collecting garbage.
impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match self.memory.grow(current, desired) {
            Ok(()) => {
                self.memory.peak = self.memory.peak.max(self.memory.used);
                self.forget(Limit::Memory);
                Ok(true)
            }
            Err((limit, asked)) => {
                self.hit = Some(LimitExceeded::new(Limit::Memory, limit, asked));
                Ok(false)
            }
        }
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match self.table.grow(current, desired) {
            Ok(()) => {
                self.forget(Limit::TableElements);
                Ok(true)
            }
            Err((limit, asked)) => {
                self.hit = Some(LimitExceeded::new(Limit::TableElements, limit, asked));
                Ok(false)
            }
        }
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.table.take_back();
        Ok(())
    }
}
