"""A session with Testcontainers: what a developer's integration tests do."""

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs


def a_server_on_a_mapped_port():
    script = "echo open; exec httpd -f -h /var/www"
    with DockerContainer("busybox").with_command(["sh", "-c", script]).with_exposed_ports(80) as server:
        wait_for_logs(server, "open", timeout=30)
        address = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(80)}/"
        for attempt in range(100):
            try:
                assert urllib.request.urlopen(address, timeout=5).read() == b"ahoy\n"
                break
            except OSError:
                assert attempt < 99, address
        assert server.exec(["cat", "/var/www/index.html"]).output == b"ahoy\n"
        out, _ = server.get_logs()
        assert out == b"open\n", out


def two_on_a_network():
    with Network() as network:
        server = DockerContainer("busybox").with_command(["httpd", "-f", "-h", "/var/www"])
        with server.with_network(network).with_network_aliases("shop"):
            fetch = "until wget -q -O - http://shop/; do sleep 0.05; done"
            with DockerContainer("busybox").with_command(["sh", "-c", fetch]).with_network(network) as client:
                wait_for_logs(client, "ahoy", timeout=30)


def settings_and_volumes(folder="/tmp"):
    container = DockerContainer("busybox").with_env("FLAG", "up").with_volume_mapping(folder, "/from", "ro")
    with container.with_command(["sh", "-c", "echo $FLAG; test -d /from && echo there"]) as container:
        wait_for_logs(container, "up\nthere", timeout=30)


a_server_on_a_mapped_port()
two_on_a_network()
settings_and_volumes()
