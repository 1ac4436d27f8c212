//! A task, and the two that are called back when it has succeeded or failed. Pushed as `my_app.tasks`:
//!
//! ```python
//! s = run_task.s(1000)
//! s.link(on_success_task.s())
//! s.link_error(on_error_task.s())
//! task_id = s.apply_async()
//! ```

use petiole::{Error, log};

/// `run_task` refuses more than this, so that the error callback can be seen too.
const MAX: u64 = 10_000_000;

/// The prime numbers up to a limit.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Report {
    /// The limit.
    up_to: u64,
    /// The number of them.
    count: u64,
    /// The largest of them.
    largest: Option<u64>,
    /// Their sum.
    sum: u64,
}

/// Counts the prime numbers up to n, which is at most ten million.
#[petiole::task]
fn run_task(n: u64) -> Result<Report, Error> {
    if n > MAX {
        return Err(Error::fail(
            "ValueError",
            format!("n is {n}, which is more than {MAX}"),
        ));
    }
    let primes = primes(usize::try_from(n)?);
    Ok(Report {
        up_to: n,
        count: primes.len().try_into()?,
        largest: primes.last().copied(),
        sum: primes.iter().sum(),
    })
}

/// Tells of a report: link it to run_task.
#[petiole::task]
fn on_success_task(report: Report) -> String {
    let text = match report.largest {
        None => format!("there is no prime number up to {}", report.up_to),
        Some(largest) => {
            format!(
                "{} prime numbers up to {}, the largest is {largest}",
                report.count, report.up_to
            )
        }
    };
    log::info(&text);
    text
}

/// Tells of a task that has failed: link it to run_task by link_error.
#[petiole::task]
fn on_error_task(task_id: String) -> String {
    let text = format!("task {task_id} has failed");
    log::error(&text);
    text
}

/// The sieve of Eratosthenes.
fn primes(n: usize) -> Vec<u64> {
    let mut composite = vec![false; n + 1];
    let mut primes = Vec::new();
    for number in 2..=n {
        if composite[number] {
            continue;
        }
        primes.push(number as u64);
        for multiple in (number * number..=n).step_by(number) {
            composite[multiple] = true;
        }
    }
    primes
}

#[cfg(test)]
mod tests {
    use super::*;
    use petiole::log::Level;
    use petiole::testing::{request, with_context};

    #[test]
    fn counts_primes() {
        let report = |up_to, count, largest, sum| {
            Ok(Report {
                up_to,
                count,
                largest,
                sum,
            })
        };
        assert_eq!(run_task(0), report(0, 0, None, 0));
        assert_eq!(run_task(10), report(10, 4, Some(7), 17));
        assert_eq!(run_task(1000), report(1000, 168, Some(997), 76_127));
    }

    #[test]
    fn refuses_too_much() {
        let error = Error::fail("ValueError", "n is 10000001, which is more than 10000000");
        assert_eq!(run_task(MAX + 1), Err(error));
    }

    #[test]
    fn callbacks_log_what_they_return() {
        let (text, seen) = with_context(request("my_app.tasks.on_error_task"), || {
            on_error_task("1f".into())
        });
        assert_eq!(text, "task 1f has failed");
        assert_eq!(seen.log, [(Level::Error, text)]);

        let report = Report {
            up_to: 10,
            count: 4,
            largest: Some(7),
            sum: 17,
        };
        assert_eq!(
            on_success_task(report),
            "4 prime numbers up to 10, the largest is 7"
        );
    }
}
