//! What an address counts as where something is limited per address.

use std::net::IpAddr;

/// The network that one host owns: an IPv6 host has a whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv6_host_is_its_network() {
        let count = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(count("2001:db8::1:2:3:4"), "2001:db8::");
        assert_eq!(count("::ffff:1.2.3.4"), "1.2.3.4");
    }
}
