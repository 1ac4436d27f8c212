//! `wasi:random`, within the task's limit.

use std::sync::Arc;

use wasmtime::component::HasData;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::random::WasiRandomCtx;

use crate::limits::meter::Meter;

/// Every number is counted on the meter before it is made.
pub(crate) struct Random<'a> {
    pub(crate) numbers: &'a mut WasiRandomCtx,
    pub(crate) meter: Arc<Meter>,
}

pub(crate) struct HasRandom;

impl HasData for HasRandom {
    type Data<'a> = Random<'a>;
}

impl random::Host for Random<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.counts.random(len)?;
        self.numbers.get_random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.meter.counts.random(8)?;
        self.numbers.get_random_u64()
    }
}

impl insecure::Host for Random<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.counts.random(len)?;
        self.numbers.get_insecure_random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.meter.counts.random(8)?;
        self.numbers.get_insecure_random_u64()
    }
}

impl insecure_seed::Host for Random<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.numbers.insecure_seed()
    }
}
