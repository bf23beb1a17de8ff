//! JSON lines: one document per line, each a chunk of its own so that it is flushed at once.

use bytes::Bytes;
use serde::Serialize;

/// One document and its line end, as docker's own encoder writes them.
pub(crate) fn line<T: Serialize>(value: &T) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a progress line could not be written as JSON");
        b"{}".to_vec()
    });
    text.extend_from_slice(b"\r\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_one_line() {
        let text = line(&serde_json::json!({"status": "two\nlines"}));
        assert_eq!(text[..], *b"{\"status\":\"two\\nlines\"}\r\n");
    }
}
