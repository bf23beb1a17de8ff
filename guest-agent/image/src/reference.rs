//! References: how people name images, and the one full name that each of those means.
//!
//! `busybox` is familiar, `docker.io/library/busybox:latest` is canonical. A [`Reference`] holds the canonical parts;
//! the familiar spelling is derived for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// The registry that a name without a host means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An old name of the same registry.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// Where the default registry keeps images whose name has one part.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Both limits are those of the distribution specification's reference grammar.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised image name: host, path, and a tag or digest or both or neither.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image. The words are dockerd's.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum InvalidReference {
    /// The grammar does not admit it.
    #[error("invalid reference format")]
    Format,
    /// Repository names have no capitals.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// It would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than the specification admits.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    /// The part after `@` is no digest that this engine verifies.
    #[error("invalid reference format: {0}")]
    Digest(crate::InvalidDigest),
}

impl Reference {
    /// The registry's host, with its port if one was given: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository's path in its registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The repository's full name: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository's name as people write it: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // `library/a/b` keeps its prefix: `a/b` would mean another repository.
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same, with the tag `latest` if there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository by `tag`, without a digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidReference::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(InvalidReference::Digest)?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidReference::UpperCase(path));
        }
        if !is_domain(domain)
            || !path.split('/').all(is_path_component)
            || tag.is_some_and(|tag| !is_tag(tag))
        {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(InvalidReference::TooLong);
        }
        Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

/// The first part is a host if it could not be a plain user name: it has a dot, a port or capitals, or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
            return false;
        }
        return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        }
    };
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Runs of lower-case letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|byte| alphanumeric(*byte)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// The canonical spelling: `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    fn familiar(text: &str) -> String {
        text.parse::<Reference>().unwrap().familiar()
    }

    #[test]
    fn familiar_names_mean_the_default_registry() {
        assert_eq!(canonical("busybox"), "docker.io/library/busybox");
        assert_eq!(canonical("user/app:1.2"), "docker.io/user/app:1.2");
        assert_eq!(canonical("index.docker.io/busybox"), "docker.io/library/busybox");
        assert_eq!(canonical("docker.io/busybox:1"), "docker.io/library/busybox:1");
    }

    #[test]
    fn a_first_part_with_dot_port_or_localhost_is_a_host() {
        assert_eq!(canonical("localhost/app"), "localhost/app");
        assert_eq!(canonical("localhost:5000/app:x"), "localhost:5000/app:x");
        assert_eq!(canonical("ghcr.io/a/b/c"), "ghcr.io/a/b/c");
        assert_eq!(canonical("[::1]:5000/app"), "[::1]:5000/app");
        assert_eq!(canonical("Host/app"), "Host/app");
    }

    #[test]
    fn people_see_the_short_spelling() {
        assert_eq!(familiar("docker.io/library/busybox:latest"), "busybox:latest");
        assert_eq!(familiar("docker.io/user/app"), "user/app");
        assert_eq!(familiar("localhost:5000/app"), "localhost:5000/app");
        assert_eq!(familiar("docker.io/library/a/b"), "library/a/b");
    }

    #[test]
    fn a_tag_and_a_digest_may_stand_together() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!(reference.tag(), Some("1"));
        assert_eq!(reference.digest(), Some(digest));
    }

    #[test]
    fn latest_is_added_only_where_nothing_is_given() {
        let digest = Digest::of(b"x");
        assert_eq!("a".parse::<Reference>().unwrap().or_latest().familiar(), "a:latest");
        assert_eq!("a:b".parse::<Reference>().unwrap().or_latest().familiar(), "a:b");
        assert_eq!("a".parse::<Reference>().unwrap().with_digest(digest).or_latest().tag(), None);
    }

    #[test]
    fn wrong_names_are_refused_in_dockerds_words() {
        let message = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(message(""), "invalid reference format");
        assert_eq!(message("a:"), "invalid reference format");
        assert_eq!(message("a//b"), "invalid reference format");
        assert_eq!(message("-a"), "invalid reference format");
        assert_eq!(message("a___b"), "invalid reference format");
        assert_eq!(message("../etc"), "invalid reference format");
        assert_eq!(
            message("Foo"),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
        assert!(message(&"a".repeat(64)).contains("cannot specify 64-byte hexadecimal strings"));
        assert!(message(&"x".repeat(300)).contains("must not be more than 255 characters"));
    }

    proptest! {
        #[test]
        fn canonical_and_familiar_spellings_read_back_as_the_same(
            host in prop_oneof![Just(String::new()), "[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{1,5})?/"],
            // A first part with a dot would be a host.
            path in "[a-z0-9]{1,8}([_-][a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?){0,2}",
            tag in prop_oneof![Just(String::new()), ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"],
        ) {
            let reference: Reference = format!("{host}{path}{tag}").parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
