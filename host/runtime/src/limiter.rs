//! Bounds the memories of a sandbox together, and its tables.

use std::fmt::{self, Display, Formatter};

use wasmtime::ResourceLimiter;

/// The elements of all tables together.
const MAX_TABLE_ELEMENTS: usize = 400_000;

/// Counts what a sandbox has, and denies what goes over.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Account,
    table: Account,
    hit: Option<LimitHit>,
}

#[derive(Debug)]
struct Account {
    limit: usize,
    used: usize,
    peak: usize,
    /// What was granted last: taken back if the growth fails after all.
    granted: usize,
}

/// A limit that the guest was denied memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitHit {
    Memory { limit: usize, asked: usize },
    Table { limit: usize, asked: usize },
}

impl Limiter {
    /// `memory`: the limit in bytes.
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            memory: Account::new(memory),
            table: Account::new(MAX_TABLE_ELEMENTS),
            hit: None,
        }
    }

    /// The largest sum of the memories, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        self.memory.peak
    }

    /// The last denial.
    pub(crate) fn hit(&self) -> Option<LimitHit> {
        self.hit
    }
}

impl Account {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            peak: 0,
            granted: 0,
        }
    }

    /// The sum that was asked for, where it is over the limit.
    fn grow(&mut self, current: usize, desired: usize) -> Result<(), usize> {
        self.granted = 0;
        let more = desired.saturating_sub(current);
        let sum = self.used.saturating_add(more);
        if sum > self.limit {
            return Err(sum);
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
        let limit = self.memory.limit;
        match self.memory.grow(current, desired) {
            Ok(()) => {
                self.memory.peak = self.memory.peak.max(self.memory.used);
                Ok(true)
            }
            Err(asked) => {
                self.hit = Some(LimitHit::Memory { limit, asked });
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
        let limit = self.table.limit;
        match self.table.grow(current, desired) {
            Ok(()) => Ok(true),
            Err(asked) => {
                self.hit = Some(LimitHit::Table { limit, asked });
                Ok(false)
            }
        }
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.table.take_back();
        Ok(())
    }
}

impl Display for LimitHit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { limit, asked } => write!(
                f,
                "memory limit of {} exceeded: the task asked for {}",
                Bytes(*limit),
                Bytes(*asked)
            ),
            Self::Table { limit, asked } => {
                write!(
                    f,
                    "table limit of {limit} elements exceeded: the task asked for {asked}"
                )
            }
        }
    }
}

/// In the largest unit that divides it.
struct Bytes(usize);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        match self.0 {
            bytes if bytes % MIB == 0 => write!(f, "{} MiB", bytes / MIB),
            bytes if bytes % KIB == 0 => write!(f, "{} KiB", bytes / KIB),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
