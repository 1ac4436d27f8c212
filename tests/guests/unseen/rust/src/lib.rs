//! A module that nobody wrote for Petiole: the standard library, and a component by `wit-bindgen`.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

wit_bindgen::generate!({ path: "../unseen.wit" });

struct Unseen;

export!(Unseen);

impl Guest for Unseen {
    fn look_around() -> Vec<(String, String)> {
        println!("printed\nin two lines");
        eprintln!("printed as an error");
        let seen = [
            ("hash map", count("one two one")["one"].to_string()),
            ("year", year().to_string()),
            ("sleep", slept(Duration::from_millis(5)).to_string()),
            ("environment", std::env::vars().count().to_string()),
            ("arguments", std::env::args().count().to_string()),
            ("read a file", outcome(File::open("/etc/passwd"))),
            ("write a file", outcome(fs::write("/tmp/file", "text"))),
            ("list a folder", outcome(fs::read_dir("/"))),
            ("working folder", outcome(fs::read_dir("."))),
            ("input", read_input().len().to_string()),
            ("thread", outcome(thread::Builder::new().spawn(|| ()))),
            ("process", outcome(Command::new("/bin/ls").spawn())),
            ("connect", outcome(TcpStream::connect("127.0.0.1:80"))),
            ("look up", outcome(("localhost", 80).to_socket_addrs())),
            ("datagram", outcome(UdpSocket::bind("127.0.0.1:0"))),
        ];
        seen.map(|(what, outcome)| (what.to_owned(), outcome))
            .into()
    }

    fn give_up(order: String) {
        panic!("order {order} has no lines");
    }
}

fn count(text: &str) -> HashMap<&str, u32> {
    let mut counts = HashMap::new();
    for word in text.split(' ') {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn year() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| 1970 + now.as_secs() / 31_556_952)
}

fn slept(time: Duration) -> bool {
    let start = Instant::now();
    thread::sleep(time);
    start.elapsed() >= time
}

fn read_input() -> String {
    let mut input = String::new();
    let _ = std::io::stdin().read_to_string(&mut input);
    input
}

fn outcome<T>(result: Result<T, impl Debug>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("refused: {error:?}"),
    }
}
