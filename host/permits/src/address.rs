//! The addresses of the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is not the public internet: IANA's registry of special-purpose addresses (RFC 6890), what is
/// reserved, and what clouds answer instances on. Address, length of the prefix.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared (RFC 6598); Alibaba's metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's wire server
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local; metadata of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments; Oracle's metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved; broadcast
];

/// The range that IANA has given out so far for the public internet (RFC 4291 section 2.4). Loopback, unique local,
/// link-local, multicast, IPv4-compatible and IPv4-translated addresses are all outside of it.
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Parts of [`GLOBAL_UNICAST_V6`] that are not the public internet.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments; Teredo (RFC 4380)
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 (RFC 3056, deprecated by RFC 7526)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];

/// IPv4 behind a translator (RFC 6052): on a network without IPv4, every host that has no IPv6.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Decides if an address is the public internet's, as far as the address tells. An IPv6 address that leads to an
/// IPv4 address (mapped, NAT64, ISATAP) is as public as that one; what other transition mechanisms made
/// (IPv4-compatible, 6to4, Teredo) is not public. Translators with a prefix of their own can't be told.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(network, length): &(Ipv4Addr, u32)| {
        let shift = u32::BITS.saturating_sub(*length);
        (address.to_bits() ^ network.to_bits()) >> shift == 0
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |(network, length): &(Ipv6Addr, u32)| {
        let shift = u128::BITS.saturating_sub(*length);
        (address.to_bits() ^ network.to_bits()) >> shift == 0
    };
    let [.., high, low, a, b] = address.segments();
    let embedded = Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b));
    if within(&NAT64) {
        return is_public_v4(embedded);
    }
    // RFC 5214 section 6.1: the universal bit of the interface identifier may be set
    let is_isatap = high & !0x0200 == 0 && low == 0x5efe;
    within(&GLOBAL_UNICAST_V6)
        && !NOT_PUBLIC_V6.iter().any(within)
        && (!is_isatap || is_public_v4(embedded))
}
