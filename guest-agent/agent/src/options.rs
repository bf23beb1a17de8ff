//! The options of `serve`: dockerd's names with dockerd's meaning, on the command line and in a file.
//!
//! The file's keys become options in front of the command line's, so that there is one parser and one type. What
//! stands in both places is refused, as dockerd refuses it: nobody can tell which one was meant.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};

use crate::config_file;

/// Runs the engine in the foreground.
#[derive(Debug, Clone, Parser)]
#[command(name = "guest-agent serve", no_binary_name = true, disable_version_flag = true)]
pub(crate) struct Options {
    /// A file with daemon.json's keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Where images, containers and volumes are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sampan")]
    pub(crate) data_root: PathBuf,
    /// Where what ends with the machine is kept.
    #[arg(long, value_name = "DIR", default_value = "/run/sampan")]
    pub(crate) exec_root: PathBuf,
    /// Where the API listens: `unix://PATH` or `tcp://IP:PORT`.
    #[arg(long, short = 'H', value_name = "ADDRESS")]
    pub(crate) host: Vec<String>,
    /// The group that may use the API's socket.
    #[arg(long, short = 'G', value_name = "NAME", default_value = "docker")]
    pub(crate) group: String,
    /// A file for the process number.
    #[arg(long, short = 'p', value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// The default bridge's name, or `none`.
    #[arg(long, short = 'b', value_name = "NAME", default_value = "")]
    pub(crate) bridge: String,
    /// The default bridge's address, such as `172.17.0.1/16`.
    #[arg(long, value_name = "CIDR")]
    pub(crate) bip: Option<String>,
    /// Where subnets of new networks come from: `base=CIDR,size=BITS`.
    #[arg(long, value_name = "POOL")]
    pub(crate) default_address_pool: Vec<String>,
    /// A registry mirror.
    #[arg(long, value_name = "URL")]
    pub(crate) registry_mirror: Vec<String>,
    /// A registry that may be used without a trusted certificate.
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
    /// Layers of one pull that are downloaded at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub(crate) max_concurrent_downloads: usize,
    /// Layers of one push that are uploaded at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub(crate) max_concurrent_uploads: usize,
    /// How often a download is tried.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub(crate) max_download_attempts: u32,
    /// The proxy for `http://` registries; by default what `HTTP_PROXY` says.
    #[arg(long, value_name = "URL")]
    pub(crate) http_proxy: Option<String>,
    /// The proxy for `https://` registries; by default what `HTTPS_PROXY` says.
    #[arg(long, value_name = "URL")]
    pub(crate) https_proxy: Option<String>,
    /// Hosts that are reached without a proxy; by default what `NO_PROXY` says.
    #[arg(long, value_name = "HOSTS")]
    pub(crate) no_proxy: Option<String>,
    /// A name server of containers.
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<String>,
    /// A search domain of containers.
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// A resolver option of containers.
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_opt: Vec<String>,
    /// A label of this engine.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// debug, info, warn, error or fatal.
    #[arg(long, short = 'l', value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
    /// Same as `--log-level debug`.
    #[arg(long, short = 'D', num_args = 0..=1, default_missing_value = "true", default_value = "false",
          require_equals = true, value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) debug: bool,
    /// Containers go on when the engine is stopped.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false",
          require_equals = true, value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) live_restore: bool,
    /// The cgroup that containers are in.
    #[arg(long, value_name = "PATH", default_value = "")]
    pub(crate) cgroup_parent: String,
    /// The log driver of containers.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) log_driver: String,
    /// An option of the log driver.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Size of containers' `/dev/shm`, such as `64m`.
    #[arg(long, value_name = "SIZE")]
    pub(crate) default_shm_size: Option<String>,
    /// Seconds that containers have to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) shutdown_timeout: u64,
    /// TLS for `tcp://` addresses.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false",
          require_equals = true, value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) tls: bool,
    /// TLS, and clients must have a certificate of `--tlscacert`.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false",
          require_equals = true, value_name = "BOOL", action = ArgAction::Set)]
    pub(crate) tlsverify: bool,
    /// The authority of clients' certificates.
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// This server's certificate.
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// The socket to the supervisor.
    #[arg(long, hide = true)]
    pub(crate) supervisor_fd: Option<i32>,
    /// This is the VM.
    #[arg(long, hide = true)]
    pub(crate) vm: bool,
    /// The VM's data disk must not be used: only the control port is served.
    #[arg(long, hide = true)]
    pub(crate) refused: bool,
}

impl Options {
    /// Reads the command line, and the file that it names. The error is what to print.
    pub(crate) fn parse(arguments: &[OsString]) -> anyhow::Result<Options> {
        let command = Options::command();
        let matches = command.clone().try_get_matches_from(arguments).map_err(as_dockerd_says)?;
        let options = Options::from_arg_matches(&matches)?;
        let Some(path) = &options.config_file else { return options.checked() };
        let file =
            std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let from_file =
            config_file::as_arguments(&file, |id| matches.value_source(id) == Some(ValueSource::CommandLine))
                .with_context(|| format!("unable to configure the engine with file {}", path.display()))?;
        let all = from_file.into_iter().map(OsString::from).chain(arguments.iter().cloned());
        let matches = command.try_get_matches_from(all).map_err(as_dockerd_says)?;
        Options::from_arg_matches(&matches)?.checked()
    }

    fn checked(self) -> anyhow::Result<Options> {
        if let Some(label) = self.label.iter().find(|label| !label.contains('=')) {
            bail!("bad attribute format: {label}");
        }
        for pool in &self.default_address_pool {
            address_pool(pool)?;
        }
        for option in &self.log_opt {
            pair(option)?;
        }
        for (name, number) in [
            ("downloads", self.max_concurrent_downloads),
            ("uploads", self.max_concurrent_uploads),
            ("download attempts", self.max_download_attempts as usize),
        ] {
            if number == 0 {
                bail!("invalid max {name}: must be greater than 0");
            }
        }
        self.shm_size()?;
        self.level()?;
        Ok(self)
    }

    /// What `--log-level` and `--debug` come to.
    pub(crate) fn level(&self) -> anyhow::Result<tracing::Level> {
        Ok(match self.log_level.as_str() {
            _ if self.debug => tracing::Level::DEBUG,
            "debug" | "trace" => tracing::Level::DEBUG,
            "info" => tracing::Level::INFO,
            "warn" => tracing::Level::WARN,
            "error" | "fatal" | "panic" => tracing::Level::ERROR,
            other => bail!("invalid logging level: {other}"),
        })
    }

    /// Through which proxies registries are reached.
    pub(crate) fn proxies(&self) -> image::Proxies {
        let or_environment = |given: &Option<String>, name: &str| {
            given.clone().or_else(|| environment(name)).or_else(|| environment(&name.to_lowercase()))
        };
        image::Proxies {
            http: or_environment(&self.http_proxy, "HTTP_PROXY").unwrap_or_default(),
            https: or_environment(&self.https_proxy, "HTTPS_PROXY").unwrap_or_default(),
            exceptions: or_environment(&self.no_proxy, "NO_PROXY").unwrap_or_default(),
        }
    }

    fn shm_size(&self) -> anyhow::Result<i64> {
        self.default_shm_size.as_deref().map_or(Ok(0), size)
    }

    /// As the engine takes them.
    pub(crate) fn for_engine(&self) -> anyhow::Result<engine::Options> {
        Ok(engine::Options {
            labels: self.label.clone(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_opt.clone(),
            registry_mirrors: self.registry_mirror.clone(),
            insecure_registries: self.insecure_registry.clone(),
            concurrent_downloads: self.max_concurrent_downloads,
            concurrent_uploads: self.max_concurrent_uploads,
            download_attempts: self.max_download_attempts,
            debug: self.debug || self.log_level == "debug",
            bridge: self.bridge.clone(),
            bip: self.bip.clone(),
            address_pools: self
                .default_address_pool
                .iter()
                .map(|pool| address_pool(pool))
                .collect::<anyhow::Result<_>>()?,
            live_restore: self.live_restore,
            cgroup_parent: self.cgroup_parent.clone(),
            log_driver: self.log_driver.clone(),
            log_options: self.log_opt.iter().map(|option| pair(option)).collect::<anyhow::Result<_>>()?,
            shm_size: self.shm_size()?,
            shutdown_timeout: self.shutdown_timeout,
        })
    }
}

/// A variable of the environment that is set to something.
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// The parser's complaint in dockerd's words, where clients and people know those.
fn as_dockerd_says(error: clap::Error) -> anyhow::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let told = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (argument, value) = (told(ContextKind::InvalidArg), told(ContextKind::InvalidValue));
    let name = argument.split([' ', '=']).next().unwrap_or_default();
    let said = match error.kind() {
        ErrorKind::UnknownArgument if name.starts_with("--") => format!("unknown flag: {name}"),
        ErrorKind::UnknownArgument if name.starts_with('-') => {
            format!("unknown shorthand flag: '{}' in {name}", name.chars().nth(1).unwrap_or(' '))
        }
        ErrorKind::UnknownArgument => format!("unknown argument: {name}"),
        ErrorKind::InvalidValue if value.is_empty() => format!("flag needs an argument: {name}"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("invalid argument \"{value}\" for \"{name}\" flag")
        }
        // Help is no error, but it is what is printed.
        _ => return anyhow::anyhow!("{}", error.to_string().trim_end()),
    };
    anyhow::anyhow!("{said}\nSee 'guest-agent serve --help'.")
}

/// `base=172.30.0.0/16,size=24`
fn address_pool(text: &str) -> anyhow::Result<(String, u8)> {
    let (mut base, mut bits) = (None, None);
    for field in text.split(',') {
        match field.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("base", value)) => base = Some(value.to_owned()),
            Some(("size", value)) => bits = value.parse().ok(),
            _ => bail!("invalid default address pool: `{text}`"),
        }
    }
    base.zip(bits).with_context(|| format!("invalid default address pool: `{text}` needs base and size"))
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').with_context(|| format!("bad attribute format: {text}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A size as Docker writes them: a number, then b, k, m, g or t.
fn size(text: &str) -> anyhow::Result<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match lower[number.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => bail!("invalid size: '{text}'"),
    };
    let number: i64 = number.parse().map_err(|_| anyhow::anyhow!("invalid size: '{text}'"))?;
    number.checked_mul(1 << shift).with_context(|| format!("invalid size: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Options::parse(&arguments)
    }

    fn with_file(json: &str, arguments: &[&str]) -> anyhow::Result<Options> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        let path = file.path().to_str().unwrap();
        parse(&[&["--config-file", path], arguments].concat())
    }

    #[test]
    fn an_unknown_option_is_named_as_dockerd_names_it() {
        let error = parse(&["--data-root", "/x", "--frobnicate"]).unwrap_err().to_string();
        assert!(error.starts_with("unknown flag: --frobnicate\n"), "{error}");
        let error = parse(&["-Z"]).unwrap_err().to_string();
        assert!(error.starts_with("unknown shorthand flag: 'Z' in -Z\n"), "{error}");
        let error = parse(&["--bip"]).unwrap_err().to_string();
        assert!(error.starts_with("flag needs an argument: --bip\n"), "{error}");
        let error = parse(&["--shutdown-timeout", "soon"]).unwrap_err().to_string();
        assert!(error.starts_with("invalid argument \"soon\" for \"--shutdown-timeout\" flag"), "{error}");
    }

    #[test]
    fn switches_take_an_optional_value() {
        let options =
            parse(&["--debug", "--live-restore=false", "-H", "tcp://127.0.0.1:1", "-H", "unix:///x"])
                .unwrap();
        assert!(options.debug && !options.live_restore);
        assert_eq!(options.host, ["tcp://127.0.0.1:1", "unix:///x"]);
    }

    #[test]
    fn a_file_adds_to_the_command_line() {
        let json = r#"{"debug": true, "dns": ["1.1.1.1"], "log-opts": {"max-size": "10m"}, "shutdown-timeout": 3,
            "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "labels": ["a=b"]}"#;
        let options = with_file(json, &["--data-root", "/x"]).unwrap();
        assert_eq!(options.data_root, PathBuf::from("/x"));
        let engine = options.for_engine().unwrap();
        assert!(engine.debug);
        assert_eq!(engine.dns, ["1.1.1.1"]);
        assert_eq!(engine.log_options["max-size"], "10m");
        assert_eq!(engine.address_pools, [("10.9.0.0/16".to_owned(), 24)]);
        assert_eq!(engine.shutdown_timeout, 3);
    }

    #[test]
    fn proxies_and_limits_of_registries_come_from_the_file() {
        let json =
            r#"{"proxies": {"http-proxy": "http://a:1", "no-proxy": "b,c"}, "max-concurrent-uploads": 2}"#;
        let options = with_file(json, &["--https-proxy", "http://d:2"]).unwrap();
        let proxies = options.proxies();
        assert_eq!((proxies.http.as_str(), proxies.https.as_str()), ("http://a:1", "http://d:2"));
        assert_eq!(proxies.exceptions, "b,c");
        assert_eq!(options.for_engine().unwrap().concurrent_uploads, 2);
        let error = format!("{:#}", with_file(json, &["--http-proxy", "x"]).unwrap_err());
        assert!(error.contains("specified both as a flag and in the configuration file: proxies"), "{error}");
        assert!(with_file(r#"{"max-concurrent-downloads": 0}"#, &[]).is_err());
    }

    #[test]
    fn what_stands_in_both_places_is_refused() {
        let error = format!("{:#}", with_file(r#"{"debug": true}"#, &["--debug"]).unwrap_err());
        assert!(error.contains("specified both as a flag and in the configuration file: debug"), "{error}");
    }

    #[test]
    fn an_unknown_key_and_a_wrong_type_are_refused_by_name() {
        let error = format!("{:#}", with_file(r#"{"frob": 1}"#, &[]).unwrap_err());
        assert!(
            error.contains("the following directives don't match any configuration option: frob"),
            "{error}"
        );
        let error = format!("{:#}", with_file(r#"{"dns": 7}"#, &[]).unwrap_err());
        assert!(error.contains("dns"), "{error}");
        assert!(with_file("{", &[]).is_err());
    }

    #[test]
    fn bad_values_are_refused_before_anything_starts() {
        for bad in [
            ["--label", "x"],
            ["--default-address-pool", "base=1.2.3.0/24"],
            ["--default-shm-size", "1x"],
            ["--log-level", "loud"],
            ["--log-opt", "x"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        assert_eq!(size("64MiB").unwrap(), 64 << 20);
        assert_eq!(size("1g").unwrap(), 1 << 30);
    }
}
