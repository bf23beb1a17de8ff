//! An IP subnet in CIDR notation, either family, and the arithmetic that address management needs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A subnet: its first address and its prefix length. No host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    first: IpAddr,
    prefix: u8,
}

/// The text is no subnet; the wording is what clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidSubnet(pub String);

impl Subnet {
    /// The subnet of `prefix` bits that holds `address`; `None` when the family has no such prefix.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Subnet> {
        let bits = family_bits(address);
        if prefix > bits {
            return None;
        }
        let mask = mask(bits, prefix);
        Some(Subnet { first: from_number(number(address) & mask, address), prefix })
    }

    /// The first address, which names the subnet.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address (IPv4: the broadcast address).
    pub fn last(&self) -> IpAddr {
        from_number(number(self.first) + (self.size() - 1), self.first)
    }

    /// The prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// How many addresses it has; the whole of IPv6 counts as one less, to fit.
    pub fn size(&self) -> u128 {
        let host_bits = u32::from(family_bits(self.first) - self.prefix);
        1u128.checked_shl(host_bits).unwrap_or(u128::MAX)
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4()
            && number(address) & mask(family_bits(address), self.prefix) == number(self.first)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address `offset` after the first.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| from_number(number(self.first) + offset, self.first))
    }

    /// How far `address` is from the first.
    pub fn offset(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| number(address) - number(self.first))
    }

    /// The pieces of `prefix` bits that it can be cut into, in order.
    pub fn pieces(&self, prefix: u8) -> impl Iterator<Item = Subnet> + use<> {
        let bits = family_bits(self.first);
        let whole = *self;
        let possible = prefix >= self.prefix && prefix <= bits;
        let step =
            if possible { 1u128.checked_shl(u32::from(bits - prefix)).unwrap_or(u128::MAX) } else { 1 };
        let count = if possible { whole.size() / step } else { 0 };
        (0..count).filter_map(move |index| Subnet::new(whole.nth(index * step)?, prefix))
    }
}

fn family_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(bits: u8, prefix: u8) -> u128 {
    let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
    all & all.checked_shl(u32::from(bits - prefix)).unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_number(number: u128, family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = InvalidSubnet;

    /// Host bits are allowed and dropped, as in `--bip 172.17.0.1/16`.
    fn from_str(text: &str) -> Result<Subnet, InvalidSubnet> {
        let invalid = || InvalidSubnet(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        Subnet::new(address, prefix.parse().map_err(|_| invalid())?).ok_or_else(invalid)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Subnet, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_dropped() {
        assert_eq!(subnet("172.17.0.1/16").to_string(), "172.17.0.0/16");
        assert_eq!(subnet("fd00:1::5/64").to_string(), "fd00:1::/64");
        assert_eq!(subnet("0.0.0.0/0").size(), 1 << 32);
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for wrong in ["", "172.17.0.0", "172.17.0.0/33", "172.17.0/16", "::/129", "a/8", "10.0.0.0/-1"] {
            assert_eq!(wrong.parse::<Subnet>(), Err(InvalidSubnet(wrong.to_owned())));
        }
    }

    #[test]
    fn overlap_is_symmetric_and_within_a_family() {
        assert!(subnet("10.0.0.0/8").overlaps(&subnet("10.1.2.0/24")));
        assert!(subnet("10.1.2.0/24").overlaps(&subnet("10.0.0.0/8")));
        assert!(!subnet("10.1.2.0/24").overlaps(&subnet("10.1.3.0/24")));
        assert!(!subnet("0.0.0.0/0").overlaps(&subnet("::/0")));
    }

    #[test]
    fn pieces_come_in_order_and_cover_the_whole() {
        let pieces: Vec<_> = subnet("172.20.0.0/14").pieces(16).map(|piece| piece.to_string()).collect();
        assert_eq!(pieces, ["172.20.0.0/16", "172.21.0.0/16", "172.22.0.0/16", "172.23.0.0/16"]);
        assert_eq!(subnet("10.0.0.0/24").pieces(16).count(), 0);
        assert_eq!(subnet("10.0.0.0/24").pieces(33).count(), 0);
    }

    #[test]
    fn offsets_and_addresses_are_inverse() {
        let net = subnet("10.9.8.0/30");
        assert_eq!(net.nth(3), Some("10.9.8.3".parse().unwrap()));
        assert_eq!(net.nth(4), None);
        assert_eq!(net.offset("10.9.8.2".parse().unwrap()), Some(2));
        assert_eq!(net.offset("10.9.8.4".parse().unwrap()), None);
        assert_eq!(net.last(), "10.9.8.3".parse::<IpAddr>().unwrap());
    }
}
