//! Who is called what, on which network. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::spec::{EndpointId, EndpointRecord, NetworkRecord};

/// The names of every network, and the networks of every container.
#[derive(Debug, Default)]
pub(super) struct Table {
    networks: HashMap<String, Names>,
    /// A container sees the names of the networks that it is on.
    places: HashMap<String, Vec<Place>>,
}

#[derive(Debug, Default)]
struct Names {
    /// The network's own name, which may follow a member's.
    domain: String,
    internal: bool,
    hosts: HashMap<String, Vec<Host>>,
    reverse: HashMap<IpAddr, String>,
}

#[derive(Debug)]
struct Place {
    network: String,
    endpoint: EndpointId,
    /// The container's own words for members.
    links: HashMap<String, String>,
}

/// A member's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    endpoint: EndpointId,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Table {
    pub(super) fn add_network(&mut self, network: &NetworkRecord) {
        let names = self.networks.entry(network.id.clone()).or_default();
        names.domain = network.name.to_ascii_lowercase();
        names.internal = network.internal;
    }

    pub(super) fn remove_network(&mut self, id: &str) {
        self.networks.remove(id);
    }

    pub(super) fn add(&mut self, endpoint: &EndpointRecord) {
        let names = self.networks.entry(endpoint.network.clone()).or_default();
        let host = Host {
            endpoint: endpoint.id.clone(),
            v4: endpoint.ipv4.map(|ipv4| ipv4.address),
            v6: endpoint.ipv6.map(|ipv6| ipv6.address),
        };
        for name in &endpoint.names {
            names.hosts.entry(name.to_ascii_lowercase()).or_default().push(host.clone());
        }
        if let Some(first) = endpoint.names.first() {
            for address in endpoint.addresses() {
                names.reverse.insert(address, first.clone());
            }
        }
        let links = endpoint
            .links
            .iter()
            .map(|(alias, name)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase()));
        self.places.entry(endpoint.container.clone()).or_default().push(Place {
            network: endpoint.network.clone(),
            endpoint: endpoint.id.clone(),
            links: links.collect(),
        });
    }

    /// Whether it was the container's last.
    pub(super) fn remove(&mut self, endpoint: &EndpointRecord) -> bool {
        if let Some(names) = self.networks.get_mut(&endpoint.network) {
            for name in &endpoint.names {
                let name = name.to_ascii_lowercase();
                if let Some(hosts) = names.hosts.get_mut(&name) {
                    hosts.retain(|host| host.endpoint != endpoint.id);
                    if hosts.is_empty() {
                        names.hosts.remove(&name);
                    }
                }
            }
            for address in endpoint.addresses() {
                names.reverse.remove(&address);
            }
        }
        let Some(places) = self.places.get_mut(&endpoint.container) else { return true };
        places.retain(|place| place.endpoint != endpoint.id);
        let last = places.is_empty();
        if last {
            self.places.remove(&endpoint.container);
        }
        last
    }

    fn seen_by(&self, container: &str) -> impl Iterator<Item = (&Place, &Names)> {
        let places = self.places.get(container).into_iter().flatten();
        places.filter_map(|place| Some((place, self.networks.get(&place.network)?)))
    }

    /// Who is meant by a name (in lower case, without a dot at its end): a member's, or one with its network's name
    /// behind it. Either may have dots of its own.
    pub(super) fn find(&self, container: &str, name: &str) -> Option<&[Host]> {
        let in_network = |place: &Place, names: &'_ Names, name: &str| {
            let name = place.links.get(name).map_or(name, String::as_str);
            names.hosts.contains_key(name).then(|| name.to_owned())
        };
        let whole = self.seen_by(container).find_map(|(place, names)| {
            let own = in_network(place, names, name)?;
            names.hosts.get(&own)
        });
        let with_domain = || {
            self.seen_by(container).find_map(|(place, names)| {
                let member = name.strip_suffix(names.domain.as_str())?.strip_suffix('.')?;
                names.hosts.get(&in_network(place, names, member)?)
            })
        };
        whole.or_else(with_domain).map(Vec::as_slice)
    }

    /// What a member's address is called: its name and its network's.
    pub(super) fn name_of(&self, container: &str, address: IpAddr) -> Option<String> {
        self.seen_by(container)
            .find_map(|(_, names)| Some(format!("{}.{}", names.reverse.get(&address)?, names.domain)))
    }

    /// Whether a container is on a network with a way out.
    pub(super) fn reaches_outside(&self, container: &str) -> bool {
        self.seen_by(container).any(|(_, names)| !names.internal)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::spec::{InterfaceAddress, MacAddress};

    pub(in crate::dns) fn endpoint(network: &str, id: &str, last: u8, names: &[&str]) -> EndpointRecord {
        EndpointRecord {
            id: EndpointId(format!("{network}-{id}")),
            container: id.to_owned(),
            network: network.to_owned(),
            interface: "eth0".to_owned(),
            host_link: String::new(),
            ipv4: Some(InterfaceAddress { address: Ipv4Addr::new(10, 0, 0, last), prefix: 24 }),
            ipv6: None,
            gateway: None,
            gateway_v6: None,
            mac: MacAddress([0; 6]),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: Vec::new(),
        }
    }

    pub(in crate::dns) fn network(id: &str, internal: bool) -> NetworkRecord {
        NetworkRecord {
            id: id.to_owned(),
            name: format!("{id}_default"),
            link: String::new(),
            subnets: Vec::new(),
            internal,
            mtu: None,
            host_ip: None,
        }
    }

    fn last_octets(found: Option<&[Host]>) -> Vec<u8> {
        found.into_iter().flatten().filter_map(|host| Some(host.v4?.octets()[3])).collect()
    }

    #[test]
    fn members_find_each_other_by_every_name_and_others_do_not() {
        let mut table = Table::default();
        table.add_network(&network("back", false));
        table.add_network(&network("front", false));
        table.add(&endpoint("back", "db", 2, &["db", "Database", "0123"]));
        table.add(&endpoint("back", "api", 3, &["api"]));
        table.add(&endpoint("front", "web", 4, &["web"]));
        for name in ["db", "database", "0123", "db.back_default"] {
            assert_eq!(last_octets(table.find("api", name)), [2], "{name}");
        }
        assert_eq!(table.find("web", "db"), None);
        assert_eq!(table.find("api", "db.front_default"), None);
        assert_eq!(table.name_of("api", [10, 0, 0, 2].into()).as_deref(), Some("db.back_default"));
        assert_eq!(table.name_of("web", [10, 0, 0, 2].into()), None);
    }

    #[test]
    fn several_share_a_name_until_they_leave() {
        let mut table = Table::default();
        let (one, two) = (endpoint("n", "a", 2, &["a", "web"]), endpoint("n", "b", 3, &["b", "web"]));
        table.add(&one);
        table.add(&two);
        assert_eq!(last_octets(table.find("a", "web")), [2, 3]);
        assert!(table.remove(&two));
        assert_eq!(last_octets(table.find("a", "web")), [2]);
        assert_eq!(table.find("b", "web"), None, "who has left sees nothing");
    }

    #[test]
    fn a_link_is_its_owners_word_alone() {
        let mut table = Table::default();
        table.add(&endpoint("n", "db", 2, &["db"]));
        let mut web = endpoint("n", "web", 3, &["web"]);
        web.links.push(("store".to_owned(), "db".to_owned()));
        table.add(&web);
        assert_eq!(last_octets(table.find("web", "store")), [2]);
        assert_eq!(table.find("db", "store"), None);
    }

    #[test]
    fn the_way_out_is_known() {
        let mut table = Table::default();
        table.add_network(&network("shut", true));
        table.add_network(&network("open", false));
        table.add(&endpoint("shut", "a", 2, &["a"]));
        assert!(!table.reaches_outside("a"));
        table.add(&endpoint("open", "a", 2, &["a"]));
        assert!(table.reaches_outside("a"));
    }
}
