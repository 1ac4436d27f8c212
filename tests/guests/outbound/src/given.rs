//! Things that the host gives without being asked: variables, clocks, random numbers, a log.

use std::time::{Duration, Instant, SystemTime};

use petiole::Error;

/// Every environment variable.
#[petiole::task]
fn variables() -> Vec<(String, String)> {
    std::env::vars().collect()
}

/// The wall clock in milliseconds, and the progress of each clock while the task sleeps for this long.
#[petiole::task]
fn clocks(sleep_ms: u64) -> (u64, u64, u64) {
    let (wall, monotonic) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_millis(sleep_ms));
    (
        ms(wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()),
        ms(wall.elapsed().unwrap_or_default()),
        ms(monotonic.elapsed()),
    )
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Numbers of each kind.
#[petiole::task]
fn numbers() -> Vec<u64> {
    use wasip2::random::{insecure, insecure_seed, random};
    let (a, b) = insecure_seed::insecure_seed();
    vec![
        random::get_random_u64(),
        random::get_random_u64(),
        insecure::get_insecure_random_u64(),
        a,
        b,
    ]
}

/// Writes a variable's value to every log there is, in one piece and in two, and fails with it.
#[petiole::task]
fn tell(name: String) -> Result<(), Error> {
    let value = std::env::var(&name)?;
    println!("printed {value}.");
    eprint!("cut {}", "-".repeat(8187));
    eprintln!("{value}.");
    petiole::log::warn(format!("logged {value}."));
    Err(Error::fail("ValueError", format!("{value} is wrong")))
}

/// A variable's value as the task's result.
#[petiole::task]
fn reveal(name: String) -> Option<String> {
    std::env::var(name).ok()
}
