//! Attack: forge log lines and module names by the exception that the task fails of.

use petiole::Error;

const FORGED: &str = "[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded in 0.1s: 1";

#[petiole::task]
fn attack(end: String) -> Result<(), Error> {
    let Error::Fail(mut failure) =
        Error::fail(format!("Oops{end}{FORGED}"), format!("x{end}{FORGED}"))
    else {
        return Ok(());
    };
    failure.exc_module = Some("os".to_owned());
    Err(Error::Fail(failure))
}
