//! Who the client is when a proxy stands in between.

use std::net::{IpAddr, SocketAddr};
use std::str;

use crate::config::IpRange;
use crate::wire::http::Field;

/// Whether the address belongs to a proxy whose headers are believed.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpRange]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// The client's address and whether it speaks HTTPS. Headers count only when the socket's own peer
/// is trusted; then the client is the rightmost address that is not: everything left of it was
/// written by someone we do not know.
pub(super) fn client(peer: IpAddr, secure: bool, fields: &[Field<'_>], trusted: &[IpRange]) -> (IpAddr, bool) {
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return (peer, secure);
    }
    let mut client = peer;
    let hops = items(fields, "x-forwarded-for");
    for hop in hops.rev() {
        let Some(address) = read_address(hop) else { break };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    let secure = match items(fields, "x-forwarded-proto").next_back() {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
        _ => secure,
    };
    (client, secure)
}

fn items<'a>(fields: &'a [Field<'a>], name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let lines = fields.iter().filter(move |field| field.is(name));
    lines.flat_map(|field| field.value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// An address, with or without a port.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn ask(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let fields: Vec<Field<'_>> =
            headers.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
        let trusted = [
            IpRange { base: "10.0.0.0".parse().unwrap(), bits: 8 },
            IpRange { base: "fd00::".parse().unwrap(), bits: 8 },
        ];
        let (address, secure) = client(peer.parse().unwrap(), false, &fields, &trusted);
        (address.to_string(), secure)
    }

    #[test]
    fn strangers_are_not_believed() {
        let headers = [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-Proto", "https")];
        assert_eq!(ask("1.2.3.4", &headers), ("1.2.3.4".into(), false));
    }

    #[test]
    fn takes_the_rightmost_address_that_is_not_a_proxy() {
        for (value, client) in [
            ("9.9.9.9", "9.9.9.9"),
            ("6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("nonsense, 10.0.0.2", "10.0.0.2"),
            ("9.9.9.9:1234", "9.9.9.9"),
            ("[2001:db8::1]:1234", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(ask("10.0.0.1", &[("x-forwarded-for", value)]).0, client, "{value}");
        }
        let two_lines = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "9.9.9.9")];
        assert_eq!(ask("fd00::1", &two_lines).0, "9.9.9.9");
    }

    #[test]
    fn takes_the_scheme_of_the_last_proxy() {
        assert!(ask("10.0.0.1", &[("X-Forwarded-Proto", "http, HTTPS")]).1);
        assert!(!ask("10.0.0.1", &[("X-Forwarded-Proto", "gopher")]).1);
    }
}
