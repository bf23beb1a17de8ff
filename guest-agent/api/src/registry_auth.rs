//! Registry credentials in request headers: base64 of a JSON document, in whichever alphabet.
//!
//! Clients disagree about the alphabet (standard or URL-safe) and about padding, so all four are read.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::images::Credentials;

use crate::error::ApiError;

/// Whether nothing is in it: docker's command sends `{}` when there is no login.
fn is_empty(login: &Credentials) -> bool {
    login.username.is_empty() && login.identity_token.is_empty() && login.registry_token.is_empty()
}

/// Fills user name and password from `auth` where only that is given, as in old configuration files.
pub(crate) fn unpack(mut login: Credentials) -> Credentials {
    if login.username.is_empty()
        && let Some(pair) = base64_any(&login.auth).and_then(|bytes| String::from_utf8(bytes).ok())
        && let Some((username, password)) = pair.split_once(':')
    {
        login.username = username.to_owned();
        login.password = password.trim_end_matches('\0').to_owned();
    }
    login
}

/// Decodes `X-Registry-Auth`; a missing or empty header is no login.
pub(crate) fn decode(header: Option<&http::HeaderValue>) -> Result<Option<Credentials>, ApiError> {
    let Some(value) = header.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let refuse = |reason: String| ApiError::invalid(format!("invalid X-Registry-Auth header: {reason}"));
    let text = value.to_str().map_err(|_| refuse("must be a valid base64url-encoded string".into()))?;
    let bytes = base64_any(text).ok_or_else(|| refuse("must be a valid base64url-encoded string".into()))?;
    let login: Credentials = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    Ok(Some(unpack(login)).filter(|login| !is_empty(login)))
}

/// Decodes base64 of either alphabet, padded or not.
fn base64_any(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text
        .trim()
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose as alphabets;

    fn header(text: &str) -> Option<Credentials> {
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
