//! What a container was asked to be, in Docker's own JSON.
//!
//! These records are three things at once: the body of `POST /containers/create`, the record at rest and
//! the `Config` and `HostConfig` of inspect. One spelling serves all three, so nothing is lost on the way.
//!
//! dockerd is a Go program: for it a missing field, `null` and the zero value are the same. Each field here
//! reads `null` as its default, and an `Option` is used only where dockerd itself tells "absent" from "empty"
//! or prints `null`.

mod config;
mod host;
mod mount;
mod network;

use serde::{Deserialize, Deserializer, Serialize};

pub use config::{Config, Healthcheck};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use mount::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
pub use network::{EndpointIpam, EndpointSettings, NetworkingConfig};

/// Reads `null` as the default value, as Go does.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A record in Docker's spelling, every field of which may be missing or `null`.
macro_rules! record {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        $visibility struct $name {
            $($(#[$field_meta])* #[serde(deserialize_with = "crate::containers::spec::or_default")] pub $field: $type,)*
        }
    };
}
pub(crate) use record;

/// A JSON object without fields: the value of Go's `map[string]struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A command line: Docker accepts one string where a list is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::One(word) => Words(vec![word]),
            Either::Many(words) => Words(words),
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn zero(value: &i64) -> bool {
    *value == 0
}

/// The body of `POST /containers/create`: `Config` with two more fields beside its own.
#[derive(Debug, Clone, Default)]
pub struct CreateBody {
    /// The portable half.
    pub config: Config,
    /// The host's half.
    pub host_config: HostConfig,
    /// The networks.
    pub networking_config: NetworkingConfig,
}

record! {
    /// What a create has beside `Config`.
    struct Beside {
        /// The host's half.
        pub host_config: HostConfig,
        /// The networks.
        pub networking_config: NetworkingConfig,
    }
}

impl<'de> Deserialize<'de> for CreateBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Either record ignores what belongs to the other; flattened, they would not know each other's fields.
        let document = serde_json::Value::deserialize(deserializer)?;
        let error = serde::de::Error::custom::<serde_json::Error>;
        let config = crate::json::from_value(document.clone()).map_err(error)?;
        let Beside { host_config, networking_config } = crate::json::from_value(document).map_err(error)?;
        Ok(CreateBody { config, host_config, networking_config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_reads_as_the_zero_value() {
        let body: CreateBody = serde_json::from_str(
            r#"{"Image":"busybox","Cmd":null,"Labels":null,"Env":null,
                "HostConfig":{"Binds":null,"PortBindings":{"80/tcp":null},"LogConfig":null,"ConsoleSize":null},
                "NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}"#,
        )
        .unwrap();
        assert_eq!(body.config.image, "busybox");
        assert_eq!(body.config.cmd, None);
        assert_eq!(body.host_config.port_bindings.unwrap()["80/tcp"], None);
        assert_eq!(body.networking_config.endpoints_config["bridge"], None);
    }

    #[test]
    fn a_command_may_be_one_string() {
        let config: Config = serde_json::from_str(r#"{"Cmd":"true","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!(config.cmd.unwrap().0, ["true"]);
        assert_eq!(config.entrypoint.unwrap().0, ["a", "b"]);
    }

    #[test]
    fn names_that_are_no_plain_pascal_case_keep_docker_s_spelling() {
        let json = serde_json::to_value(HostConfig::default()).unwrap();
        for name in [
            "ContainerIDFile",
            "UTSMode",
            "BlkioDeviceReadIOps",
            "IOMaximumIOps",
            "IOMaximumBandwidth",
            "NanoCpus",
            "CpusetCpus",
            "OomScoreAdj",
            "MaskedPaths",
            "CgroupnsMode",
            "ShmSize",
            "PidsLimit",
            "Ulimits",
            "Dns",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        let endpoint = serde_json::to_value(EndpointSettings::default()).unwrap();
        for name in ["IPAMConfig", "NetworkID", "IPAddress", "GlobalIPv6PrefixLen", "DNSNames", "GwPriority"]
        {
            assert!(endpoint.get(name).is_some(), "{name} is missing");
        }
    }

    #[test]
    fn a_record_survives_its_own_json() {
        let mut config = HostConfig { memory: 1 << 20, ..HostConfig::default() };
        config.restart_policy.name = "on-failure".into();
        let back: HostConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
    }
}
