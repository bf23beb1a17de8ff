//! Registry credentials in request headers: base64 of a JSON document, in whichever alphabet.
//!
//! Clients disagree about the alphabet (standard or URL-safe) and about padding, so all four are read.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::error::ApiError;

/// What a client sends of its login at one registry.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    pub(crate) username: String,
    pub(crate) password: String,
    /// `username:password` in base64, which old configuration files hold instead of the two.
    pub(crate) auth: String,
    pub(crate) serveraddress: String,
    pub(crate) identitytoken: String,
    pub(crate) registrytoken: String,
}

impl AuthConfig {
    /// Whether nothing is in it: docker's command sends `{}` when there is no login.
    pub(crate) fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identitytoken.is_empty() && self.registrytoken.is_empty()
    }

    /// Fills user name and password from `auth` where only that is given.
    fn unpacked(mut self) -> AuthConfig {
        if self.username.is_empty()
            && let Some(pair) = base64_any(&self.auth).and_then(|bytes| String::from_utf8(bytes).ok())
            && let Some((username, password)) = pair.split_once(':')
        {
            self.username = username.to_owned();
            self.password = password.trim_end_matches('\0').to_owned();
        }
        self
    }
}

/// Decodes `X-Registry-Auth`; a missing or empty header is no login.
pub(crate) fn decode(header: Option<&http::HeaderValue>) -> Result<Option<AuthConfig>, ApiError> {
    let Some(value) = header.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let refuse = |reason: String| ApiError::invalid(format!("invalid X-Registry-Auth header: {reason}"));
    let text = value.to_str().map_err(|_| refuse("must be a valid base64url-encoded string".into()))?;
    let bytes =
        base64_any(text).ok_or_else(|| refuse("must be a valid base64url-encoded string".into()))?;
    let config: AuthConfig = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    Ok(Some(config.unpacked()).filter(|config| !config.is_empty()))
}

/// Decodes base64 of either alphabet, padded or not.
fn base64_any(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.trim().chars().map(|c| match c { '+' => '-', '/' => '_', c => c }).collect();
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose as alphabets;

    fn header(text: &str) -> Option<AuthConfig> {
        decode(Some(&http::HeaderValue::from_str(text).unwrap())).unwrap()
    }

    #[test]
    fn every_alphabet_and_padding_is_read() {
        // The question marks make `/` or `_` appear in the encoded text.
        let json = r#"{"username":"me","password":"p???>>>","serveraddress":"r.example"}"#;
        for encoded in [
            alphabets::STANDARD.encode(json),
            alphabets::STANDARD_NO_PAD.encode(json),
            alphabets::URL_SAFE.encode(json),
            alphabets::URL_SAFE_NO_PAD.encode(json),
        ] {
            let config = header(&encoded).unwrap();
            assert_eq!((config.username.as_str(), config.password.as_str()), ("me", "p???>>>"));
        }
    }

    #[test]
    fn an_empty_login_is_none() {
        assert_eq!(decode(None).unwrap(), None);
        assert_eq!(header("e30="), None);
        assert_eq!(header("e30"), None);
    }

    #[test]
    fn the_packed_pair_is_unpacked() {
        let inner = alphabets::STANDARD.encode("me:se:cret");
        let config = header(&alphabets::URL_SAFE.encode(format!(r#"{{"auth":"{inner}"}}"#))).unwrap();
        assert_eq!((config.username.as_str(), config.password.as_str()), ("me", "se:cret"));
    }

    #[test]
    fn garbage_is_refused_by_name() {
        for text in ["***", "bm90IGpzb24="] {
            let value = http::HeaderValue::from_static(text);
            let message = decode(Some(&value)).unwrap_err().to_string();
            assert!(message.starts_with("invalid X-Registry-Auth header"), "{message}");
        }
    }
}
