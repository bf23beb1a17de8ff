//! An attached client on a web socket: a message per chunk in both directions, never multiplexed.

use bytes::Bytes;
use engine::containers::request::Attachment;
use engine::containers::{Input, Written};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, header};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::hijack::Raw;
use crate::error::ApiError;

/// The head that accepts a client's handshake (RFC 6455, 4.2.2).
pub(crate) fn accept(headers: &HeaderMap) -> Result<Vec<u8>, ApiError> {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    match key {
        Some(key) if upgrade.eq_ignore_ascii_case("websocket") => Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )
        .into_bytes()),
        _ => Err(ApiError::invalid("bad request: this path is for web sockets only")),
    }
}

/// Carries one attachment until the process's output ends, the client detaches or is gone. `text` is for clients
/// that know no binary messages.
pub(crate) async fn carry(raw: Raw, attachment: Attachment, text: bool) {
    let Attachment { mut output, input, .. } = attachment;
    let socket = WebSocketStream::from_raw_socket(raw, Role::Server, None).await;
    let (mut to_client, from_client) = socket.split();
    {
        let showing = async {
            while let Some(chunk) = output.next().await {
                if to_client.send(message(chunk.bytes, text)).await.is_err() {
                    return;
                }
            }
        };
        let typing = read(from_client, input);
        tokio::pin!(showing, typing);
        tokio::select! {
            () = &mut showing => {}
            () = &mut typing => {}
        }
    }
    close(to_client).await;
}

async fn close(mut to_client: SplitSink<WebSocketStream<Raw>, Message>) {
    // A client that is gone already needs no goodbye.
    let _ = to_client.close().await;
}

fn message(bytes: Bytes, text: bool) -> Message {
    if text { Message::text(String::from_utf8_lossy(&bytes).into_owned()) } else { Message::Binary(bytes) }
}

/// Ends when the client leaves: a web socket has no half-close.
async fn read(mut from_client: SplitStream<WebSocketStream<Raw>>, mut input: Option<Input>) {
    while let Some(Ok(message)) = from_client.next().await {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => break,
            _ => continue,
        };
        if let Some(open) = &mut input {
            match open.write(bytes).await {
                Ok(Written::Accepted) => {}
                Ok(Written::Detached) => return,
                // The process reads no more; that is no reason to stop showing what it writes.
                Err(_) => input = None,
            }
        }
    }
    if let Some(input) = &mut input {
        input.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_handshake_is_the_standard_s() {
        let mut headers = HeaderMap::new();
        assert!(accept(&headers).is_err());
        headers.insert(header::UPGRADE, "WebSocket".parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        let head = String::from_utf8(accept(&headers).unwrap()).unwrap();
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    }
}
