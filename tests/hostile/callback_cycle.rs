//! Attack: be the callback of one's own callback, and the errback of one's own failure, for ever.

use petiole::{Error, Json, Signature};

#[petiole::task]
fn attack(counter: String, fail: bool, _result: Option<Json>) -> Result<String, Error> {
    let me = || {
        Signature::new(petiole::context().task)
            .arg(&counter)
            .immutable()
    };
    let child = me()
        .arg(fail)
        .link(me().arg(false))
        .link_error(me().arg(true));
    petiole::send(child)?;
    println!("FORKED {counter}");
    Ok(counter)
}
