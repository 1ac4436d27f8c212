//! The time that a call has used so far, on the clock and on a CPU, held against its limits.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use petiole_permits::{Limit, Limits};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::limits::budget::reading::Reading;
use crate::limits::budget::waits::Waits;
use crate::limits::counts::Counts;
use crate::limits::exceeded::LimitExceeded;
use crate::limits::off_the_executor::off_the_executor;

/// Longer than a guest that computes stays in a poll. It gives the thread back at a tick, every millisecond,
/// which is late by a slice of the kernel's scheduler, 4 ms, where every CPU is busy. One that stays longer is in
/// an operation without a pause: bulk memory, or an argument of a host call.
const LONG_POLL: Duration = Duration::from_millis(5);

/// While a call waits for memory its time stands still, and whether it has passed is looked at so often.
const STANDSTILL: Duration = Duration::from_millis(100);

/// Time and counts of one call, and its limits. Its store, its future and its streams share it.
///
/// The numbers need no order among each other: each is right by itself.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    /// `task[id]`, for the warning; none where there is no soft limit.
    name: Option<String>,
    started: Instant,
    /// For memory, no longer than its time limit.
    pub(crate) waits: Arc<Waits>,
    /// Time on a CPU in the polls that have ended, in nanoseconds.
    cpu: AtomicU64,
    /// The clock when the current poll began. Only what runs in that poll may ask for it.
    poll: AtomicU64,
    /// Polls are measured by the thread's CPU clock.
    exact: AtomicBool,
    warned: AtomicBool,
    pub(crate) counts: Counts,
}

impl Meter {
    /// For a call that starts now. `task`, `id`: what a warning names.
    pub(crate) fn new(limits: Limits, task: &str, id: &str) -> Self {
        let soft = limits.soft_time.or(limits.soft_cpu_time);
        Self {
            limits,
            name: soft.map(|_| format!("{task}[{id}]")),
            started: Instant::now(),
            waits: Arc::new(Waits::new(limits.time)),
            cpu: AtomicU64::new(0),
            poll: AtomicU64::new(0),
            exact: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            counts: Counts::new(limits),
        }
    }

    /// Runs `run` on the meter, and ends it as soon as the call is over a limit. `long`: whether it may be long
    /// at work without a pause. `reading`: what its result is read with, which it has at the end.
    pub(crate) async fn run<T>(
        &self,
        run: impl Future<Output = wasmtime::Result<T>>,
        long: bool,
        reading: &mut Reading,
    ) -> wasmtime::Result<T> {
        let Limits {
            time, soft_time, ..
        } = self.limits;
        let mut run = pin!(self.metered(run, long, reading));
        if let Some(soft) = soft_time.filter(|soft| *soft < time) {
            tokio::select! {
                biased;
                ended = run.as_mut() => return ended,
                () = self.passed(soft) => self.warn(),
            }
        }
        tokio::select! {
            biased;
            ended = run => ended,
            () = self.passed(time) => Err(LimitExceeded::time(Limit::Time, time, self.time()).into()),
        }
    }

    /// Returns when the call has had the time of its limit.
    async fn passed(&self, limit: Duration) {
        loop {
            let left = limit.saturating_sub(self.time());
            if left.is_zero() {
                return;
            }
            let least = if self.waits.are_on() {
                STANDSTILL
            } else {
                Duration::ZERO
            };
            sleep(left.max(least)).await;
        }
    }

    /// Adds up the time on a CPU poll by poll. A guest that computes gives the thread back at each tick of the
    /// engine's epoch, so that what is over a limit is seen a tick later; in an operation without a pause, when it
    /// ends. Once a guest is found to have been in one, its thread's other tasks go to another thread while it
    /// runs.
    async fn metered<T>(
        &self,
        run: impl Future<Output = wasmtime::Result<T>>,
        mut long: bool,
        reading: &mut Reading,
    ) -> wasmtime::Result<T> {
        let mut run = pin!(run);
        let mut next_long = long;
        self.exact.store(long, Relaxed);
        loop {
            reading.enter().await?;
            let polled = poll_fn(|cx| {
                self.poll.store(self.clock(), Relaxed);
                Poll::Ready(off_the_executor(next_long, || run.as_mut().poll(cx)))
            });
            let polled = polled.await;
            let (used, exact) = (self.since_poll(), self.exact.swap(true, Relaxed));
            self.cpu.fetch_add(charged(used, exact), Relaxed);
            // by the wall clock it may as well have been the kernel that kept the guest waiting
            let over = used > LONG_POLL;
            long |= over && exact;
            next_long = long || over;
            if let Poll::Ready(ended) = polled {
                return ended;
            }
            reading.leave();
            self.check(self.cpu())?;
            woken().await;
        }
    }

    /// As at the end of a poll, from within one: an error here has the guest's stack.
    pub(crate) fn tick(&self) -> Result<(), LimitExceeded> {
        self.check(self.cpu_in_poll())
    }

    fn check(&self, cpu: Duration) -> Result<(), LimitExceeded> {
        let limits = &self.limits;
        if self.soft_limit_passed(cpu) {
            self.warn();
        }
        if cpu > limits.cpu_time {
            return Err(LimitExceeded::time(Limit::CpuTime, limits.cpu_time, cpu));
        }
        let time = self.time();
        if time > limits.time {
            return Err(LimitExceeded::time(Limit::Time, limits.time, time));
        }
        self.counts.check()
    }

    /// Since the call's start.
    pub(crate) fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    /// The same without the waits for memory: what its limits are for.
    fn time(&self) -> Duration {
        self.wall().saturating_sub(self.waits.so_far())
    }

    /// Time on a CPU in the polls that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Relaxed))
    }

    /// The same with the current poll.
    fn cpu_in_poll(&self) -> Duration {
        let poll = charged(self.since_poll(), self.exact.load(Relaxed));
        self.cpu().saturating_add(Duration::from_nanos(poll))
    }

    /// Since the current poll began.
    fn since_poll(&self) -> Duration {
        Duration::from_nanos(self.clock().saturating_sub(self.poll.load(Relaxed)))
    }

    /// In nanoseconds. The thread's CPU clock takes a system call, 0.8 us of some 8 us that a small task takes in
    /// all. So the first poll, which most tasks end in, is measured by the wall clock, unless it is known to be
    /// long.
    fn clock(&self) -> u64 {
        let now = match self.exact.load(Relaxed) {
            false => self.wall(),
            true => Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default(),
        };
        nanos(now)
    }

    /// True once the guest has passed a soft limit. To be asked by what runs in a poll.
    pub(crate) fn soft_limit_reached(&self) -> bool {
        let passed = self.name.is_some() && self.soft_limit_passed(self.cpu_in_poll());
        if passed {
            self.warn();
        }
        passed
    }

    fn soft_limit_passed(&self, cpu: Duration) -> bool {
        let Limits {
            soft_time,
            soft_cpu_time,
            ..
        } = self.limits;
        soft_cpu_time.is_some_and(|soft| cpu >= soft)
            || soft_time.is_some_and(|soft| self.time() >= soft)
    }

    /// Celery's warning (`celery.worker.request`, `on_timeout`), once.
    pub(crate) fn warn(&self) {
        let Some(name) = self.name.as_deref() else {
            return;
        };
        if self.warned.swap(true, Relaxed) {
            return;
        }
        let Limits {
            soft_time,
            soft_cpu_time,
            ..
        } = self.limits;
        let wall = soft_time.filter(|soft| self.time() >= *soft);
        match (wall, soft_cpu_time) {
            (Some(soft), _) => {
                tracing::warn!(target: "petiole", "Soft time limit ({}s) exceeded for {name}", soft.as_secs_f64());
            }
            (None, Some(soft)) => {
                tracing::warn!(target: "petiole", "Soft CPU time limit ({}s) exceeded for {name}", soft.as_secs_f64());
            }
            (None, None) => {}
        }
    }
}

/// Waits for whatever the task's waker was given to last.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| match std::mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// The time on a CPU of a poll, in nanoseconds. By the wall clock it is one of [`LONG_POLL`] at most: the thread
/// may have stood still for long (a cgroup's quota, a busy machine), and that must not end a task whose limit is
/// small. What a long operation in a first poll takes beyond it is not charged.
fn charged(used: Duration, exact: bool) -> u64 {
    nanos(if exact { used } else { used.min(LONG_POLL) })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::thread::sleep;

    use tokio::task::yield_now;

    use super::*;
    use crate::limits::budget::Budget;

    fn meter(cpu_time: Duration) -> Meter {
        let limits = Limits {
            cpu_time,
            time: Duration::from_secs(60),
            ..Limits::DEFAULTS
        };
        Meter::new(limits, "task", "id")
    }

    fn none() -> Reading {
        Budget::new(0, 1, 1).reading(0, &Arc::new(Waits::new(Duration::ZERO)))
    }

    /// As under a cgroup's quota.
    #[tokio::test]
    async fn a_thread_that_stands_still_uses_no_cpu_time() {
        let meter = meter(LONG_POLL * 2);
        let polls = async {
            for _ in 0..3 {
                sleep(LONG_POLL * 4);
                meter.tick()?;
                yield_now().await;
            }
            Ok(())
        };
        meter.run(polls, false, &mut none()).await.unwrap();
        assert!(meter.cpu() < LONG_POLL * 2, "{:?}", meter.cpu());
    }

    #[tokio::test]
    async fn a_time_limit_does_not_run_while_a_call_waits_for_memory() {
        let mut meter = meter(Duration::from_secs(60));
        meter.limits.time = Duration::from_secs(1);
        meter.waits = Arc::new(Waits::new(Duration::from_secs(60)));
        let run = async {
            let wait = tokio::time::sleep(meter.limits.time * 2);
            Ok(meter.waits.wait(wait).await?)
        };
        meter.run(run, false, &mut none()).await.unwrap();
        assert!(meter.wall() > meter.limits.time);
    }

    #[tokio::test]
    async fn what_is_known_to_be_long_is_measured_from_the_start() {
        let meter = meter(Duration::from_secs(60));
        let polls = async {
            let started = Instant::now();
            while started.elapsed() < LONG_POLL * 10 {}
            Ok(())
        };
        meter.run(polls, true, &mut none()).await.unwrap();
        assert!(meter.cpu() > LONG_POLL, "{:?}", meter.cpu());
    }
}
