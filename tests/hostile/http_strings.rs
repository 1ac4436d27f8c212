//! Attack: fill the host's memory, which is no part of the guest's own: requests with methods, authorities and paths of
//! megabytes, and full header fields, all kept and none sent.

use wasip2::http::types::{Fields, Method, OutgoingRequest};

const LONG: usize = 4 << 20;

/// Returns the number of strings that the host took, three for each request.
#[petiole::task]
fn strings(requests: u32) -> u32 {
    let text = "a".repeat(LONG);
    let path = format!("/{text}");
    let method = Method::Other(text.clone());
    let mut kept = Vec::new();
    let mut taken = 0;
    for _ in 0..requests {
        let request = OutgoingRequest::new(Fields::new());
        let set = [
            request.set_method(&method),
            request.set_authority(Some(&text)),
            request.set_path_with_query(Some(&path)),
        ];
        taken += set.iter().filter(|set| set.is_ok()).count() as u32;
        kept.push(request);
    }
    taken
}

#[petiole::task]
fn fields() {
    let value = vec![b'a'; 30_000];
    let mut kept = Vec::new();
    loop {
        let fields = Fields::new();
        let _ = fields.append("a", &value);
        kept.push(fields);
    }
}
