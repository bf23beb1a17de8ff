//! daemon.json: its keys, turned into the options that they stand for.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

/// How a key's value becomes options.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Switch,
    Number,
    List,
    Pairs,
    Pools,
    Member(&'static str),
}

/// Key of the file, option of the command line, shape of the value.
const KEYS: [(&str, &str, Shape); 33] = [
    ("bip", "bip", Shape::Text),
    ("bridge", "bridge", Shape::Text),
    ("cgroup-parent", "cgroup-parent", Shape::Text),
    ("data-root", "data-root", Shape::Text),
    ("debug", "debug", Shape::Switch),
    ("default-address-pools", "default-address-pool", Shape::Pools),
    ("default-shm-size", "default-shm-size", Shape::Text),
    ("dns", "dns", Shape::List),
    ("dns-opts", "dns-opt", Shape::List),
    ("dns-search", "dns-search", Shape::List),
    ("exec-root", "exec-root", Shape::Text),
    ("group", "group", Shape::Text),
    ("hosts", "host", Shape::List),
    ("insecure-registries", "insecure-registry", Shape::List),
    ("labels", "label", Shape::List),
    ("live-restore", "live-restore", Shape::Switch),
    ("log-driver", "log-driver", Shape::Text),
    ("log-level", "log-level", Shape::Text),
    ("log-opts", "log-opt", Shape::Pairs),
    ("max-concurrent-downloads", "max-concurrent-downloads", Shape::Number),
    ("max-concurrent-uploads", "max-concurrent-uploads", Shape::Number),
    ("max-download-attempts", "max-download-attempts", Shape::Number),
    ("pidfile", "pidfile", Shape::Text),
    ("proxies", "http-proxy", Shape::Member("http-proxy")),
    ("proxies", "https-proxy", Shape::Member("https-proxy")),
    ("proxies", "no-proxy", Shape::Member("no-proxy")),
    ("registry-mirrors", "registry-mirror", Shape::List),
    ("shutdown-timeout", "shutdown-timeout", Shape::Number),
    ("tls", "tls", Shape::Switch),
    ("tlscacert", "tlscacert", Shape::Text),
    ("tlscert", "tlscert", Shape::Text),
    ("tlskey", "tlskey", Shape::Text),
    ("tlsverify", "tlsverify", Shape::Switch),
];

/// Reads the file's text. `given` says whether an option, by its identifier, stands on the command line.
pub(crate) fn as_arguments(text: &str, given: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let file: Map<String, Value> = serde_json::from_str(text).context("it is not a JSON object")?;
    let unknown: Vec<&str> =
        file.keys().map(String::as_str).filter(|key| KEYS.iter().all(|(known, ..)| known != key)).collect();
    if !unknown.is_empty() {
        bail!("the following directives don't match any configuration option: {}", unknown.join(", "));
    }
    let known = KEYS.iter().filter_map(|(key, option, shape)| Some((*key, *option, *shape, file.get(*key)?)));
    let mut arguments = Vec::new();
    let mut twice = Vec::new();
    for (key, option, shape, value) in known {
        let values =
            values(shape, value).with_context(|| format!("the value of `{key}` has the wrong type"))?;
        if !values.is_empty() && given(&option.replace('-', "_")) {
            twice.push(key);
        }
        arguments.extend(values.into_iter().map(|value| format!("--{option}={value}")));
    }
    if !twice.is_empty() {
        bail!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            twice.join(", ")
        );
    }
    Ok(arguments)
}

fn values(shape: Shape, value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(match shape {
        Shape::Text => vec![text(value)?],
        Shape::Switch => vec![value.as_bool()?.to_string()],
        Shape::Number => vec![value.as_u64()?.to_string()],
        Shape::List => value.as_array()?.iter().map(text).collect::<Option<_>>()?,
        Shape::Pairs => value
            .as_object()?
            .iter()
            .map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
            .collect::<Option<_>>()?,
        Shape::Member(name) => match value.as_object()?.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => vec![text(value)?],
        },
        Shape::Pools => value
            .as_array()?
            .iter()
            .map(|pool| Some(format!("base={},size={}", pool["base"].as_str()?, pool["size"].as_u64()?)))
            .collect::<Option<_>>()?,
    })
}
