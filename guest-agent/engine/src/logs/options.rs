//! What a container's log driver was told.

use std::collections::BTreeMap;

use crate::containers::record::Record;
use crate::containers::spec::LogConfig;
use crate::error::{Error, Result};

/// Options of the drivers that write files.
const KNOWN: [&str; 8] =
    ["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
/// Options of every driver. Our logs take what a container writes at its own pace, so nothing has to be dropped.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Bytes at which a new file is begun.
    pub(crate) capacity: Option<u64>,
    /// How many files are kept, the one that is written among them.
    pub(crate) files: usize,
    /// Whether those that are full are compressed.
    pub(crate) compress: bool,
    /// What each line is marked with, in JSON; empty is nothing.
    pub(crate) attributes: String,
}

impl Default for Options {
    fn default() -> Options {
        Options { capacity: None, files: 1, compress: false, attributes: String::new() }
    }
}

impl Options {
    /// A container's; its create has checked them.
    pub(crate) fn of(record: &Record) -> Options {
        let config = &record.host_config.log_config;
        let mut options = parse(config).unwrap_or_default();
        let attributes = attributes(record, &config.config);
        if !attributes.is_empty() {
            options.attributes = serde_json::to_string(&attributes).unwrap_or_default();
        }
        options
    }
}

/// Refuses log drivers that aren't here, and options that the driver doesn't know.
pub(crate) fn check(config: &LogConfig) -> Result<()> {
    let known: &[&str] = match config.r#type.as_str() {
        "json-file" | "local" => &KNOWN,
        "none" => &[],
        other => {
            return Err(Error::invalid(format_args!("logger: no log driver named '{other}' is registered")));
        }
    };
    let unknown =
        config.config.keys().find(|name| !known.contains(&name.as_str()) && !COMMON.contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(Error::invalid(format_args!(
            "unknown log opt '{name}' for {} log driver",
            config.r#type
        )));
    }
    let value = |name: &str| config.config.get(name).map(String::as_str);
    if let Some(mode) = value("mode").filter(|mode| !matches!(*mode, "blocking" | "non-blocking")) {
        return Err(Error::invalid(format_args!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = value("max-buffer-size") {
        if value("mode") != Some("non-blocking") {
            return Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        bytes(size)
            .ok_or_else(|| Error::invalid(format_args!("error parsing option max-buffer-size: {size}")))?;
    }
    for name in ["labels-regex", "env-regex"] {
        if let Some(pattern) = value(name) {
            regex_lite::Regex::new(pattern)
                .map_err(|error| Error::invalid(format_args!("error parsing regexp in {name}: {error}")))?;
        }
    }
    parse(config).map(drop)
}

fn parse(config: &LogConfig) -> Result<Options> {
    let local = config.r#type == "local";
    let value = |name: &str| config.config.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let capacity = match value("max-size") {
        None => local.then_some(20_000_000),
        Some("-1") => None,
        Some(text) => {
            let invalid = || Error::invalid(format_args!("invalid value for max-size: {text}"));
            Some(bytes(text).filter(|bytes| *bytes > 0).ok_or_else(invalid)?)
        }
    };
    let files = match value("max-file") {
        None => {
            if local {
                5
            } else {
                1
            }
        }
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Error::invalid(format_args!("invalid value for max-file: {text}")))?,
    };
    if files == 0 {
        return Err(Error::invalid("max-file cannot be less than 1"));
    }
    let compress = match value("compress") {
        None => local && files > 1,
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some(text) => return Err(Error::invalid(format_args!("invalid value for compress: {text}"))),
    };
    if compress && (files < 2 || capacity.is_none()) {
        return Err(Error::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(Options { capacity, files, compress, attributes: String::new() })
}

/// `10m` is ten million bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().trim_end_matches('b') {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * factor;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    (value >= 0.0).then_some(value as u64)
}

fn attributes(record: &Record, options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let env: BTreeMap<&str, &str> =
        record.config.env.iter().flatten().filter_map(|pair| pair.split_once('=')).collect();
    let labels: BTreeMap<&str, &str> =
        record.config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (list, pattern, from) in [("labels", "labels-regex", &labels), ("env", "env-regex", &env)] {
        let listed: Vec<&str> = options.get(list).into_iter().flat_map(|list| list.split(',')).collect();
        let pattern = options.get(pattern).and_then(|pattern| regex_lite::Regex::new(pattern).ok());
        for (name, value) in from {
            if listed.contains(name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
                attributes.insert((*name).to_owned(), (*value).to_owned());
            }
        }
    }
    if let Some(tag) = options.get("tag").filter(|tag| !tag.is_empty()) {
        attributes.insert("tag".to_owned(), expand(tag, record));
    }
    attributes
}

/// The placeholders of a tag.
fn expand(tag: &str, record: &Record) -> String {
    let image = record.image_id.strip_prefix("sha256:").unwrap_or(&record.image_id);
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    [
        ("{{.ID}}", short(&record.id)),
        ("{{.FullID}}", record.id.clone()),
        ("{{.Name}}", record.name.clone()),
        ("{{.ImageID}}", short(image)),
        ("{{.ImageFullID}}", record.image_id.clone()),
        ("{{.ImageName}}", record.config.image.clone()),
        ("{{.DaemonName}}", "docker".to_owned()),
    ]
    .into_iter()
    .fold(tag.to_owned(), |text, (name, value)| text.replace(name, &value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        let config = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        LogConfig { r#type: driver.to_owned(), config }
    }

    #[test]
    fn sizes_and_counts_are_read() {
        let options =
            parse(&config("json-file", &[("max-size", "10m"), ("max-file", "3"), ("compress", "true")]));
        let options = options.unwrap();
        assert_eq!((options.capacity, options.files, options.compress), (Some(10_000_000), 3, true));
        assert_eq!(parse(&config("local", &[])).unwrap().files, 5);
        assert_eq!(bytes("1.5k"), Some(1500));
        assert_eq!(bytes("ten"), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refusal = |driver, options: &[(&str, &str)]| check(&config(driver, options)).unwrap_err().message;
        assert_eq!(refusal("fluentd", &[]), "logger: no log driver named 'fluentd' is registered");
        assert_eq!(
            refusal("json-file", &[("colour", "x")]),
            "unknown log opt 'colour' for json-file log driver"
        );
        assert_eq!(refusal("json-file", &[("max-file", "0")]), "max-file cannot be less than 1");
        assert!(refusal("json-file", &[("compress", "true")]).starts_with("compress cannot be true"));
        assert!(refusal("json-file", &[("mode", "fast")]).contains("logging mode not supported: fast"));
        assert!(refusal("json-file", &[("env-regex", "(")]).contains("error parsing regexp"));
    }
}
