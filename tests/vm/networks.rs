//! Networks in the VM: names among members, the host's names and ports through the wall.

use harness::{Output, eventually, fixtures, require};

#[test]
fn members_find_each_other_and_datagrams_come_in_from_the_host() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    let _ = vm.docker(["network", "create", "back"]).success();
    // A server that sends each datagram back; busybox has none, Debian's essential packages have Perl.
    vm.load(&fixtures::debian_image().archive(&["debian"]).expect("an archive"));
    let server = "socket(S, PF_INET, SOCK_DGRAM, 0) and bind(S, sockaddr_in(53, INADDR_ANY)) or die;
                  while ($from = recv(S, $data, 2000, 0)) { send(S, $data, 0, $from) }";
    let echo = ["run", "--detach", "--name", "echo", "--network", "back", "--publish", "5354:53/udp"];
    let _ = vm.docker([&echo[..], &["debian", "perl", "-MSocket", "-e", server][..]].concat()).success();
    let port = vm.docker(["port", "echo"]).success().stdout();
    assert!(port.contains("53/udp -> 0.0.0.0:5354"), "{port}");
    let found = vm.docker(["run", "--rm", "--network", "back", "busybox", "nslookup", "-type=a", "echo"]);
    assert!(found.success().stdout().contains("Address: 172.18.0.2"));
    // What no member is called is asked of the host, over the fabric.
    let host = ["run", "--rm", "--network", "back", "busybox", "nslookup", "-type=a", "host.docker.internal"];
    let _ = vm.docker(host).success();
    eventually("the datagram comes back", || {
        let ask = "echo ahoy | nc -u -w 1 127.0.0.1 5354";
        let answer = Output::of(vm.sandbox().command("sh").args(["-c", ask]));
        (answer.stdout() == "ahoy\n").then_some(())
    });
    let busy = ["run", "--rm", "--publish", "5354:53/udp", "busybox", "true"];
    let busy = vm.docker(busy).exits(125).stderr();
    assert!(busy.contains("port is already allocated"), "{busy}");
}
