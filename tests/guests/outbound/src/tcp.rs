//! Connections, by Rust's standard library.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

/// Connects to `host:port`, writes a line, and returns all that comes back. The error is its kind.
#[petiole::task]
fn talk(address: String, line: String) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(kind)?;
    writeln!(stream, "{line}").map_err(kind)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(kind)?;
    Ok(answer)
}

/// The addresses of `host:port`.
#[petiole::task]
fn look_up(address: String) -> Result<Vec<String>, String> {
    let addresses = address.to_socket_addrs().map_err(kind)?;
    Ok(addresses.map(|address| address.to_string()).collect())
}

/// Connects this many times, and keeps every connection; returns how many there were before the first error.
#[petiole::task]
fn keep_open(address: String, connections: u32) -> Result<u32, (u32, String)> {
    let mut open = Vec::new();
    for n in 0..connections {
        open.push(TcpStream::connect(&address).map_err(|error| (n, kind(error)))?);
    }
    Ok(connections)
}

/// The outcomes of listening and of UDP.
#[petiole::task]
fn serve() -> Vec<String> {
    let outcome = |error: Option<std::io::Error>| error.map_or("allowed".to_owned(), kind);
    vec![
        outcome(TcpListener::bind("0.0.0.0:0").err()),
        outcome(TcpListener::bind("127.0.0.1:0").err()),
        outcome(UdpSocket::bind("0.0.0.0:0").err()),
    ]
}

fn kind(error: std::io::Error) -> String {
    match format!("{:?}", error.kind()).as_str() {
        "Other" | "Uncategorized" => error.to_string(),
        kind => kind.to_owned(),
    }
}
