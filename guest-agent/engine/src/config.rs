//! What the engine is started with: its places, its options and the abilities it is lent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use image::{Dial, HostCertificates, Proxies, Stream, TcpDial};
pub use network::{BoxFuture, PublishError, PublishSpec, PublishedPort, Publisher, Publishing};

/// Everything [`crate::Engine::start`] needs.
pub struct EngineConfig {
    /// Where state lives.
    pub data_root: PathBuf,
    /// Where what lives as long as the machine is up is kept.
    pub exec_root: PathBuf,
    /// The socket that a bind mount of `docker.sock` leads to, when the API listens on one.
    pub api_socket: Option<PathBuf>,
    /// dockerd's options.
    pub options: Options,
    /// The store.
    pub database: Arc<redb::Database>,
    /// Who starts and reaps processes.
    pub supervisor: supervisor::Client,
    /// Who opens published ports.
    pub publishing: Publishing,
    /// Who opens connections to registries.
    pub dial: Arc<dyn Dial>,
    /// Through which proxies registries are reached.
    pub proxies: Proxies,
    /// Certificates for registries, by `host` or `host:port`.
    pub registry_certificates: BTreeMap<String, HostCertificates>,
    /// A listener on this machine that takes the containers' outgoing connections (in the VM).
    pub egress_port: Option<u16>,
    /// It is a VM of our own, where the engine owns the whole machine.
    pub vm: bool,
}

/// dockerd's options, by its names.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--label`.
    pub labels: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-opt`.
    pub dns_options: Vec<String>,
    /// `--registry-mirror`.
    pub registry_mirrors: Vec<String>,
    /// `--insecure-registry`.
    pub insecure_registries: Vec<String>,
    /// `--max-concurrent-downloads`; 0 is the default.
    pub concurrent_downloads: usize,
    /// `--max-concurrent-uploads`; 0 is the default.
    pub concurrent_uploads: usize,
    /// `--max-download-attempts`; 0 is the default.
    pub download_attempts: u32,
    /// `--debug`.
    pub debug: bool,
    /// `--bridge`: `none`, or the link's name; empty is `sampan0`.
    pub bridge: String,
    /// `--bip`.
    pub bip: Option<String>,
    /// `--default-address-pool`: base and size.
    pub address_pools: Vec<(String, u8)>,
    /// `--live-restore`: containers go on when the engine is stopped.
    pub live_restore: bool,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// `--log-driver`; empty is `json-file`.
    pub log_driver: String,
    /// `--log-opt`.
    pub log_options: std::collections::BTreeMap<String, String>,
    /// `--default-shm-size` in bytes; 0 is 64 MiB.
    pub shm_size: i64,
    /// `--shutdown-timeout` in seconds; 0 is 15.
    pub shutdown_timeout: u64,
}
