//! The API version window: which `/vX.Y` prefixes are served, and what is said of the others.

use std::fmt;

use crate::error::ApiError;

/// The oldest version that is served.
pub const MINIMUM_VERSION: Version = Version { major: 1, minor: 24 };
/// The newest version, and the one that a path without a prefix means.
pub const MAXIMUM_VERSION: Version = Version { major: 1, minor: 51 };

/// A version of the Engine API, such as `1.51`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number before the dot.
    pub major: u32,
    /// The number after the dot.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Whether this request speaks at least version 1.`minor`.
    pub fn at_least(self, minor: u32) -> bool {
        self >= Version { major: 1, minor }
    }
}

/// Splits `/v1.44/containers/json` into the version and the path behind it.
///
/// Only `v` followed by digits and dots is a prefix; `/volumes` and `/version` are paths.
///
/// # Errors
/// A version outside the window is refused in dockerd's words, which clients print as they are.
pub(crate) fn split_prefix(path: &str) -> Result<(Version, &str), ApiError> {
    let Some((version, rest)) = prefix_of(path) else {
        return Ok((MAXIMUM_VERSION, path));
    };
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let mut parts = version.split('.');
    let major = parts.next().map_or(0, number);
    let minor = parts.next().map_or(0, number);
    let parsed = Version { major, minor };
    if parsed < MINIMUM_VERSION {
        return Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {MINIMUM_VERSION}, \
             please upgrade your client to a newer version"
        )));
    }
    if parsed > MAXIMUM_VERSION {
        return Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {MAXIMUM_VERSION}"
        )));
    }
    Ok((parsed, rest))
}

fn prefix_of(path: &str) -> Option<(&str, &str)> {
    let tail = path.strip_prefix("/v")?;
    let end = tail.find('/')?;
    let (version, rest) = tail.split_at(end);
    let numeric = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (numeric && rest.len() > 1).then_some((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        split_prefix(path).unwrap_err().to_string()
    }

    #[test]
    fn a_path_without_a_prefix_means_the_newest_version() {
        assert_eq!(split_prefix("/_ping").unwrap(), (MAXIMUM_VERSION, "/_ping"));
        assert_eq!(split_prefix("/version").unwrap(), (MAXIMUM_VERSION, "/version"));
        assert_eq!(split_prefix("/volumes/v1").unwrap(), (MAXIMUM_VERSION, "/volumes/v1"));
    }

    #[test]
    fn the_window_is_the_one_that_the_engine_announces() {
        assert_eq!(MAXIMUM_VERSION.to_string(), engine::system::API_VERSION);
        assert_eq!(MINIMUM_VERSION.to_string(), engine::system::MIN_API_VERSION);
    }

    #[test]
    fn both_ends_of_the_window_are_served() {
        assert_eq!(split_prefix("/v1.24/info").unwrap(), (MINIMUM_VERSION, "/info"));
        assert_eq!(split_prefix("/v1.51/info").unwrap(), (MAXIMUM_VERSION, "/info"));
    }

    #[test]
    fn versions_outside_are_refused_in_dockerd_words() {
        assert_eq!(
            refusal("/v1.12/info"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            refusal("/v1.52/info"),
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        assert!(refusal("/v2/info").contains("too new"));
        assert!(refusal("/v1.9/info").contains("too old"), "numbers, not text, are compared");
        assert!(refusal("/v99999999999999999999.1/info").contains("too new"));
    }

    #[test]
    fn letters_are_no_version() {
        assert_eq!(split_prefix("/vx.y/info").unwrap().1, "/vx.y/info");
        assert_eq!(split_prefix("/v1.41").unwrap().1, "/v1.41");
    }
}
