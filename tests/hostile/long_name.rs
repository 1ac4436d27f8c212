//! Attack: keep the host busy with reading a name to look up: megabytes of labels, each of a thousand characters
//! that are not ASCII.

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;

/// Returns the number of names that were looked up.
#[petiole::task]
fn attack(labels: u32) -> u32 {
    let network = instance_network();
    let label: String = ('\u{4e00}'..).take(1000).collect();
    let mut name = String::with_capacity(labels as usize * (label.len() + 1) + 16);
    for _ in 0..labels {
        name.push_str(&label);
        name.push('.');
    }
    let mut found = 0;
    for end in ["", "example", ".com"] {
        name.push_str(end);
        found += u32::from(resolve_addresses(&network, &name).is_ok());
    }
    found
}
