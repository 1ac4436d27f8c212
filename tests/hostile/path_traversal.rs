//! Attack: leave the folder one was given: by `..`, by absolute paths, by paths that only some readers take for such.

use std::fs;

const PATHS: [&str; 15] = [
    "/box/../canary",
    "/box/../../etc/passwd",
    "/box/inner/../../canary",
    "/box/./.././canary",
    "/box//..//canary",
    "/box/..",
    "/../etc/passwd",
    "/etc/passwd",
    "../canary",
    "etc/passwd",
    "/box/%2e%2e/canary",
    "/box/canary\0/../../canary",
    "//etc/passwd",
    "/proc/self/root/etc/passwd",
    "/box/\u{ff0e}\u{ff0e}/canary",
];

/// Returns the attempts to read, rename or make something outside that succeeded.
#[petiole::task]
fn attack() -> Vec<String> {
    let mut escapes = Vec::new();
    for path in PATHS {
        let mut tried = |what: &str, done: bool| {
            if done {
                escapes.push(format!("{what} {path:?}"));
            }
        };
        tried("read", fs::read(path).is_ok());
        tried("list", fs::read_dir(path).is_ok());
        tried("stat", fs::metadata(path).is_ok());
        tried("write", fs::write(path, "owned").is_ok());
        tried("remove", fs::remove_file(path).is_ok());
        tried("mkdir", fs::create_dir(format!("{path}/owned")).is_ok());
        let _ = fs::write("/box/mine", "mine");
        tried("rename out", fs::rename("/box/mine", path).is_ok());
        tried("rename in", fs::rename(path, "/box/theirs").is_ok());
        tried("link in", fs::hard_link(path, "/box/link").is_ok());
        tried("link out", fs::hard_link("/box/mine", path).is_ok());
    }
    escapes
}
