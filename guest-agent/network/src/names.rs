//! The contents of a container's `/etc/hosts` and `/etc/resolv.conf`, as dockerd makes them. Pure functions.

use std::net::IpAddr;

/// Where the embedded name server answers, the same in each container.
const EMBEDDED_SERVER: &str = "127.0.0.11";
/// What dockerd gives a container when the machine itself names no usable server.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// What `/etc/hosts` is made of.
#[derive(Debug, Clone, Default)]
pub struct Hosts<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain name, or empty.
    pub domainname: &'a str,
    /// Its addresses on its networks.
    pub addresses: &'a [IpAddr],
    /// `--add-host` entries, in order: name and address.
    pub extra: &'a [(String, String)],
    /// Whether the container has IPv6.
    pub ipv6: bool,
}

impl Hosts<'_> {
    /// The file's contents.
    pub fn render(&self) -> String {
        let mut text = String::from("127.0.0.1\tlocalhost\n");
        if self.ipv6 {
            text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
            text.push_str("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\n");
            text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
        }
        for (name, address) in self.extra {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        for address in self.addresses {
            text.push_str(&own_line(self.hostname, self.domainname, *address));
        }
        text
    }
}

/// The line for one of a container's own addresses.
pub fn own_line(hostname: &str, domainname: &str, address: IpAddr) -> String {
    if domainname.is_empty() {
        format!("{address}\t{hostname}\n")
    } else {
        format!("{address}\t{hostname}.{domainname} {hostname}\n")
    }
}

/// What `/etc/resolv.conf` is made of.
#[derive(Debug, Clone, Default)]
pub struct Resolver<'a> {
    /// The machine's own file.
    pub machine: &'a str,
    /// `--dns`: instead of the machine's servers.
    pub servers: &'a [IpAddr],
    /// `--dns-search`: instead of the machine's search list; a single `.` means none.
    pub search: &'a [String],
    /// `--dns-option`: instead of the machine's options.
    pub options: &'a [String],
}

impl Resolver<'_> {
    /// The file's contents. Loopback servers are left out, as they are nobody's inside the container.
    pub fn render(&self) -> String {
        let machine = Parsed::read(self.machine);
        let mut servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        if servers.is_empty() {
            servers = machine.servers.into_iter().filter(|server| is_reachable(server)).collect();
        }
        if servers.is_empty() {
            servers = FALLBACK_SERVERS.map(str::to_owned).to_vec();
        }
        let options = if self.options.is_empty() { machine.options } else { self.options.to_vec() };
        self.text(&servers, machine.search, &options)
    }

    /// The file's contents where the embedded name server answers. It knows names without a dot, so these are
    /// asked for as they are unless an option says otherwise.
    pub fn render_embedded(&self) -> String {
        let machine = Parsed::read(self.machine);
        let mut options = if self.options.is_empty() { machine.options } else { self.options.to_vec() };
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
        self.text(&[EMBEDDED_SERVER.to_owned()], machine.search, &options)
    }

    /// The servers that the embedded one asks: the machine's own, also those on its loopback.
    pub fn upstream(&self) -> Vec<IpAddr> {
        if !self.servers.is_empty() {
            return self.servers.to_vec();
        }
        let own: Vec<IpAddr> =
            Parsed::read(self.machine).servers.iter().filter_map(|server| server.parse().ok()).collect();
        if own.is_empty() {
            FALLBACK_SERVERS.iter().filter_map(|server| server.parse().ok()).collect()
        } else {
            own
        }
    }

    /// Whether options make the container's resolver try its search domains before a name without a dot.
    pub fn ndots(&self) -> bool {
        let options =
            if self.options.is_empty() { Parsed::read(self.machine).options } else { self.options.to_vec() };
        options.iter().any(|option| option.strip_prefix("ndots:").is_some_and(|dots| dots != "0"))
    }

    fn text(&self, servers: &[String], machines_search: Vec<String>, options: &[String]) -> String {
        let mut search = if self.search.is_empty() { machines_search } else { self.search.to_vec() };
        if search == ["."] {
            search.clear();
        }
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        if !options.is_empty() {
            text.push_str(&format!("options {}\n", options.join(" ")));
        }
        text
    }
}

/// A `resolv.conf` as the resolver reads it: the last `search` or `domain` counts, options add up.
#[derive(Default)]
struct Parsed {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Parsed {
    fn read(text: &str) -> Parsed {
        let mut parsed = Parsed::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => parsed.servers.extend(words.next()),
                Some("search" | "domain") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                _ => {}
            }
        }
        parsed
    }
}

/// Whether a container without IPv6 of its own reaches this server.
fn is_reachable(server: &str) -> bool {
    matches!(server.parse(), Ok(IpAddr::V4(address)) if !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_localhost_then_extra_entries_then_the_container() {
        let hosts = Hosts {
            hostname: "web",
            domainname: "example.test",
            addresses: &["172.17.0.2".parse().unwrap()],
            extra: &[("db".to_owned(), "10.0.0.9".to_owned())],
            ipv6: false,
        };
        assert_eq!(hosts.render(), "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n172.17.0.2\tweb.example.test web\n");
    }

    #[test]
    fn the_embedded_server_stands_alone_and_asks_all_that_the_machine_does() {
        let resolver = Resolver {
            machine: "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lan\noptions edns0\n",
            ..Resolver::default()
        };
        assert_eq!(resolver.render_embedded(), "nameserver 127.0.0.11\nsearch lan\noptions edns0 ndots:0\n");
        assert_eq!(resolver.upstream(), ["127.0.0.53", "10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert!(!resolver.ndots());
        let options = ["ndots:2".to_owned()];
        let own = Resolver { options: &options, ..resolver };
        assert!(own.ndots() && own.render_embedded().ends_with("options ndots:2\n"));
    }

    #[test]
    fn hosts_with_ipv6_knows_the_loopback_and_multicast_names() {
        let text = Hosts { hostname: "web", ipv6: true, ..Hosts::default() }.render();
        assert!(text.contains("::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(text.contains("ff02::2\tip6-allrouters\n"));
    }

    #[test]
    fn the_machines_resolver_is_taken_without_its_loopback_servers() {
        let machine = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1 ; office\nnameserver ::1\n\
                       domain old.test\nsearch a.test b.test\noptions ndots:2\noptions rotate\n";
        assert_eq!(
            Resolver { machine, ..Resolver::default() }.render(),
            "nameserver 10.0.0.1\nsearch a.test b.test\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn a_machine_without_usable_servers_gives_the_public_ones() {
        let machine = "nameserver 127.0.0.1\n";
        let text = Resolver { machine, ..Resolver::default() }.render();
        assert_eq!(text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn what_the_user_asks_for_replaces_what_the_machine_has() {
        let resolver = Resolver {
            machine: "nameserver 10.0.0.1\nsearch a.test\noptions rotate\n",
            servers: &["127.0.0.9".parse().unwrap()],
            search: &[".".to_owned()],
            options: &["ndots:1".to_owned()],
        };
        assert_eq!(resolver.render(), "nameserver 127.0.0.9\noptions ndots:1\n");
    }
}
