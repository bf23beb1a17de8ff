//! What a registry asks for in `WWW-Authenticate`, and what is sent in return.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::settings::Credentials;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(super) scheme: String,
    pub(super) parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads one header value. Registries send one challenge per header; what follows a second scheme is left out.
    pub(super) fn parse(header: &str) -> Option<Challenge> {
        let header = header.trim();
        let (scheme, mut rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.is_empty() {
            return None;
        }
        let mut parameters = Vec::new();
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let (value, after) = value(after);
            parameters.push((key, value));
            rest = after;
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
    }
}

/// A quoted string with backslash escapes, or a token.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The value of an `Authorization` header with a name and password.
pub(super) fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// A query string or form, encoded.
pub(super) fn encode(pairs: &[(&str, &str)]) -> String {
    let mut encoded = String::new();
    for (key, value) in pairs {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        encoded.push_str(key);
        encoded.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_gives_its_parameters() {
        let challenge = Challenge::parse(
            r#"Bearer realm="https://auth.example/token",service="a,b",scope="repository:x:pull",error=insufficient_scope"#,
        )
        .unwrap();
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(challenge.parameter("service"), Some("a,b"));
        assert_eq!(challenge.parameter("error"), Some("insufficient_scope"));
    }

    #[test]
    fn a_broken_challenge_is_read_as_far_as_it_goes() {
        assert_eq!(Challenge::parse("Basic").unwrap().scheme, "basic");
        assert_eq!(
            Challenge::parse(r#"Bearer realm="unclosed \""#).unwrap().parameter("realm"),
            Some("unclosed \"")
        );
        assert!(Challenge::parse("").is_none());
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull"), ("x", "ü")]),
            "scope=repository%3Aa%2Fb%3Apull&x=%C3%BC"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(header in ".*") {
            let _ = Challenge::parse(&header);
        }
    }
}
