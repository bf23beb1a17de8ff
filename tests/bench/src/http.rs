//! A client that costs next to nothing, so that the engine is what gets measured.
//!
//! One kept-open connection over a unix socket; a whole body per answer. It knows no more of HTTP
//! than that: `tests/engine` has the real clients.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, bail};

/// A connection to an engine.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and returns the answer's body; a status of 400 or more is an error.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        self.send(method, path, body)?;
        let status = self.line()?;
        let code: u16 = status.split(' ').nth(1).unwrap_or_default().parse().context("no status line")?;
        let mut length = None;
        let mut chunked = false;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>()?);
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let answer = match length {
            _ if chunked => self.chunks()?,
            Some(length) => self.exactly(length)?,
            None => String::new(),
        };
        if code >= 400 {
            bail!("{method} {path}: {code} {answer}");
        }
        Ok(answer)
    }

    /// Sends a request and reads until the engine closes the connection, as it does after a process's output.
    pub(crate) fn until_closed(mut self, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        self.send(method, path, body)?;
        let status = self.line()?;
        if !status.contains(" 200 ") && !status.contains(" 101 ") {
            bail!("{method} {path}: {status}");
        }
        self.stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the engine closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn exactly(&mut self, length: usize) -> anyhow::Result<String> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }

    fn chunks(&mut self) -> anyhow::Result<String> {
        let mut body = String::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16)?;
            body.push_str(&self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}
