//! Attack: name a class of the caller's own Python as the exception, so that reading the result calls it.

use petiole::Error;

#[petiole::task]
fn attack(module: String, class: String, argument: String) -> Result<(), Error> {
    let Error::Fail(mut failure) = Error::fail(class, argument) else {
        return Ok(());
    };
    failure.exc_module = Some(module);
    Err(Error::Fail(failure))
}
