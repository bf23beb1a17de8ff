"""A session with docker-py: every object that it knows, its streams, and its exceptions."""

import io
import tarfile
import threading

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Mount


def system(client):
    assert client.ping()
    assert client.version()["ApiVersion"]
    assert client.info()["Containers"] == 0
    assert client.df()["Images"]


def images(client):
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("boat", "1")
    archive = b"".join(client.images.get("boat:1").save(named=True))
    client.images.remove("boat:1")
    client.images.load(archive)
    assert client.images.get("boat:1").id == image.id
    assert image.history()[0]["Id"] == image.id
    assert client.images.list(filters={"reference": "boat"})
    client.images.remove("boat:1")
    try:
        client.images.get("nowhere")
        raise AssertionError("an image that isn't there was found")
    except ImageNotFound as error:
        assert "No such image" in error.explanation, error.explanation


def runs(client):
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True)
    assert sorted(both.splitlines()) == [b"err", b"out"], both
    try:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
        raise AssertionError("a failed container went unnoticed")
    except ContainerError as error:
        assert error.exit_status == 3 and error.stderr == b"no\n", error


def lifecycle(client):
    container = client.containers.create(
        "busybox", ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"],
        name="life", environment={"A": "b"}, labels={"crew": "one"}, mem_limit="64m", tty=False)
    assert container.status == "created"
    container.start()
    assert next(container.logs(stream=True, follow=True)) == b"ready\n"
    container.reload()
    assert container.status == "running"
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("lively")
    assert client.containers.list(filters={"label": "crew=one"})[0].name == "lively"
    assert container.top()["Titles"]
    sample = container.stats(stream=False)
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] >= 0 and "precpu_stats" in sample
    container.update(mem_limit="96m", memswap_limit="96m")
    assert client.api.inspect_container(container.id)["HostConfig"]["Memory"] == 96 << 20
    container.stop()
    assert container.wait()["StatusCode"] == 7
    container.remove()
    try:
        client.containers.get("lively")
        raise AssertionError("a removed container was found")
    except NotFound as error:
        assert error.explanation == "No such container: lively", error.explanation


def commands(client, container):
    code, output = container.exec_run(["sh", "-c", "echo $X; pwd; id -u; echo e >&2; exit 5"],
                                      environment={"X": "y"}, workdir="/tmp", user="sailor", demux=True)
    assert code == 5 and output == (b"y\n/tmp\n1000\n", b"e\n"), (code, output)
    lines = container.exec_run(["sh", "-c", "echo a; echo b"], stream=True).output
    assert b"".join(lines) == b"a\nb\n"
    code, output = container.exec_run(["nowhere"])
    assert code in (126, 127), (code, output)


def interactive(client):
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"over and out\n")
    header = stream.read(8)
    assert header[0] == 1 and stream.read(int.from_bytes(header[4:], "big")) == b"over and out\n"
    stream._sock.close()
    container.remove(force=True)


def files(client, container):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("cargo")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"goods"))
    assert container.put_archive("/tmp", content.getvalue())
    assert container.exec_run(["cat", "/tmp/cargo"]).output == b"goods"
    stream, stat = container.get_archive("/tmp/cargo")
    assert stat["name"] == "cargo" and stat["size"] == 5
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        assert archive.extractfile("cargo").read() == b"goods"
    assert {"Path": "/tmp/cargo", "Kind": 1} in container.diff()
    assert b"cargo" in b"".join(container.export())
    changed = container.commit("loaded", "1", changes='CMD ["cat", "/tmp/cargo"]')
    assert client.containers.run(changed.id, remove=True) == b"goods"
    client.images.remove("loaded:1")


def volumes(client):
    volume = client.volumes.create("hold", labels={"crew": "one"})
    mount = Mount("/hold", "hold")
    client.containers.run("busybox", ["sh", "-c", "echo kept > /hold/a"], mounts=[mount], remove=True)
    assert client.containers.run("busybox", ["cat", "/hold/a"], mounts=[mount], remove=True) == b"kept\n"
    assert [found.name for found in client.volumes.list(filters={"label": "crew"})] == ["hold"]
    volume.remove()
    try:
        client.volumes.get("hold")
        raise AssertionError("a removed volume was found")
    except NotFound:
        pass


def networks(client):
    network = client.networks.create("sea", driver="bridge", labels={"crew": "one"})
    server = client.containers.run("busybox", ["httpd", "-f", "-h", "/var/www"], name="shore",
                                   network="sea", detach=True)
    fetch = ["sh", "-c", "until wget -q -O - http://shore/; do sleep 0.05; done"]
    assert client.containers.run("busybox", fetch, network="sea", remove=True, stderr=False) == b"ahoy\n"
    try:
        network.remove()
        raise AssertionError("a network in use was removed")
    except APIError as error:
        assert "has active endpoints" in error.explanation, error.explanation
    network.disconnect(server)
    network.connect(server, aliases=["coast"])
    network.reload()
    assert [member.name for member in network.containers] == ["shore"]
    server.remove(force=True)
    network.remove()


def events(client):
    seen = []
    begun = threading.Event()

    def watch():
        stream = client.events(decode=True, filters={"type": "container", "container": "seen"})
        begun.set()
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                stream.close()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun.wait()
    client.containers.run("busybox", ["true"], name="seen", remove=True)
    watcher.join(30)
    assert seen == ["create", "start", "die", "destroy"], seen


def main():
    client = docker.from_env(timeout=60)
    system(client)
    images(client)
    runs(client)
    lifecycle(client)
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    commands(client, container)
    files(client, container)
    container.remove(force=True)
    interactive(client)
    volumes(client)
    networks(client)
    events(client)
    assert client.containers.prune()["SpaceReclaimed"] == 0
    client.close()


main()
