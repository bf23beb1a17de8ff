//! Which subnet a network gets and which address an endpoint gets. Pure: no clock, no kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::{NetworkError, Result};
use crate::spec::AddressPool;
use crate::subnet::Subnet;

/// Docker's default pools: sixteen-bit pieces of 172.17–172.31, then twenty-bit pieces of 192.168.
const DEFAULT_POOLS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

/// The pools that dockerd uses when nobody names others.
pub fn default_pools() -> Vec<AddressPool> {
    DEFAULT_POOLS
        .iter()
        .filter_map(|(base, size)| Some(AddressPool { base: base.parse().ok()?, size: *size }))
        .collect()
}

/// The first piece of the pools that touches nothing in `taken`.
pub fn choose_subnet(pools: &[AddressPool], taken: &[Subnet]) -> Result<Subnet> {
    pools
        .iter()
        .filter(|pool| pool.base.is_ipv4())
        .flat_map(|pool| pool.base.pieces(pool.size))
        .find(|piece| !taken.iter().any(|other| other.overlaps(piece)))
        .ok_or(NetworkError::PoolsExhausted)
}

/// A subnet of unique local addresses (RFC 4193), made from a network's id: the same after a restart, and as good as
/// random, as ids are.
pub fn unique_local_subnet(id: &str) -> Result<Subnet> {
    // FNV-1a over the id gives the forty bits of the global part and sixteen of the subnet's.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let first = u128::from(0xfd00_0000_0000_0000 | hash >> 8) << 64;
    Subnet::new(IpAddr::V6(first.into()), 64).ok_or(NetworkError::PoolsExhausted)
}

/// The addresses of one subnet: which are given out. The lowest free one is next, as with dockerd, whose
/// first container on the default bridge has 172.17.0.2.
#[derive(Debug, Clone)]
pub struct Addresses {
    subnet: Subnet,
    /// Offsets that may be given out: from `low` up to and including `high`.
    low: u128,
    high: u128,
    /// Every offset below it was looked at: it is given out, reserved, or in `returned`.
    next: u128,
    /// Offsets below `next` that are free again.
    returned: BTreeSet<u128>,
    /// Offsets at or above `next`, or outside the range, that are given out or reserved.
    ahead: BTreeSet<u128>,
    /// Offsets never given out.
    reserved: BTreeSet<u128>,
}

impl Addresses {
    /// All addresses of `subnet`, or of the part `range`, but the network and broadcast addresses and `reserved`.
    pub fn new(subnet: Subnet, range: Option<Subnet>, reserved: &[IpAddr]) -> Result<Addresses> {
        let range = range.unwrap_or(subnet);
        let (Some(first), Some(last)) = (subnet.offset(range.first()), subnet.offset(range.last())) else {
            return Err(NetworkError::UnusableSubnet { subnet, reason: "the range is not inside it" });
        };
        // A /31 and a /32 have no network and broadcast address, but no room for a bridge and a member either.
        if subnet.size() < 4 {
            return Err(NetworkError::UnusableSubnet { subnet, reason: "it has no room for a member" });
        }
        let broadcast = if subnet.is_ipv4() { subnet.size() - 1 } else { subnet.size() };
        let low = first.max(1);
        let mut addresses = Addresses {
            subnet,
            low,
            high: last.min(broadcast - 1),
            next: low,
            returned: BTreeSet::new(),
            ahead: BTreeSet::new(),
            reserved: BTreeSet::from([0, broadcast]),
        };
        for address in reserved {
            let offset = subnet.offset(*address).ok_or(NetworkError::AddressOutside { address: *address })?;
            addresses.reserved.insert(offset);
        }
        Ok(addresses)
    }

    /// The subnet.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Gives out the lowest free address; `None` when all are taken.
    pub fn take(&mut self) -> Option<IpAddr> {
        if let Some(offset) = self.returned.pop_first() {
            return self.subnet.nth(offset);
        }
        while self.next <= self.high {
            let offset = self.next;
            self.next += 1;
            if !self.reserved.contains(&offset) && !self.ahead.remove(&offset) {
                return self.subnet.nth(offset);
            }
        }
        None
    }

    /// Gives out this very address. It need not be in the range, as with dockerd.
    pub fn take_this(&mut self, address: IpAddr) -> Result<()> {
        let offset = self.subnet.offset(address).ok_or(NetworkError::AddressOutside { address })?;
        let passed = (self.low..self.next).contains(&offset);
        let free = !self.reserved.contains(&offset)
            && if passed { self.returned.remove(&offset) } else { self.ahead.insert(offset) };
        if free { Ok(()) } else { Err(NetworkError::AddressInUse(address)) }
    }

    /// Takes an address back. One that was not given out stays as it is.
    pub fn give_back(&mut self, address: IpAddr) {
        let Some(offset) = self.subnet.offset(address) else { return };
        if !self.ahead.remove(&offset)
            && (self.low..self.next).contains(&offset)
            && !self.reserved.contains(&offset)
        {
            self.returned.insert(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn addresses(text: &str) -> Addresses {
        let subnet = subnet(text);
        Addresses::new(subnet, None, &[subnet.nth(1).unwrap()]).unwrap()
    }

    #[test]
    fn the_first_default_subnet_is_dockers() {
        assert_eq!(choose_subnet(&default_pools(), &[]).unwrap(), subnet("172.17.0.0/16"));
    }

    #[test]
    fn a_subnet_that_touches_a_taken_one_is_passed_over() {
        let taken = [subnet("172.16.0.0/14"), subnet("172.20.5.0/24"), subnet("0.0.0.0/32")];
        assert_eq!(choose_subnet(&default_pools(), &taken).unwrap(), subnet("172.21.0.0/16"));
    }

    #[test]
    fn the_default_pools_hold_thirty_one_networks() {
        let mut taken = Vec::new();
        while let Ok(next) = choose_subnet(&default_pools(), &taken) {
            taken.push(next);
        }
        assert_eq!(taken.len(), 15 + 16);
        assert_eq!(taken[15], subnet("192.168.0.0/20"));
        assert_eq!(
            choose_subnet(&default_pools(), &taken).unwrap_err().to_string(),
            "all predefined address pools have been fully subnetted"
        );
    }

    #[test]
    fn a_made_up_ipv6_subnet_is_unique_local_and_the_networks_own() {
        let (one, other) = (unique_local_subnet("1234").unwrap(), unique_local_subnet("1235").unwrap());
        assert!(subnet("fd00::/8").contains(one.first()), "{one}");
        assert_eq!((one, one.prefix()), (unique_local_subnet("1234").unwrap(), 64));
        assert!(!one.overlaps(&other));
    }

    #[test]
    fn the_lowest_free_address_is_next() {
        let mut addresses = addresses("172.17.0.0/16");
        assert_eq!(addresses.take(), Some(ip("172.17.0.2")));
        assert_eq!(addresses.take(), Some(ip("172.17.0.3")));
        addresses.give_back(ip("172.17.0.2"));
        assert_eq!(addresses.take(), Some(ip("172.17.0.2")));
        assert_eq!(addresses.take(), Some(ip("172.17.0.4")));
    }

    #[test]
    fn a_small_subnet_gives_all_its_members_and_no_more() {
        let mut addresses = addresses("10.0.0.0/29");
        let given: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(ip));
        addresses.give_back(ip("10.0.0.4"));
        addresses.give_back(ip("10.0.0.4"));
        assert_eq!(addresses.take(), Some(ip("10.0.0.4")));
        assert_eq!(addresses.take(), None);
    }

    #[test]
    fn a_wanted_address_is_given_once() {
        let mut addresses = addresses("10.0.0.0/24");
        addresses.take_this(ip("10.0.0.3")).unwrap();
        assert_eq!(addresses.take_this(ip("10.0.0.3")).unwrap_err().to_string(), "Address already in use");
        assert_eq!(addresses.take(), Some(ip("10.0.0.2")));
        assert_eq!(addresses.take(), Some(ip("10.0.0.4")));
        addresses.give_back(ip("10.0.0.3"));
        assert_eq!(addresses.take(), Some(ip("10.0.0.3")));
    }

    #[test]
    fn gateway_network_and_broadcast_addresses_are_nobodys() {
        let mut addresses = addresses("10.0.0.0/24");
        for address in ["10.0.0.0", "10.0.0.1", "10.0.0.255"] {
            assert!(matches!(addresses.take_this(ip(address)), Err(NetworkError::AddressInUse(_))));
            addresses.give_back(ip(address));
        }
        assert_eq!(addresses.take(), Some(ip("10.0.0.2")));
        assert!(matches!(addresses.take_this(ip("10.0.1.5")), Err(NetworkError::AddressOutside { .. })));
        assert!(matches!(addresses.take_this(ip("fd00::5")), Err(NetworkError::AddressOutside { .. })));
    }

    #[test]
    fn a_range_confines_what_is_given_but_not_what_is_wanted() {
        let net = subnet("10.0.0.0/16");
        let range = Some(subnet("10.0.5.0/30"));
        let mut addresses = Addresses::new(net, range, &[ip("10.0.0.1"), ip("10.0.5.1")]).unwrap();
        let given: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(given, ["10.0.5.0", "10.0.5.2", "10.0.5.3"].map(ip));
        addresses.take_this(ip("10.0.0.9")).unwrap();
        addresses.give_back(ip("10.0.0.9"));
        assert_eq!(addresses.take(), None, "what comes back outside the range is not given");
        assert!(Addresses::new(net, Some(subnet("10.1.0.0/24")), &[]).is_err());
    }

    #[test]
    fn an_ipv6_subnet_is_not_walked() {
        let mut addresses = addresses("fd00::/64");
        addresses.take_this(ip("fd00::ffff:ffff:ffff:ffff")).unwrap();
        assert_eq!(addresses.take(), Some(ip("fd00::2")));
    }

    #[test]
    fn a_subnet_without_room_is_refused() {
        for tiny in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127"] {
            assert!(Addresses::new(subnet(tiny), None, &[]).is_err(), "{tiny}");
        }
    }

    #[test]
    fn every_address_has_one_owner_whatever_the_order() {
        let mut addresses = addresses("10.0.0.0/26");
        let mut owned = BTreeSet::new();
        let mut dice = 12345_u32;
        for _ in 0..5000 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wanted = ip(&format!("10.0.0.{}", (dice >> 16) % 64));
            match dice >> 28 {
                0..6 => {
                    let given = addresses.take();
                    assert_eq!(given.is_none(), owned.len() == 61);
                    assert!(given.is_none_or(|address| owned.insert(address)));
                }
                6..9 => {
                    if addresses.take_this(wanted).is_ok() {
                        assert!(owned.insert(wanted));
                    }
                }
                _ => {
                    addresses.give_back(wanted);
                    owned.remove(&wanted);
                }
            }
        }
    }
}
