//! Attack: rebinding: look a granted name up, and dial what it does not lead to: other addresses, its address at other
//! ports, its address without its name. A name that leads elsewhere the second time takes a resolver of one's own:
//! `host/runtime/tests/runtime/egress/http.rs`, `a_name_is_looked_up_once_and_the_checked_address_dialled`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

/// Beside the name's own address, at its port.
const OTHERS: [&str; 5] = [
    "127.0.0.2",
    "127.1.1.1",
    "0.0.0.0",
    "[::1]",
    "[::127.0.0.1]",
];

/// Returns the connections that were not refused. The name has the address 127.0.0.1, and `granted` is its port.
#[petiole::task]
fn attack(name: String, granted: u16, forbidden: u16) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut dial = |address: String| match TcpStream::connect(&address) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        other => done.push(format!("{address}: {other:?}")),
    };
    // before the name was looked up
    dial(format!("127.0.0.1:{granted}"));
    for _ in 0..10 {
        let found = (name.as_str(), granted).to_socket_addrs();
        let found: Vec<_> = found.map_err(|error| error.to_string())?.collect();
        if found != [SocketAddr::from(([127, 0, 0, 1], granted))] {
            return Err(format!("{name} leads to {found:?}"));
        }
        for other in OTHERS {
            dial(format!("{other}:{granted}"));
        }
        dial(format!("127.0.0.1:{forbidden}"));
    }
    // what was looked up for TCP is no grant of HTTP
    let by_address = hostile::outcome(&format!("127.0.0.1:{granted}"));
    if !by_address.ends_with("HttpRequestDenied") {
        done.push(format!("http 127.0.0.1: {by_address}"));
    }
    let by_name = TcpStream::connect((name.as_str(), granted));
    by_name.map_err(|error| format!("{name} itself: {error}"))?;
    match hostile::outcome(&format!("{name}:{granted}")).as_str() {
        "200" => Ok(done),
        other => Err(format!("{name} itself: {other}")),
    }
}
