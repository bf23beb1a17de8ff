//! Proxies: which hosts are reached through which, by the rules of Go's programs, and the tunnel through one.

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::Stream;
use super::settings::{contains, host_of};

/// Longer than any proxy's answer to CONNECT.
const MAX_HEAD: usize = 16 * 1024;

/// Through which proxies registries are reached: what `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` addresses; empty for none.
    pub http: String,
    /// For `https://` addresses; empty for none.
    pub https: String,
    /// Hosts that are reached directly, with commas between them.
    pub exceptions: String,
}

/// Addresses may hold passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxies { http, https, exceptions } = self.masked();
        f.debug_struct("Proxies")
            .field("http", &http)
            .field("https", &https)
            .field("exceptions", &exceptions)
            .finish()
    }
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// It is spoken to over TLS itself.
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Proxies {
    /// The same without passwords, to be shown.
    pub fn masked(&self) -> Proxies {
        let mask = |address: &str| match (address.find("://"), address.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                format!("{}xxxxx:xxxxx{}", &address[..scheme + 3], &address[at..])
            }
            _ => address.to_owned(),
        };
        Proxies { http: mask(&self.http), https: mask(&self.https), exceptions: self.exceptions.clone() }
    }

    /// The proxy for a host, if there is one.
    pub(super) fn of(&self, https: bool, host: &str, port: u16) -> Option<Proxy> {
        let address = if https { &self.https } else { &self.http };
        if address.is_empty() || is_local(host) || self.excepts(host, port) {
            return None;
        }
        let proxy = Proxy::parse(address);
        if proxy.is_none() {
            tracing::warn!("the proxy's address cannot be read: the registry is asked directly");
        }
        proxy
    }

    fn excepts(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        self.exceptions.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            if entry == "*" {
                return true;
            }
            if let Some(address) = address
                && (entry.parse() == Ok(address) || contains(&entry, address))
            {
                return true;
            }
            let (name, only) = match entry.rsplit_once(':') {
                Some((name, only)) if entry.matches(':').count() == 1 || entry.starts_with('[') => {
                    (host_of(name).to_owned(), only.parse::<u16>().ok())
                }
                _ => (entry, None),
            };
            if only.is_some_and(|only| only != port) {
                return false;
            }
            let name = name.strip_prefix('*').unwrap_or(&name);
            match name.strip_prefix('.') {
                // With a dot in front only what is below it is meant.
                Some(_) => host.ends_with(name),
                None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
            }
        })
    }
}

/// What is on this machine is never asked for elsewhere.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Proxy {
    fn parse(address: &str) -> Option<Proxy> {
        let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
        let https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.split(['/', '?']).next()?;
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, authority),
        };
        let host = host_of(authority).to_owned();
        let port = match authority.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse().ok()?,
            _ if https => 443,
            _ => 80,
        };
        let authorization = user.map(|user| {
            let user = percent_decoded(user);
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(if user.contains(&b':') { user } else { [&user[..], b":"].concat() })
            )
        });
        (!host.is_empty()).then_some(Proxy { https, host, port, authorization })
    }

    /// Has the proxy connect the stream to a host.
    pub(super) async fn tunnel(&self, stream: &mut Box<dyn Stream>, host: &str, port: u16) -> io::Result<()> {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(value) = &self.authorization {
            head.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        // A byte at a time: what follows the head belongs to the host.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_HEAD {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) == Some("200") {
            return Ok(());
        }
        let said = status.split_once(' ').map_or(status, |(_, said)| said);
        Err(io::Error::other(format!("proxyconnect tcp: {}: {said}", self.host)))
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_domains_addresses_networks_and_ports() {
        let proxies = Proxies {
            https: "http://proxy:3128".into(),
            exceptions: "plain.example, .below.example,10.0.0.0/8,192.0.2.7,only.example:5000,*.star.example"
                .into(),
            ..Proxies::default()
        };
        let direct = |host: &str, port| proxies.of(true, host, port).is_none();
        assert!(direct("plain.example", 443) && direct("sub.plain.example", 443));
        assert!(direct("x.below.example", 443) && !direct("below.example", 443));
        assert!(direct("10.200.1.1", 443) && direct("192.0.2.7", 443) && !direct("192.0.2.8", 443));
        assert!(direct("only.example", 5000) && !direct("only.example", 443));
        assert!(direct("a.star.example", 443) && !direct("notplain.example", 443));
        assert!(direct("localhost", 443) && direct("127.0.0.1", 5000));
        assert!(proxies.of(false, "anything.example", 80).is_none());
        let all = Proxies { exceptions: "*".into(), ..proxies.clone() };
        assert!(all.of(true, "anything.example", 443).is_none());
    }

    #[test]
    fn a_proxys_address_may_lack_its_scheme_and_hold_a_password() {
        let bare = Proxy::parse("proxy.example:3128").unwrap();
        assert_eq!((bare.https, bare.host.as_str(), bare.port), (false, "proxy.example", 3128));
        let full = Proxy::parse("https://me:p%40ss@proxy.example/").unwrap();
        assert_eq!((full.https, full.port), (true, 443));
        assert_eq!(full.authorization.unwrap(), format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
        assert!(Proxy::parse("socks5://proxy.example").is_none());
        let shown = Proxies { http: "http://me:secret@proxy:1".into(), ..Proxies::default() };
        assert_eq!(shown.masked().http, "http://xxxxx:xxxxx@proxy:1");
        assert!(!format!("{shown:?}").contains("secret"));
    }
}
