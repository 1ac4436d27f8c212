//! Attack: let a server that one may ask send one on to a server that one may not.

use wasip2::http::types::Fields;

/// The first answer's status, and what became of following it.
#[petiole::task]
fn attack(authority: String) -> Vec<String> {
    let reply = match hostile::get(&authority, "/redirect", Fields::new()) {
        Ok(reply) => reply,
        Err(reason) => return vec![reason],
    };
    let location = reply.headers().get("location").concat();
    let location = String::from_utf8_lossy(&location).into_owned();
    let next = location.trim_start_matches("http://").trim_end_matches('/');
    vec![reply.status().to_string(), hostile::outcome(next)]
}
