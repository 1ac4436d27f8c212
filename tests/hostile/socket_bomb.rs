//! Attack: take sockets of the host's, each a descriptor of the worker's, and never give one back.

use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::{tcp_create_socket, udp_create_socket};

#[petiole::task]
fn attack() -> u32 {
    let mut taken = 0;
    for _ in 0..5000 {
        if let Ok(socket) = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4) {
            std::mem::forget(socket);
            taken += 1;
        }
        if let Ok(socket) = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv6) {
            std::mem::forget(socket);
            taken += 1;
        }
    }
    taken
}
