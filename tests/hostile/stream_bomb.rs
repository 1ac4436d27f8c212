//! Attack: take output streams of the host's, and never give one back.

#[petiole::task]
fn attack() {
    loop {
        std::mem::forget(wasip2::cli::stdout::get_stdout());
    }
}
