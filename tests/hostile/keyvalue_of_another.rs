//! Attack: read and change what another module has stored, by bucket names and keys that lead there.

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
                        get: func(key: string) -> result<option<list<u8>>, error>;
                        set: func(key: string, value: list<u8>) -> result<_, error>;
                        delete: func(key: string) -> result<_, error>;
                    }
                }
            }",
        generate_all,
    });
}

use bindings::wasi::keyvalue::store::open;

const BUCKETS: [&str; 8] = [
    "",
    "default",
    "hostile.victim",
    "..",
    "petiole:kv:hostile.victim:",
    "*",
    "\0",
    "0",
];

/// Returns the keys under which something was found. The victim is the module `hostile.victim`, its key `secret`.
#[petiole::task]
fn attack() -> Vec<String> {
    let keys = [
        "secret",
        "petiole:kv:hostile.victim:secret",
        "../hostile.victim:secret",
        "..:hostile.victim:secret",
        "hostile.victim:secret",
        ":hostile.victim:secret",
        "*",
        "\0",
        "%",
        "' OR 1=1 --",
        "secret\0",
        "",
        "celery-task-meta-1",
        "\r\nGET petiole:kv:hostile.victim:secret\r\n",
    ];
    let mut found = Vec::new();
    for name in BUCKETS {
        let Ok(bucket) = open(name) else { continue };
        for key in keys {
            // what another attacker stores meanwhile is its own
            if let Ok(Some(value)) = bucket
                .get(key)
                .map(|value| value.filter(|value| value != b"owned"))
            {
                found.push(format!(
                    "{name:?} {key:?}: {}",
                    String::from_utf8_lossy(&value)
                ));
            }
            let _ = bucket.delete(key);
            let _ = bucket.set(key, b"owned");
            let _ = bucket.delete(key);
        }
    }
    found
}

/// The victim's own task: stores its secret.
#[petiole::task]
fn store(value: String) -> Result<(), String> {
    let bucket = open("default").map_err(|error| format!("{error:?}"))?;
    bucket
        .set("secret", value.as_bytes())
        .map_err(|error| format!("{error:?}"))
}

/// The victim's own task: returns what it finds.
#[petiole::task]
fn load() -> Result<Option<String>, String> {
    let bucket = open("default").map_err(|error| format!("{error:?}"))?;
    let value = bucket.get("secret").map_err(|error| format!("{error:?}"))?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}
