//! Attack: reach the worker's own machine and its cloud's metadata, by every way to write an address.

const HOSTS: [&str; 19] = [
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "127.255.255.254",
    "169.254.169.254",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "[::1]",
    "[::]",
    "[fd00:ec2::254]",
];

#[petiole::task]
fn attack(port: u16) -> Vec<String> {
    let authorities: Vec<_> = HOSTS.iter().map(|host| format!("{host}:{port}")).collect();
    hostile::outcomes(authorities.iter().map(String::as_str))
}
