//! The wasmtime engine, set up for one short-lived sandbox per task.

use std::time::Duration;

use rustix::io::Errno;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, OptLevel, OutOfMemory, PoolingAllocationConfig,
};

/// The most that one component may be made of. Componentized Python has at least 14 core instances; each
/// memory slot takes 4 GiB of address space.
const CORE_INSTANCES: u32 = 32;
const MEMORIES: u32 = 4;
const TABLES: u32 = 8;
/// The elements of one table. An interpreter has some ten thousand.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;
/// And what each of them takes, in bytes.
const TABLE_ELEMENT: usize = 8;

/// Memory that stays mapped between two tasks in a slot; above it, pages go back to the kernel.
const MEMORY_KEEP_RESIDENT: usize = 128 * 1024;
const TABLE_KEEP_RESIDENT: usize = 64 * 1024;
const STACK_KEEP_RESIDENT: usize = 8 * 1024;

/// The guest's stack; wasmtime's default of 512 KiB is little for interpreters.
const WASM_STACK: usize = 1024 * 1024;
/// The fiber's stack: the guest's, and at least as much again for the host functions it calls.
const ASYNC_STACK: usize = 2 * WASM_STACK;

/// The time that a guest which spins runs before it lets others run.
const TICK: Duration = Duration::from_millis(1);

/// Memory mappings that a busy slot may need, and those of the rest of the process.
const MAPPINGS_PER_SLOT: u32 = 8;
const MAPPINGS_OF_PROCESS: u32 = 8_192;

/// Memory of tables by the number of their elements, in bytes.
pub(crate) fn table_memory(elements: usize) -> usize {
    elements.saturating_mul(TABLE_ELEMENT)
}

/// True if the operating system is behind an error, not the component: no memory, no descriptors, a file that can't be
/// read.
pub(crate) fn is_of_system(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<std::io::Error>() || cause.is::<Errno>() || cause.is::<OutOfMemory>()
    })
}

/// Size of the sandbox pool. One number sizes pool and slots, so that an exhausted pool is a bug.
#[derive(Debug, Clone, Copy)]
pub struct PoolSize {
    /// The most tasks that run at once.
    pub slots: u32,
    /// The largest memory any task may be given, in bytes; 4 GiB at most.
    pub max_memory: usize,
    /// The budget for the memory of all of them together, in bytes.
    pub budget: usize,
    /// The number of them that share the memory which results are read with: as many as compute at once, which is one for each processor.
    pub readers: usize,
}

/// The sandbox pool can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The kernel allows fewer memory mappings than that many sandboxes need; past them the process
    /// hangs.
    #[error(
        "{slots} slots need up to {need} memory mappings, the kernel allows {have}: \
         lower the concurrency, or run `sysctl -w vm.max_map_count={need}`"
    )]
    Mappings {
        /// As configured.
        slots: u32,
        /// The mappings they need.
        need: u32,
        /// `vm.max_map_count`.
        have: u32,
    },
    /// wasmtime refuses the configuration, or there is no address space for the pool.
    #[error(
        "can't set up {slots} sandboxes: {reason}: lower the concurrency, or allow the process more address space \
         (`ulimit -v`)"
    )]
    Engine {
        /// As configured.
        slots: u32,
        /// wasmtime's words.
        reason: String,
    },
    /// The operating system does not start the thread that ticks.
    #[error("can't start the epoch thread: {0}")]
    Ticker(#[source] std::io::Error),
}

/// An engine that runs tasks, ticked until it is dropped.
pub(crate) fn pooled(size: PoolSize) -> Result<Engine, RuntimeError> {
    check_mappings(size.slots)?;
    let mut config = config();
    config.allocation_strategy(pool(size));
    let engine = Engine::new(&config).map_err(|error| RuntimeError::Engine {
        slots: size.slots,
        reason: format!("{error:#}"),
    })?;
    tick(engine.weak()).map_err(RuntimeError::Ticker)?;
    Ok(engine)
}

/// An engine that compiles what a [`pooled`] one runs, without its pool.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// The settings that compiled code depends on.
///
/// Memories are reserved whole with guards around them, tables are checked, and loads are masked against
/// speculation (Spectre): all are wasmtime's defaults, and none is touched here.
fn config() -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        // everything that a task left on its stack is gone before another has it, and its pages too
        .async_stack_zeroing(true)
        .memory_init_cow(true)
        .concurrency_support(false);
    features(&mut config);
    config
}

/// Features that no toolchain needs for the components that run here are off: code that is not compiled has no bugs.
/// Several memories stay on, as components that are composed of others copy between theirs; so do tail calls
/// and SIMD, which languages use.
fn features(config: &mut Config) {
    config
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        // wasmtime tells the limiter of growths of these that fail before it asks
        .wasm_custom_page_sizes(false)
        // the same result on every CPU, and no sign of which one it is
        .relaxed_simd_deterministic(true);
}

fn pool(size: PoolSize) -> PoolingAllocationConfig {
    let slots = size.slots;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MEMORIES))
        .total_tables(slots.saturating_mul(TABLES))
        .total_stacks(slots)
        .total_gc_heaps(slots)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(size.max_memory)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT)
        .pagemap_scan(scan());
    pool
}

/// The search of a slot for the pages that a task wrote, instead of giving it back whole.
///
/// wasmtime 48 finds pages in memory alone: one that the kernel has swapped out would keep what a task wrote,
/// for the next task to read. A list that can't be read may have swaps.
fn scan() -> Enabled {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(swaps) if !has_swap(&swaps) => Enabled::Auto,
        _ => Enabled::No,
    }
}

/// The list has a line of headings, then one for each swap.
fn has_swap(swaps: &str) -> bool {
    swaps.lines().count() > 1
}

fn check_mappings(slots: u32) -> Result<(), RuntimeError> {
    let need = slots
        .saturating_mul(MAPPINGS_PER_SLOT)
        .saturating_add(MAPPINGS_OF_PROCESS);
    let have = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    match have.ok().and_then(|text| text.trim().parse().ok()) {
        Some(have) if have < need => Err(RuntimeError::Mappings { slots, need, have }),
        // other kernels have no such limit
        _ => Ok(()),
    }
}

/// A thread of its own: a runtime whose workers are all busy would not tick.
fn tick(engine: EngineWeak) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("petiole-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::has_swap;

    #[test]
    fn a_machine_has_swap_where_the_list_has_more_than_headings() {
        let headings = "Filename\t\t\tType\t\tSize\tUsed\tPriority\n";
        assert!(!has_swap(headings));
        assert!(has_swap(&format!(
            "{headings}/dev/zram0 partition 262140 0 -2\n"
        )));
    }
}
