//! Attack: read what the worker was started with: variables, arguments, input, files, the process's own environment.

use std::fmt::Debug;
use std::io::Read;

#[petiole::task]
fn attack() -> Vec<String> {
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    let mut seen = vec![
        format!("vars: {:?}", std::env::vars_os().collect::<Vec<_>>()),
        format!(
            "args: {:?}",
            std::env::args_os().skip(1).collect::<Vec<_>>()
        ),
        format!("stdin: {:?}", read.map(|_| input)),
        format!(
            "preopens: {}",
            wasip2::filesystem::preopens::get_directories().len()
        ),
        format!("cwd: {:?}", wasip2::cli::environment::initial_cwd()),
    ];
    for path in [
        "/proc/self/environ",
        "/etc/passwd",
        ".",
        "petiole.toml",
        "/dev/mem",
    ] {
        seen.push(format!("{path}: {}", tried(std::fs::read(path))));
    }
    seen
}

fn tried<T: Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("READ {value:?}"),
        Err(_) => "denied".to_owned(),
    }
}
