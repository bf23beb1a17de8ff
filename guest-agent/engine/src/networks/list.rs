//! Networks as clients see them: lists, inspect, prune.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::{Ipam, IpamConfig, Network, NetworkContainer, NetworksPruned};
use super::{Networks, UserNetwork, Which};
use crate::containers::record::Record;
use crate::error::Result;
use crate::filters::Filters;
use crate::time::Time;

impl Networks {
    /// `GET /networks`
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        filters.accept(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
        let dangling = filters.flag("dangling")?;
        for kind in filters.values("type") {
            if !matches!(kind.as_str(), "builtin" | "custom") {
                return Err(crate::error::Error::invalid(format_args!("invalid filter: 'type'='{kind}'")));
            }
        }
        let fits = |(which, network): &(Which, Network)| {
            let own = matches!(which, Which::User(_));
            filters.any("name", |wanted| network.name.contains(wanted))
                && filters.any("id", |wanted| network.id.starts_with(wanted))
                && filters.exact("driver", &network.driver)
                && filters.exact("scope", network.scope)
                && filters.any("type", |wanted| (wanted == "custom") == own)
                && filters.labels(&network.labels)
                // Networks that always exist are never dangling for dockerd.
                && dangling.is_none_or(|dangling| dangling == (own && !self.is_used(&network.id)))
        };
        Ok(self.all().into_iter().filter(fits).map(|(_, network)| network).collect())
    }

    fn all(&self) -> Vec<(Which, Network)> {
        let bridge = self.builtin().record.is_some().then_some("bridge");
        let builtin = bridge.into_iter().chain(["host", "none"]).map(Which::Builtin);
        let own = self.table().all().into_iter().map(Which::User);
        builtin.chain(own).map(|which| (which.clone(), self.view(&which))).collect()
    }

    fn view(&self, which: &Which) -> Network {
        match which {
            Which::User(network) => own_view(network),
            Which::Builtin(name) => self.builtin_view(which, name),
        }
    }

    fn builtin_view(&self, which: &Which, name: &str) -> Network {
        let mut network = Network {
            name: name.to_owned(),
            id: self.id(which),
            created: self.builtin().created,
            scope: "local",
            driver: which.driver().to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".into(), options: None, config: Vec::new() },
            ..Network::default()
        };
        if let (Some(record), "bridge") = (&self.builtin().record, name) {
            network.ipam.config = record
                .subnets
                .iter()
                .map(|subnet| IpamConfig {
                    subnet: subnet.subnet.to_string(),
                    gateway: subnet.gateway.to_string(),
                    ..IpamConfig::default()
                })
                .collect();
            let option = |name: &str, value: &str| (format!("com.docker.network.{name}"), value.to_owned());
            network.options = BTreeMap::from([
                option("bridge.default_bridge", "true"),
                option("bridge.enable_icc", "true"),
                option("bridge.enable_ip_masquerade", "true"),
                option("bridge.host_binding_ipv4", "0.0.0.0"),
                option("bridge.name", &record.link),
                option("driver.mtu", &record.mtu.unwrap_or(1500).to_string()),
            ]);
        }
        network
    }

    /// `GET /networks/{name}`
    pub async fn inspect(&self, name: &str) -> Result<Network> {
        let which = self.find(name)?;
        let mut network = self.view(&which);
        if which.driver() != "bridge" {
            for container in self.engine.inner().registry.all() {
                let record = container.now();
                if record.state.lives() && record.host_config.network_mode == network.name {
                    let member =
                        NetworkContainer { name: record.name.clone(), ..NetworkContainer::default() };
                    network.containers.insert(record.id.clone(), member);
                }
            }
            return Ok(network);
        }
        for (record, endpoint) in self.members(&network.id) {
            let v4 = endpoint.ipv4.map(|address| format!("{}/{}", address.address, address.prefix));
            let v6 = endpoint.ipv6.map(|address| format!("{}/{}", address.address, address.prefix));
            let member = NetworkContainer {
                name: record.name.clone(),
                endpoint_id: endpoint.id.to_string(),
                mac_address: endpoint.mac.to_string(),
                ipv4_address: v4.unwrap_or_default(),
                ipv6_address: v6.unwrap_or_default(),
            };
            network.containers.insert(record.id.clone(), member);
        }
        Ok(network)
    }

    /// The containers that are on a network now, each with its place there.
    pub(super) fn members(&self, id: &str) -> Vec<(Arc<Record>, network::EndpointRecord)> {
        let containers = self.engine.inner().registry.all().into_iter();
        let on = |record: Arc<Record>| {
            let found = record.endpoints.iter().find(|endpoint| endpoint.network == id).cloned();
            found.map(|endpoint| (record, endpoint))
        };
        containers.filter_map(|container| on(container.now())).collect()
    }

    /// Whether a container is on the network, or will be when it is started.
    fn is_used(&self, id: &str) -> bool {
        let names_it = |name: &String| self.find(name).is_ok_and(|found| self.id(&found) == id);
        self.engine
            .inner()
            .registry
            .all()
            .iter()
            .any(|container| container.now().networks.keys().any(names_it))
    }

    /// `POST /networks/prune`
    pub async fn prune(&self, filters: Filters) -> Result<NetworksPruned> {
        filters.accept(&["label", "label!", "until"])?;
        let mut pruned = NetworksPruned::default();
        for network in self.table().all() {
            let old = filters
                .any("until", |text| Time::parse_query(text).is_some_and(|time| network.created < time));
            if !old || !filters.labels(&network.labels) || self.is_used(&network.spec.id) {
                continue;
            }
            if self.remove(&network.spec.id).await.is_ok() {
                pruned.networks_deleted.get_or_insert_default().push(network.spec.name.clone());
            }
        }
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        let actor = crate::events::Actor { id: String::new(), attributes };
        self.engine.inner().events.publish("network", "prune", actor);
        Ok(pruned)
    }
}

fn own_view(network: &UserNetwork) -> Network {
    Network {
        name: network.spec.name.clone(),
        id: network.spec.id.clone(),
        created: network.created,
        scope: "local",
        driver: "bridge".to_owned(),
        enable_ipv4: true,
        enable_ipv6: network.spec.ipv6,
        ipam: network.ipam.clone(),
        internal: network.spec.internal,
        attachable: network.attachable,
        options: network.options.clone(),
        labels: network.labels.clone(),
        ..Network::default()
    }
}
