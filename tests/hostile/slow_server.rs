//! Attack: ask a server that takes the request and never answers, or a byte at a time, or never ends.

use wasip2::http::types::Fields;

#[petiole::task]
fn attack(authority: String, path: String) -> Result<u64, petiole::Error> {
    let reply = hostile::get(&authority, &path, Fields::new())
        .map_err(|reason| petiole::Error::fail("NoReply", reason))?;
    Ok(hostile::body(&reply).len() as u64)
}
