//! Addresses in answers: where a redirect or an upload leads.

fn authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next()?))
}

pub(super) fn same_host(one: &str, other: &str) -> bool {
    authority(one).is_some() && authority(one) == authority(other)
}

/// An address as seen from `base`: absolute, without a scheme, or a path.
pub(super) fn resolve(base: &str, location: &str) -> Option<String> {
    let (scheme, host) = authority(base)?;
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{host}{location}"));
    }
    if location.is_empty() || location.contains("://") {
        return None;
    }
    let path = base.split(['?', '#']).next()?;
    let end = path.rfind('/').filter(|end| *end > scheme.len() + 2).unwrap_or(path.len());
    Some(format!("{}/{location}", &path[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_as_browsers_do() {
        let base = "https://a.example:5000/v2/x/blobs/y?z=1";
        assert_eq!(resolve(base, "/q").unwrap(), "https://a.example:5000/q");
        assert_eq!(resolve(base, "//b/q").unwrap(), "https://b/q");
        assert_eq!(resolve(base, "q").unwrap(), "https://a.example:5000/v2/x/blobs/q");
        assert_eq!(resolve(base, "http://c/").unwrap(), "http://c/");
        assert!(resolve(base, "ftp://c/").is_none());
    }

    #[test]
    fn another_port_is_another_host() {
        assert!(same_host("https://a:1/x", "https://a:1"));
        assert!(!same_host("https://a:2/x", "https://a:1"));
        assert!(!same_host("http://a:1/x", "https://a:1"));
    }
}
