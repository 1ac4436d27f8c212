//! Tasks that do what no task should, or take what they can.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole::Error;

/// Panics.
#[petiole::task]
fn trap() {
    panic!("probe was told to trap");
}

/// Never ends.
#[petiole::task]
fn spin() {
    loop {
        black_box(());
    }
}

/// Calls itself until the stack ends.
#[petiole::task]
fn recurse(depth: u64) -> u64 {
    if depth == 0 {
        0
    } else {
        black_box(recurse(black_box(depth - 1))) + 1
    }
}

/// Sleeps.
#[petiole::task]
fn sleep_ms(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Sleeps; its result is when it began and ended, in milliseconds since the Unix epoch.
#[petiole::task]
fn sleep_between(ms: u64) -> (u64, u64) {
    let began = unix_ms();
    std::thread::sleep(Duration::from_millis(ms));
    (began, unix_ms())
}

fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Computes for about this many milliseconds, without giving way.
#[petiole::task]
fn compute_ms(ms: u64) -> u64 {
    let start = std::time::Instant::now();
    let mut rounds = 0_u64;
    while start.elapsed() < Duration::from_millis(ms) {
        rounds = black_box(rounds + 1);
    }
    rounds
}

/// Takes this many MiB of memory, and writes to every page.
#[petiole::task]
fn eat_memory(mib: u32) -> u32 {
    let blocks: Vec<Vec<u8>> = (0..mib).map(|_| black_box(vec![1; 1 << 20])).collect();
    black_box(blocks).len().try_into().unwrap_or(u32::MAX)
}

/// Returns this many bytes.
#[petiole::task]
fn large_result(bytes: u32) -> Result<String, Error> {
    Ok("x".repeat(usize::try_from(bytes)?))
}

/// Prints this many lines, and logs as many.
#[petiole::task]
fn log_lines(n: u32) -> u32 {
    for line in 0..n {
        println!("printed line {line}");
        petiole::log::info(format!("logged line {line}"));
    }
    n
}

/// Prints one line to each output, with a control character.
#[petiole::task]
fn print_streams(text: String) {
    println!("out: {text}\u{1b}[31m");
    eprintln!("err: {text}");
}

/// Connects this often; its result is the outcome of the last attempt.
#[petiole::task]
fn connect_to(address: String, times: u32) -> String {
    let mut last = String::new();
    for _ in 0..times {
        last = outcome(std::net::TcpStream::connect(&address));
    }
    last
}

/// Writes this many bytes to a file, in pieces.
#[petiole::task]
fn write_file(path: String, bytes: u32) -> Result<u32, Error> {
    use std::io::Write;

    let mut file = std::fs::File::create(path)?;
    for start in (0..bytes).step_by(4096) {
        let size = bytes.saturating_sub(start).min(4096);
        file.write_all(&vec![1; usize::try_from(size)?])?;
    }
    Ok(bytes)
}

/// Returns what the sandbox shows: environment variables, arguments, and the outcome of opening a file, a
/// folder and sockets.
#[petiole::task]
fn look_around() -> Vec<(String, String)> {
    let seen = |name: &str, value: String| (name.to_owned(), value);
    vec![
        seen("env", format!("{:?}", std::env::vars().collect::<Vec<_>>())),
        seen(
            "args",
            format!("{:?}", std::env::args().skip(1).collect::<Vec<_>>()),
        ),
        seen("file", outcome(std::fs::read("/etc/passwd"))),
        seen("folder", outcome(std::fs::read_dir("/"))),
        seen("tcp", outcome(std::net::TcpStream::connect("127.0.0.1:1"))),
        seen("udp", outcome(std::net::UdpSocket::bind("127.0.0.1:0"))),
    ]
}

fn outcome<T>(result: std::io::Result<T>) -> String {
    result.map_or_else(
        |error| format!("{:?}", error.kind()),
        |_| "allowed".to_owned(),
    )
}
