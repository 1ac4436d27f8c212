//! Attack: fill the worker's key-value storage, for which the task pays nothing.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package hostile:keyvalue;
            world guest { import wasi:keyvalue/store@0.2.0-draft2; }
            package wasi:keyvalue@0.2.0-draft2 {
                interface store {
                    variant error { no-such-store, access-denied, other(string) }
                    open: func(identifier: string) -> result<bucket, error>;
                    resource bucket {
                        set: func(key: string, value: list<u8>) -> result<_, error>;
                    }
                }
            }",
        generate_all,
    });
}

use bindings::wasi::keyvalue::store::open;

/// Stores values of this size, and returns how many of them were taken.
#[petiole::task]
fn attack(count: u32, bytes: u32) -> Result<u32, String> {
    let bucket = open("default").map_err(|error| format!("{error:?}"))?;
    let value = vec![1; bytes as usize];
    let taken = (0..count).filter(|number| bucket.set(&format!("flood-{number}"), &value).is_ok());
    Ok(taken.count() as u32)
}
