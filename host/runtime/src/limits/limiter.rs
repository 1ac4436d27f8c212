//! Bounds the memories of a sandbox together, and its tables; what it may have comes out of the budget of all.

use async_trait::async_trait;
use petiole_permits::{Limit, Limits};
use wasmtime::ResourceLimiterAsync;

use crate::code::engine::{TABLE_ELEMENTS, table_memory};
use crate::limits::budget::held::Held;
use crate::limits::exceeded::LimitExceeded;

/// The most that memories and tables may take together, in bytes.
pub(crate) fn claim(limits: &Limits) -> usize {
    limits
        .memory
        .saturating_add(table_memory(limits.table_elements))
}

/// Counts what a sandbox has, and denies what goes over.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Account,
    table: Account,
    pub(crate) held: Held,
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
    /// The last growth that was granted: taken back if it fails after all.
    granted: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, held: Held) -> Self {
        Self {
            memory: Account::new(limits.memory, limits.memory),
            table: Account::new(limits.table_elements, TABLE_ELEMENTS),
            held,
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

    /// The last growth that was granted.
    fn take_back(&mut self) -> usize {
        let granted = std::mem::take(&mut self.granted);
        self.used = self.used.saturating_sub(granted);
        granted
    }
}

/// A growth over a limit of the task's own is denied, which is `memory.grow`'s -1: an interpreter may survive it by
/// collecting garbage. One within its limits waits until the budget has as much.
#[async_trait]
impl ResourceLimiterAsync for Limiter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match self.memory.grow(current, desired) {
            Ok(()) => {
                self.held.grow(self.memory.granted).await?;
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
        let denied = self.memory.take_back();
        self.held.shrink(denied);
        Ok(())
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match self.table.grow(current, desired) {
            Ok(()) => {
                self.held.grow(table_memory(self.table.granted)).await?;
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
        let denied = self.table.take_back();
        self.held.shrink(table_memory(denied));
        Ok(())
    }
}
