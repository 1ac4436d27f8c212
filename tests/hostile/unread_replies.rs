//! Attack: keep connections open: ask, and never read nor drop the answer.

use wasip2::http::types::Fields;

#[petiole::task]
fn attack(authority: String, count: u32) -> u32 {
    let replies: Vec<_> = (0..count)
        .map(|_| hostile::get(&authority, "/endless", Fields::new()))
        .collect();
    let open = replies.iter().filter(|reply| reply.is_ok()).count();
    std::mem::forget(replies);
    open as u32
}
