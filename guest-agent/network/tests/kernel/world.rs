//! The language of these tests: a machine with an outside, containers, and conversations between them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

use network::{
    AttachSpec, Endpoint, NetworkConfig, NetworkRecord, NetworkSpec, Networks, PortSpec, Protocol, Publishing,
};
use sys::netlink::namespace;

/// Long enough for a busy machine: what must work is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What must not work is given so long to work all the same.
const DOUBT: Duration = Duration::from_millis(700);

/// A machine: the test thread's namespace, connected to an outside by 192.0.2.1/24.
pub(crate) struct World {
    pub(crate) networks: Networks,
    /// 192.0.2.2, which knows no route to the containers.
    pub(crate) outside: OwnedFd,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// Runs `test` in a fresh namespace, or says loudly why not.
pub(crate) fn in_a_world(test: impl FnOnce(&World) + Send) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all();
    in_a_world_with(runtime, test);
}

/// The same with a thread beside the test's that runs what was spawned.
pub(crate) fn in_a_served_world(test: impl FnOnce(&World) + Send) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all();
    in_a_world_with(runtime, test);
}

fn in_a_world_with(mut runtime: tokio::runtime::Builder, test: impl FnOnce(&World) + Send) {
    in_a_bare_namespace(|| {
        let (outside, _) = namespace::fresh(|| Ok(run("ip link set lo up"))).unwrap();
        run("ip link set lo up");
        run("ip link add up0 type veth peer name out0");
        let path = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
        run(&format!("ip link set out0 netns {path}"));
        run("ip addr add 192.0.2.1/24 dev up0");
        run("ip link set up0 up");
        inside(&outside, || {
            run("ip addr add 192.0.2.2/24 dev out0");
            run("ip link set out0 up");
        });
        let runtime = runtime.build().unwrap();
        let world = World { networks: networks("one"), outside, runtime };
        test(&world);
        world.networks.close().unwrap();
    });
}

pub(crate) fn in_a_bare_namespace(test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    namespace::fresh(|| {
        test();
        Ok(())
    })
    .unwrap();
}

pub(crate) fn networks(instance: &str) -> Networks {
    Networks::new(config(instance)).unwrap()
}

pub(crate) fn config(instance: &str) -> NetworkConfig {
    NetworkConfig {
        instance: instance.to_owned(),
        pools: Vec::new(),
        masquerade: true,
        ip_forward: true,
        lazy: false,
        publishing: Publishing::Native,
    }
}

impl World {
    pub(crate) fn network(&self, name: &str) -> NetworkRecord {
        self.networks.create(&network_spec(name)).unwrap()
    }

    pub(crate) fn container(&self, network: &str) -> Endpoint {
        self.networks.attach(attach_spec(network)).unwrap()
    }

    pub(crate) fn publish(
        &self,
        endpoint: &Endpoint,
        ports: &[PortSpec],
    ) -> network::Result<Vec<network::PortBinding>> {
        self.runtime.block_on(self.networks.publish(&endpoint.record.id, "web", ports))
    }

    /// Connects while the relays run.
    pub(crate) fn hello_through_relay(&self, address: &str) -> io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                let mut stream = tokio::net::TcpStream::connect(address).await?;
                let mut text = String::new();
                tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await?;
                Ok(text)
            })
            .await?
        })
    }
}

pub(crate) fn network_spec(name: &str) -> NetworkSpec {
    NetworkSpec { id: format!("{name:0<64}"), name: name.to_owned(), ..NetworkSpec::default() }
}

pub(crate) fn attach_spec(network: &str) -> AttachSpec {
    AttachSpec { network: format!("{network:0<64}"), default_route: true, ..AttachSpec::default() }
}

pub(crate) fn tcp(host_port: u16, container_port: u16) -> PortSpec {
    let protocol = Protocol::Tcp;
    PortSpec { container_port, protocol, host_ip: None, host_port, host_port_end: host_port }
}

pub(crate) fn address(endpoint: &Endpoint) -> IpAddr {
    endpoint.record.ipv4.unwrap().address.into()
}

/// Runs something in a namespace.
pub(crate) fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    namespace::within(netns.as_fd(), || Ok(work())).unwrap()
}

/// Serves in a namespace: each connection is told the address it came from.
pub(crate) fn serve(netns: &OwnedFd, port: u16) {
    let listener = inside(netns, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

/// Answers each datagram with the address it came from.
pub(crate) fn serve_datagrams(netns: &OwnedFd, port: u16) {
    let socket = inside(netns, || UdpSocket::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

/// Connects from the calling thread's namespace; returns what the server says.
pub(crate) fn hello(address: impl Into<SocketAddr>) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a connection from the calling thread's namespace fails.
pub(crate) fn fails(address: impl Into<SocketAddr>) -> bool {
    TcpStream::connect_timeout(&address.into(), DOUBT).is_err()
}

/// Sends a datagram from the calling thread's namespace; returns the answer.
pub(crate) fn datagram(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"hello")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Runs a foreign tool in the calling thread's namespace.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
