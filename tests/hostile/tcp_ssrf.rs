//! Attack: the same with plain sockets, where every public host was granted: connect, listen, send datagrams and ask for
//! names.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

/// Returns the attempts that were not refused.
#[petiole::task]
fn attack(port: u16) -> Vec<String> {
    let mut done = Vec::new();
    let mut tried = |what: String, worked: bool| {
        if worked {
            done.push(what);
        }
    };
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "::127.0.0.1",
    ] {
        // a name is refused when it is looked up, and nothing may be dialled that then does not answer
        let refused = match TcpStream::connect((host, port)) {
            Ok(_) => false,
            Err(error) => host == "localhost" || error.kind() == ErrorKind::PermissionDenied,
        };
        tried(format!("connect {host}"), !refused);
        tried(
            format!("resolve {host}"),
            (host, port).to_socket_addrs().is_ok() && host == "localhost",
        );
    }
    tried(
        "listen".to_owned(),
        TcpListener::bind("127.0.0.1:0").is_ok(),
    );
    tried(
        "listen on all".to_owned(),
        TcpListener::bind("0.0.0.0:0").is_ok(),
    );
    if let Ok(socket) = UdpSocket::bind("0.0.0.0:0") {
        tried("bind udp".to_owned(), true);
        tried(
            "send udp".to_owned(),
            socket.send_to(b"x", ("127.0.0.1", port)).is_ok(),
        );
    }
    done
}
