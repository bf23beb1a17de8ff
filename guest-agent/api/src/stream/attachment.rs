//! An attached client: its bytes to the process, the process's to it, each until its own end.

use bytes::{Bytes, BytesMut};
use engine::containers::request::{Attachment, BoxStream, OutputChunk, StdStream};
use engine::containers::{Input, Written};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::frame;
use super::hijack::Raw;
use crate::connection;

/// How much of a client's input is read at once.
const READ: usize = 32 << 10;

/// Carries one attachment until the process's output ends, the client detaches or is gone.
///
/// The end of the client's input closes the process's and no more: output goes on, as the client may have
/// half-closed. (docker's own command half-closes at once when it has no stdin to send.)
pub(crate) async fn carry(raw: Raw, attachment: Attachment) {
    let Attachment { tty, output, input } = attachment;
    let (mut from_client, to_client) = tokio::io::split(raw);
    {
        let typing = async {
            match input {
                Some(input) => send_input(&mut from_client, input).await,
                None => End::OfInput,
            }
        };
        let showing = send_output(to_client, output, tty);
        tokio::pin!(typing, showing);
        tokio::select! {
            () = &mut showing => {}
            end = &mut typing => match end {
                End::OfInput => showing.await,
                End::Detached => {}
            }
        }
    }
    // Closing over input that nobody reads any more would turn the end of the output into an error.
    connection::linger(from_client).await;
}

enum End {
    OfInput,
    Detached,
}

async fn send_input(client: &mut ReadHalf<Raw>, mut input: Input) -> End {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        match client.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match input.write(buffer.split().freeze()).await {
            Ok(Written::Accepted) => {}
            Ok(Written::Detached) => return End::Detached,
            // The process reads no more; that is no reason to stop showing what it writes.
            Err(_) => break,
        }
    }
    input.close();
    End::OfInput
}

async fn send_output(mut client: WriteHalf<Raw>, mut output: BoxStream<OutputChunk>, tty: bool) {
    while let Some(chunk) = output.next().await {
        if client.write_all(&framed(tty, chunk)).await.is_err() || client.flush().await.is_err() {
            return;
        }
    }
    // A client that is gone already needs no end of the output.
    let _ = client.shutdown().await;
}

/// A chunk of output as it travels.
pub(crate) fn framed(tty: bool, chunk: OutputChunk) -> Bytes {
    let stream = match chunk.stream {
        StdStream::Stdout => frame::Stream::Stdout,
        StdStream::Stderr => frame::Stream::Stderr,
    };
    frame::chunk(tty, stream, chunk.bytes)
}
