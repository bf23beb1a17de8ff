//! Platforms: which machine an image is for, and which of several images fits a machine best.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system, an architecture and the architecture's variant, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, as a rule.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\": unknown operating system or architecture: invalid argument")]
pub struct InvalidPlatform(String);

impl Platform {
    /// The platform that this program runs on.
    pub fn host() -> Platform {
        Platform { os: "linux".to_owned(), architecture: std::env::consts::ARCH.to_owned(), variant: None }
            .normalised()
    }

    /// The same platform in the one spelling that registries use: `x86_64` is `amd64`, `arm64/v8` is `arm64`.
    #[must_use]
    pub fn normalised(mut self) -> Platform {
        self.os = self.os.to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let variant =
            self.variant.take().map(|variant| variant.to_ascii_lowercase()).filter(|v| !v.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(variant)) => ("amd64", Some(variant)),
            ("i386" | "i686" | "x86" | "386", _) => ("386", None),
            ("aarch64" | "arm64", Some("v8" | "8") | None) => ("arm64", None),
            ("aarch64" | "arm64", Some(variant)) => ("arm64", Some(variant)),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("loongarch64", variant) => ("loong64", variant),
            ("powerpc64le", variant) => ("ppc64le", variant),
            (other, variant) => (other, variant),
        };
        Platform { os: self.os, variant: variant.map(str::to_owned), architecture: architecture.to_owned() }
    }

    /// How well an image for `offered` runs where `self` is wanted: `None` not at all, otherwise smaller is better.
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
        let (wanted, offered) = (self.clone().normalised(), offered.clone().normalised());
        if wanted.os != offered.os {
            return None;
        }
        if wanted.architecture == "amd64" && offered.architecture == "386" {
            // Every amd64 kernel runs 386 programs too, so it is the last resort.
            return Some(100);
        }
        if wanted.architecture != offered.architecture {
            return None;
        }
        let default = match wanted.architecture.as_str() {
            "amd64" => 1,
            "arm64" => 80,
            _ => 0,
        };
        match (level(wanted.variant.as_deref(), default), level(offered.variant.as_deref(), default)) {
            (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
            _ => (wanted.variant == offered.variant).then_some(0),
        }
    }
}

/// `v8.2` is level 82 and `v7` is level 70 on ARM; `v3` is level 3 elsewhere. Higher levels contain the lower ones.
fn level(variant: Option<&str>, default: u32) -> Option<u32> {
    let Some(variant) = variant else { return Some(default) };
    let number = variant.strip_prefix('v')?;
    if default >= 10 {
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        return major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse().ok()?);
    }
    number.parse().ok()
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Platform, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let word = |part: &str| {
            !part.is_empty()
                && part.len() <= 64
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().copied().all(word) {
            return Err(invalid());
        }
        let owned = |part: &str| part.to_owned();
        let platform = match parts.as_slice() {
            [one] if is_os(one) => Platform { os: owned(one), ..Platform::host() },
            [one] if is_architecture(one) => {
                Platform { os: owned("linux"), architecture: owned(one), variant: None }
            }
            [os, architecture] => {
                Platform { os: owned(os), architecture: owned(architecture), variant: None }
            }
            [os, architecture, variant] => {
                Platform { os: owned(os), architecture: owned(architecture), variant: Some(owned(variant)) }
            }
            _ => return Err(invalid()),
        };
        Ok(platform.normalised())
    }
}

fn is_os(word: &str) -> bool {
    matches!(word, "linux" | "windows" | "darwin" | "freebsd")
}

fn is_architecture(word: &str) -> bool {
    matches!(
        word.to_ascii_lowercase().as_str(),
        "amd64"
            | "x86_64"
            | "x86-64"
            | "arm64"
            | "aarch64"
            | "arm"
            | "armhf"
            | "armel"
            | "386"
            | "i386"
            | "riscv64"
            | "ppc64le"
            | "s390x"
            | "mips64le"
            | "loong64"
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn distance(wanted: &str, offered: &str) -> Option<u32> {
        platform(wanted).distance(&platform(offered))
    }

    #[test]
    fn spellings_of_one_platform_are_equal() {
        assert_eq!(platform("linux/x86_64"), platform("linux/amd64"));
        assert_eq!(platform("linux/arm64/v8"), platform("linux/aarch64"));
        assert_eq!(platform("arm64"), platform("linux/arm64"));
        assert_eq!(platform("linux/arm").to_string(), "linux/arm/v7");
    }

    #[test]
    fn older_variants_run_on_newer_machines_and_not_the_reverse() {
        assert_eq!(distance("linux/arm/v7", "linux/arm/v7"), Some(0));
        assert_eq!(distance("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(distance("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), None);
    }

    #[test]
    fn other_systems_and_architectures_never_match() {
        assert_eq!(distance("linux/amd64", "windows/amd64"), None);
        assert_eq!(distance("linux/amd64", "linux/arm64"), None);
        assert_eq!(distance("linux/amd64", "linux/386"), Some(100));
        assert_eq!(distance("linux/386", "linux/amd64"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "a/b/c/d", "linux/", "what ever/x", "vms"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?} was taken");
        }
    }
}
