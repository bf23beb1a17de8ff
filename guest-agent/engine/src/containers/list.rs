//! `ps` and inspect: views of records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::container::Container;
use super::exec;
use super::launch;
use super::networking;
use super::ports;
use super::record::Record;
use super::request::ListOptions;
use super::spec::EndpointSettings;
use super::state::State;
use super::view::{
    ContainerInspect, ContainerSummary, GraphDriver, NetworkSettings, StateView, SummaryHostConfig,
    SummaryNetworks,
};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::networks::Which;
use crate::system::STORAGE_DRIVER;

const ACCEPTED: [&str; 17] = [
    "ancestor",
    "before",
    "exited",
    "id",
    "isolation",
    "label",
    "name",
    "status",
    "health",
    "since",
    "volume",
    "network",
    "is-task",
    "publish",
    "expose",
    "label!",
    "until",
];

/// `GET /containers/json`
pub(crate) fn list(engine: &Engine, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
    let filters = &options.filters;
    filters.accept(&ACCEPTED)?;
    let selection = Selection::new(engine, filters)?;
    let all = options.all
        || options.limit.is_some_and(|limit| limit > 0)
        || filters.has("status")
        || filters.has("exited");
    let mut records: Vec<(Arc<Container>, Arc<Record>)> = engine
        .inner()
        .registry
        .all()
        .into_iter()
        .map(|container| {
            let record = container.now();
            (container, record)
        })
        .filter(|(_, record)| {
            let shown = all || record.state.lives() || record.state == State::Restarting;
            shown && selection.fits(engine, filters, record)
        })
        .collect();
    records.sort_by_key(|(_, record)| std::cmp::Reverse(record.created));
    if let Some(limit) = options.limit.filter(|limit| *limit > 0) {
        records.truncate(limit);
    }
    Ok(records
        .into_iter()
        .map(|(container, record)| summary(engine, &container, &record, options.size))
        .collect())
}

/// What filters compare with, looked up once.
struct Selection {
    before: Option<crate::time::Time>,
    since: Option<crate::time::Time>,
    ancestors: Option<Vec<String>>,
    exited: Vec<i32>,
}

impl Selection {
    fn new(engine: &Engine, filters: &Filters) -> Result<Selection> {
        let created = |name: &str| -> Result<Option<crate::time::Time>> {
            filters
                .values(name)
                .first()
                .map(|name| Ok(engine.inner().registry.get(name)?.now().created))
                .transpose()
        };
        for status in filters.values("status") {
            if !["created", "restarting", "running", "removing", "paused", "exited", "dead"]
                .contains(&status.as_str())
            {
                return Err(Error::invalid(format_args!("invalid filter 'status={status}'")));
            }
        }
        let exited = filters
            .values("exited")
            .iter()
            .map(|text| {
                text.parse().map_err(|_| Error::invalid(format_args!("invalid filter 'exited={text}'")))
            })
            .collect::<Result<_>>()?;
        let ancestors = filters.has("ancestor").then(|| {
            let find = |name: &String| engine.inner().images.get(name).ok().map(|image| image.id.to_string());
            filters.values("ancestor").iter().filter_map(find).collect()
        });
        Ok(Selection { before: created("before")?, since: created("since")?, ancestors, exited })
    }

    fn fits(&self, engine: &Engine, filters: &Filters, record: &Record) -> bool {
        let slashed = format!("/{}", record.name);
        let health = record.health.as_ref().map_or("none", |health| health.status.as_str());
        let networks = |wanted: &str| {
            record.host_config.network_mode == wanted
                || record.networks.contains_key(wanted)
                || engine
                    .networks()
                    .find(wanted)
                    .is_ok_and(|found| record.networks.contains_key(found.name()))
        };
        let ended = record.state == State::Exited || record.state == State::Dead;
        filters.any("id", |wanted| record.id.starts_with(wanted))
            && filters.any("name", |wanted| named(&record.name, &slashed, wanted))
            && filters.exact("status", record.state.name())
            && filters.exact("health", health)
            && filters.labels(&record.config.labels)
            && (self.exited.is_empty() || ended && self.exited.contains(&record.exit_code))
            && self.before.is_none_or(|time| record.created < time)
            && self.since.is_none_or(|time| record.created > time)
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image_id))
            && filters.any("network", networks)
            && filters.any("volume", |wanted| {
                record.mounts.iter().any(|entry| {
                    let point = &entry.point;
                    point.name == wanted || point.destination == wanted || point.source == wanted
                })
            })
            && filters.any("publish", |wanted| {
                port_fits(wanted, record.ports.iter().map(|port| (port.host_port, port.protocol.to_string())))
            })
            && filters.any("expose", |wanted| {
                port_fits(
                    wanted,
                    record.config.exposed_ports.keys().filter_map(|text| ports::parse_port(text).ok()),
                )
            })
            && filters.flag("is-task").ok().flatten().is_none_or(|task| !task)
    }
}

/// A name filter is a regular expression, found anywhere in the name with or without its slash.
fn named(name: &str, slashed: &str, wanted: &str) -> bool {
    match regex_lite::Regex::new(wanted) {
        Ok(pattern) => pattern.is_match(name) || pattern.is_match(slashed),
        // dockerd takes what is no expression for a name that nobody has.
        Err(_) => name == wanted || slashed == wanted,
    }
}

fn port_fits(wanted: &str, mut ports: impl Iterator<Item = (u16, String)>) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    ports.any(|(port, own)| (first..=last).contains(&port) && own == protocol)
}

fn summary(engine: &Engine, container: &Container, record: &Record, size: bool) -> ContainerSummary {
    let (size_rw, size_root_fs) = if size { sizes(engine, container, record) } else { (None, None) };
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: image_name(engine, record),
        image_id: record.image_id.clone(),
        command: shown_command(record),
        created: record.created.unix(),
        ports: ports::listed(&record.config, &record.ports),
        size_rw,
        size_root_fs,
        labels: record.config.labels.clone(),
        state: record.state.name(),
        status: status(record),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworks { networks: endpoints(engine, record) },
        mounts: record.mounts.iter().map(|entry| entry.point.clone()).collect(),
    }
}

/// The name as the client wrote it, as long as it still means that image.
fn image_name(engine: &Engine, record: &Record) -> String {
    match engine.inner().images.get(&record.config.image) {
        Ok(image) if image.id.to_string() == record.image_id => record.config.image.clone(),
        _ => record.image_id.clone(),
    }
}

/// dockerd quotes arguments with spaces in lists.
fn shown_command(record: &Record) -> String {
    let quote = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let mut words = record.command().into_iter();
    let first = words.next().unwrap_or_default();
    std::iter::once(first).chain(words.map(|word| quote(&word))).collect::<Vec<_>>().join(" ")
}

/// The sizes of a container's layer and of its whole root.
pub(crate) fn sizes(engine: &Engine, container: &Container, record: &Record) -> (Option<i64>, Option<i64>) {
    let own = i64::try_from(crate::volumes::tree_size(&container.upper())).unwrap_or(i64::MAX);
    let image = engine.inner().images.get(&record.image_id).map_or(0, |image| image.size);
    (Some(own), Some(own.saturating_add(i64::try_from(image).unwrap_or(i64::MAX))))
}

/// `Up 3 minutes (Paused)`, `Exited (0) 2 hours ago`.
fn status(record: &Record) -> String {
    let code = record.exit_code;
    match record.state {
        State::Created => "Created".to_owned(),
        State::Removing => "Removal In Progress".to_owned(),
        State::Dead => "Dead".to_owned(),
        State::Restarting => format!("Restarting ({code}) {} ago", span(record.finished_at.elapsed())),
        State::Paused { .. } => format!("Up {} (Paused)", span(record.started_at.elapsed())),
        State::Running { .. } => {
            let up = format!("Up {}", span(record.started_at.elapsed()));
            match record.health.as_ref().map(|health| health.status.as_str()) {
                Some("starting") => format!("{up} (health: starting)"),
                Some(health) => format!("{up} ({health})"),
                None => up,
            }
        }
        State::Exited if record.finished_at.is_never() => String::new(),
        State::Exited => format!("Exited ({code}) {} ago", span(record.finished_at.elapsed())),
    }
}

/// A span of time in the largest whole unit.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let hours = (span.as_secs_f64() / 3600.0 + 0.5).floor() as u64;
    match (seconds, seconds / 60, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, minutes @ 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The networks of a container: what it asked for, filled in while it runs.
pub(crate) fn endpoints(engine: &Engine, record: &Record) -> BTreeMap<String, EndpointSettings> {
    let mut networks = (*record.networks).clone();
    for (name, place) in &mut networks {
        let Ok(network) = engine.networks().find(name) else { continue };
        place.network_id = engine.networks().id(&network);
        if matches!(network, Which::User(_)) {
            place.dns_names = Some(networking::names(record, place));
        }
        let Some(endpoint) = record.endpoints.iter().find(|endpoint| endpoint.network == place.network_id)
        else {
            continue;
        };
        place.endpoint_id = endpoint.id.to_string();
        place.mac_address = endpoint.mac.to_string();
        place.gateway = endpoint.gateway.map(|address| address.to_string()).unwrap_or_default();
        if let Some(address) = &endpoint.ipv4 {
            place.ip_address = address.address.to_string();
            place.ip_prefix_len = address.prefix;
        }
        if let Some(address) = &endpoint.ipv6 {
            place.global_ipv6_address = address.address.to_string();
            place.global_ipv6_prefix_len = address.prefix;
            place.ipv6_gateway = endpoint.gateway_v6.map(|address| address.to_string()).unwrap_or_default();
        }
    }
    networks
}

/// `GET /containers/{name}/json`
pub(crate) fn inspect(engine: &Engine, container: &Container, size: bool) -> ContainerInspect {
    let record = container.now();
    let mut command = record.command().into_iter();
    let (size_rw, size_root_fs) = if size { sizes(engine, container, &record) } else { (None, None) };
    let lives = record.state.lives();
    ContainerInspect {
        id: record.id.clone(),
        created: record.created,
        path: command.next().unwrap_or_default(),
        args: command.collect(),
        state: StateView {
            status: record.state.name(),
            running: lives || record.state == State::Restarting,
            paused: matches!(record.state, State::Paused { .. }),
            restarting: record.state == State::Restarting,
            oom_killed: record.oom_killed,
            dead: record.state == State::Dead,
            pid: record.state.pid().unwrap_or(0),
            exit_code: record.exit_code,
            error: record.error.clone(),
            started_at: record.started_at,
            finished_at: record.finished_at,
            health: record.health.clone(),
        },
        image: record.image_id.clone(),
        resolv_conf_path: launch::file_path(container, "resolv.conf"),
        hostname_path: launch::file_path(container, "hostname"),
        hosts_path: launch::file_path(container, "hosts"),
        log_path: container.log_path().to_string_lossy().into_owned(),
        name: format!("/{}", record.name),
        restart_count: record.restart_count,
        driver: STORAGE_DRIVER,
        platform: "linux",
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: String::new(),
        exec_ids: exec::open_ids(container),
        host_config: record.host_config.clone(),
        graph_driver: graph_driver(engine, container, &record),
        size_rw,
        size_root_fs,
        mounts: record.mounts.iter().map(|entry| entry.point.clone()).collect(),
        config: record.config.clone(),
        network_settings: network_settings(engine, &record),
    }
}

fn graph_driver(engine: &Engine, container: &Container, record: &Record) -> GraphDriver {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let lowers = launch::rootfs(engine, container, record).map(|rootfs| rootfs.lowers).unwrap_or_default();
    let lower: Vec<String> = lowers.iter().map(|path| text(path)).collect();
    let data = [
        ("ID", record.id.clone()),
        ("LowerDir", lower.join(":")),
        ("MergedDir", text(&container.file("merged"))),
        ("UpperDir", text(&container.upper())),
        ("WorkDir", text(&container.work())),
    ];
    GraphDriver {
        data: data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        name: STORAGE_DRIVER,
    }
}

fn network_settings(engine: &Engine, record: &Record) -> NetworkSettings {
    let networks = endpoints(engine, record);
    let mut settings = NetworkSettings { ports: BTreeMap::new(), ..NetworkSettings::default() };
    if record.state.lives() {
        settings.sandbox_id.clone_from(&record.id);
        settings.sandbox_key = format!("/proc/{}/ns/net", record.state.pid().unwrap_or(0));
        settings.ports = ports::settings(&record.config, &record.ports);
    }
    if let Some(own) = networks.get("bridge") {
        settings.endpoint_id.clone_from(&own.endpoint_id);
        settings.gateway.clone_from(&own.gateway);
        settings.ip_address.clone_from(&own.ip_address);
        settings.ip_prefix_len = own.ip_prefix_len;
        settings.mac_address.clone_from(&own.mac_address);
        settings.global_ipv6_address.clone_from(&own.global_ipv6_address);
        settings.global_ipv6_prefix_len = own.global_ipv6_prefix_len;
        settings.ipv6_gateway.clone_from(&own.ipv6_gateway);
    }
    settings.networks = networks;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_docker_prints_them() {
        let seconds = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(span(Duration::from_millis(300)), "Less than a second");
        assert_eq!(seconds(1), "1 second");
        assert_eq!(seconds(59), "59 seconds");
        assert_eq!(seconds(60), "About a minute");
        assert_eq!(seconds(180), "3 minutes");
        assert_eq!(seconds(3600), "About an hour");
        assert_eq!(seconds(5400), "2 hours");
        assert_eq!(seconds(3 * 86_400), "3 days");
        assert_eq!(seconds(21 * 86_400), "3 weeks");
        assert_eq!(seconds(90 * 86_400), "3 months");
        assert_eq!(seconds(800 * 86_400), "2 years");
    }

    #[test]
    fn a_name_filter_may_be_anchored() {
        let fits = |wanted| named("web-1", "/web-1", wanted);
        assert!(fits("web") && fits("^web") && fits("^/web-1$") && fits("1$") && fits("^/?web-1$"));
        assert!(fits("w.b-[0-9]+") && fits("^(db|web)-1$") && !fits("(web"));
        assert!(!fits("^eb") && !fits("^web$") && !fits("db"));
    }
}
