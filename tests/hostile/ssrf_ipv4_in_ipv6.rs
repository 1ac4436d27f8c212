//! Attack: the loopback address in every form of IPv6 that holds one of IPv4: mapped, compatible, translated, 6to4,
//! NAT64, Teredo, ISATAP.

const HOSTS: [&str; 12] = [
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::1]",
    "[2001:0:7f00:1::80ff:fffe]",
    "[fe80::5efe:7f00:1]",
    "[2606:4700::5efe:7f00:1]",
    "[2606:4700::200:5efe:7f00:1]",
];

#[petiole::task]
fn attack(port: u16) -> Vec<String> {
    let authorities: Vec<_> = HOSTS.iter().map(|host| format!("{host}:{port}")).collect();
    hostile::outcomes(authorities.iter().map(String::as_str))
}
