//! Properties of all rules and addresses.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::*;

/// Few enough that two of them often have something in common.
fn patterns() -> impl Strategy<Value = &'static str> {
    select(vec![
        "*", "*.test", "*.a.test", "a.test", "b.a.test", "test", "10.0.0.1", "1.1.1.1", "[::1]",
    ])
}

fn hosts() -> impl Strategy<Value = Host> {
    let hosts = [
        "test",
        "a.test",
        "b.a.test",
        "xa.test",
        "other",
        "10.0.0.1",
        "1.1.1.1",
        "[::1]",
        "[2606::1]",
    ];
    select(hosts.map(|host| host.parse().unwrap()).to_vec())
}

fn http_rules() -> impl Strategy<Value = HttpRule> {
    (
        subsequence(vec!["GET", "HEAD", "POST"], 0..=3),
        select(vec!["http", "https"]),
        patterns(),
        select(vec!["", ":80", ":8080"]),
    )
        .prop_map(|(methods, scheme, host, port)| {
            let space = if methods.is_empty() { "" } else { " " };
            let rule = format!("{}{space}{scheme}://{host}{port}", methods.join(","));
            rule.parse().unwrap()
        })
}

fn requests() -> impl Strategy<Value = (&'static str, Scheme, Host, u16)> {
    (
        select(vec!["GET", "HEAD", "POST", "CONNECT"]),
        select(vec![Scheme::Http, Scheme::Https]),
        hosts(),
        select(vec![80, 443, 8080]),
    )
}

fn tcp_rules() -> impl Strategy<Value = TcpRule> {
    (patterns(), 1_u16..3).prop_map(|(host, port)| format!("{host}:{port}").parse().unwrap())
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let names = || subsequence(vec!["A", "B", "C"], 0..=3);
    let access = || select(vec![Access::ReadOnly, Access::ReadWrite]);
    (
        (names(), names()),
        prop::collection::vec(http_rules(), 0..4),
        prop::collection::vec(tcp_rules(), 0..4),
        prop::collection::btree_map(select(vec!["a".to_owned(), "b".to_owned()]), access(), 0..3),
        prop::option::of(1_u64..4),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |((env, secrets), http, tcp, folders, temp, [keyvalue, clocks, random])| Capabilities {
                env: env.into_iter().map(str::to_owned).collect(),
                secrets: secrets.into_iter().map(str::to_owned).collect(),
                http,
                tcp,
                keyvalue,
                folders,
                temp: temp.map(Size::new),
                clocks,
                random,
            },
        )
}

proptest! {
    #[test]
    fn rules_survive_being_written(http in http_rules(), tcp in tcp_rules()) {
        prop_assert_eq!(http.to_string().parse::<HttpRule>().unwrap(), http);
        prop_assert_eq!(tcp.to_string().parse::<TcpRule>().unwrap(), tcp);
    }

    #[test]
    fn no_text_panics(text in "\\PC*", host in "[a-z0-9.:*\\[\\]-]*") {
        let _ = text.parse::<HttpRule>();
        let _ = text.parse::<TcpRule>();
        let _ = text.parse::<Size>();
        if let Ok(rule) = format!("https://{host}").parse::<HttpRule>() {
            prop_assert_eq!(rule.to_string().parse::<HttpRule>().unwrap(), rule);
        }
        if let Ok(rule) = format!("{host}:1").parse::<TcpRule>() {
            prop_assert_eq!(rule.to_string().parse::<TcpRule>().unwrap(), rule);
        }
    }

    #[test]
    fn an_intersection_allows_what_both_sides_allow(
        asked in capabilities(),
        allowed in capabilities(),
        (method, scheme, host, port) in requests(),
        tcp_port in 1_u16..3,
    ) {
        let (granted, refused) = asked.intersect(&allowed);
        let http = |side: &Capabilities| side.http.iter().any(|rule| rule.matches(method, scheme, &host, port));
        prop_assert_eq!(http(&granted), http(&asked) && http(&allowed));
        let tcp = |side: &Capabilities| side.tcp.iter().any(|rule| rule.matches(&host, tcp_port));
        prop_assert_eq!(tcp(&granted), tcp(&asked) && tcp(&allowed));
        for side in [&asked, &allowed] {
            prop_assert!(granted.env.is_subset(&side.env) && granted.secrets.is_subset(&side.secrets));
            prop_assert!(granted.temp <= side.temp);
            prop_assert!(granted.keyvalue <= side.keyvalue && granted.clocks <= side.clocks && granted.random <= side.random);
            for (name, access) in &granted.folders {
                prop_assert!(side.folders.get(name).is_some_and(|side| access <= side));
            }
        }
        // no refusal goes unreported, and none is reported where all is granted
        if http(&asked) && !http(&granted) {
            prop_assert!(refused.iter().any(|refused| matches!(refused, Refused::Http(rule) if rule.matches(method, scheme, &host, port))));
        }
        if granted == asked {
            prop_assert!(refused.is_empty(), "{:?}", refused);
        }
        // a grant is allowed whole when it is asked for again
        prop_assert!(granted.intersect(&allowed).1.is_empty());
        prop_assert_eq!(asked.intersect(&asked).1, Vec::new());
    }

    #[test]
    fn a_rule_covers_what_it_matches(a in http_rules(), b in http_rules(), (method, scheme, host, port) in requests()) {
        if a.covers(&b) && b.matches(method, scheme, &host, port) {
            prop_assert!(a.matches(method, scheme, &host, port));
        }
        prop_assert!(a.covers(&a));
        if let Some(both) = a.intersection(&b) {
            prop_assert!(a.covers(&both) && b.covers(&both));
        }
    }

    /// Mapped, compatible, translated, NAT64, 6to4, Teredo and ISATAP forms.
    #[test]
    fn no_ipv6_form_of_an_address_that_is_not_public_is_public(bits in any::<u32>(), client in any::<u32>(), network in any::<u64>()) {
        let address = Ipv4Addr::from_bits(bits);
        let v4 = u128::from(bits);
        let isatap = |universal: u128| u128::from(network) << 64 | universal << 57 | 0x5efe << 32 | v4;
        let forms = [
            0xffff << 32 | v4,
            v4,
            0xffff << 48 | v4,
            0x64_ff9b << 96 | v4,
            0x64_ff9b_0001 << 80 | v4,
            0x2002 << 112 | v4 << 80 | u128::from(client),
            0x2001 << 112 | v4 << 64 | u128::from(client),
            0x2001 << 112 | u128::from(client) << 64 | u128::from(!bits),
            isatap(0),
            isatap(1),
        ];
        for form in forms {
            let form = IpAddr::V6(Ipv6Addr::from_bits(form));
            prop_assert!(is_public(address.into()) || !is_public(form), "{} of {}", form, address);
        }
    }

    #[test]
    fn only_global_unicast_and_what_leads_to_ipv4_is_public(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        if is_public(address.into()) {
            let leads_to_v4 = address.to_ipv4_mapped().is_some() || address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            prop_assert!(address.segments()[0] >> 13 == 1 || leads_to_v4, "{}", address);
        }
    }

    #[test]
    fn no_secret_is_left_in_a_text(secrets in prop::collection::vec("[ab\n]{0,8}", 0..4), text in "[abc\n]{0,40}") {
        let secrets: Vec<Secret> = secrets.into_iter().map(Secret::from).collect();
        let redactor = Redactor::new(&secrets);
        let redacted = redactor.redact(&text);
        for secret in secrets.iter().filter(|secret| secret.expose().len() >= MIN_REDACTED) {
            prop_assert!(!redacted.contains(secret.expose()), "{:?}", redacted);
        }
        // a text that is cut before what is unfinished hides as much as the whole
        let cut = text.len() - redactor.unfinished(text.as_bytes());
        let head = redactor.redact(&text[..cut]);
        for secret in secrets.iter().filter(|secret| secret.expose().len() >= MIN_REDACTED) {
            prop_assert!(!head.contains(secret.expose()));
        }
    }
}
