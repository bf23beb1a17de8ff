//! The ways to the API: the socket's rights, TCP with mutual TLS, and ssh by `docker system dial-stdio`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use harness::{Engine, Output, Sandbox, require, settings};

/// An authority with a server's and a client's certificate, made by openssl.
struct Authority(PathBuf);

impl Authority {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let authority = Self(folder);
        authority.openssl([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            "ca-key.pem",
            "-out",
            "ca.pem",
        ]);
        authority.certificate("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth");
        authority.certificate("client", "extendedKeyUsage=clientAuth");
        authority
    }

    fn certificate(&self, name: &str, extensions: &str) {
        let file = |ending: &str| format!("{name}{ending}");
        fs::write(self.path(&file(".ext")), extensions).unwrap();
        self.openssl([
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &file("-key.pem"),
            "-out",
            &file(".csr"),
        ]);
        self.openssl([
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &file(".csr"),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-extfile",
            &file(".ext"),
            "-out",
            &file("-cert.pem"),
        ]);
    }

    fn openssl<const N: usize>(&self, arguments: [&str; N]) {
        let _ = Output::of(Command::new("openssl").args(arguments).current_dir(&self.0)).success();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn the_socket_is_its_owners_and_its_groups() {
    require!(crate::available());
    let engine = Engine::start();
    let mode = fs::metadata(engine.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn tcp_with_tls_serves_those_who_have_a_certificate_and_no_others() {
    require!(crate::available());
    require!(settings::program("openssl"));
    let sandbox = Arc::new(Sandbox::new());
    let authority = Authority::new(sandbox.path("certificates"));
    let (ca, cert, key) =
        (authority.text("ca.pem"), authority.text("server-cert.pem"), authority.text("server-key.pem"));
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let options: Vec<&str> = tls.into_iter().chain(["--host", "tcp://127.0.0.1:2376"]).collect();
    let engine = Engine::start_in(Arc::clone(&sandbox), &options);
    let (client_cert, client_key) = (authority.text("client-cert.pem"), authority.text("client-key.pem"));
    let docker = |more: &[&str]| {
        let mut command = sandbox.command(settings::program("docker").unwrap());
        command.args(["--host", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", &ca]);
        command.env("DOCKER_CONFIG", engine.client_settings());
        Output::of(command.args(more).args(["version", "--format", "{{.Server.Os}}"]))
    };
    assert_eq!(docker(&["--tlscert", &client_cert, "--tlskey", &client_key]).success().line(), "linux");
    assert_ne!(docker(&[]).code(), Some(0), "a client without a certificate was served");
    let plain = sandbox.curl(["--fail", "http://127.0.0.1:2376/_ping"]);
    assert_ne!(plain.code(), Some(0), "a client without TLS was served: {plain}");
    // The socket beside it stays open to those who may use it.
    assert_eq!(engine.docker(["version", "--format", "{{.Server.Os}}"]).success().line(), "linux");
}

#[test]
fn an_ssh_context_reaches_the_engine_by_dial_stdio() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let programs = engine.sandbox().path("programs");
    fs::create_dir(&programs).unwrap();
    // The shortest ssh there is: the other machine is this one. The client's own command line runs there,
    // `docker system dial-stdio`, with the other machine's default context.
    let ssh = "#!/bin/sh\nwhile [ \"$1\" != boat ]; do shift; done\nshift\n\
               exec env DOCKER_HOST=\"$FAR_HOST\" sh -c \"$*\"\n";
    executable(&programs.join("ssh"), ssh);
    let path = format!("{}:{}", programs.display(), env!("PATH"));
    let docker = |arguments: &[&str]| {
        let mut command = engine.sandbox().command(settings::program("docker").unwrap());
        command.env("PATH", &path).env("DOCKER_HOST", "ssh://boat");
        command.env("FAR_HOST", format!("unix://{}", engine.socket().display()));
        command.env("DOCKER_CONFIG", engine.client_settings());
        Output::with_input(command.args(arguments), b"half-closed\n")
    };
    let run = docker(&["run", "--rm", "--interactive", "busybox", "cat"]).success();
    assert_eq!(run.stdout(), "half-closed\n");
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
