//! The Docker context `sampan`, by which the `docker` command finds our socket.
//!
//! It is made the current one only where that takes nothing from anybody: no other context is chosen in
//! `config.json`, and no engine answers on Docker's default socket. Everything else in the file stays as it is.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::vm::assets::hex;

/// The context's name.
pub const NAME: &str = "sampan";

/// Docker's socket when nothing else is chosen.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What was done about the current context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// It is `sampan` now, or was already.
    Sampan,
    /// Another choice stands: `docker --context sampan` reaches us.
    Other(String),
}

/// Writes the context into Docker's configuration directory.
pub fn install(docker_config: &Path, socket: &Path, make_current: bool) -> io::Result<Current> {
    let default_is_served = UnixStream::connect(DEFAULT_SOCKET).is_ok();
    install_beside(docker_config, socket, make_current && !default_is_served)
}

fn install_beside(docker_config: &Path, socket: &Path, make_current: bool) -> io::Result<Current> {
    let dir = docker_config.join("contexts/meta").join(hex(&Sha256::digest(NAME)));
    fs::create_dir_all(&dir)?;
    let meta = json!({
        "Name": NAME,
        "Metadata": { "Description": "Sampan" },
        "Endpoints": { "docker": { "Host": format!("unix://{}", socket.display()), "SkipTLSVerify": false } },
    });
    write_whole(&dir.join("meta.json"), &meta)?;

    let file = docker_config.join("config.json");
    let mut config = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error),
    };
    let chosen = config.get("currentContext").and_then(Value::as_str).unwrap_or_default().to_owned();
    match chosen.as_str() {
        NAME => Ok(Current::Sampan),
        "" | "default" if make_current => {
            config.insert("currentContext".to_owned(), NAME.into());
            write_whole(&file, &Value::Object(config))?;
            Ok(Current::Sampan)
        }
        "" => Ok(Current::Other("default".to_owned())),
        other => Ok(Current::Other(other.to_owned())),
    }
}

/// Writes a file whole or not at all, with the rights that it had: it may hold credentials.
fn write_whole(path: &Path, value: &Value) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mode = fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    let fresh = path.with_extension("json.sampan");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    // Docker's own indentation.
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut text, format))?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(dir: &Path) -> Option<String> {
        let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).ok()?).unwrap();
        config["currentContext"].as_str().map(str::to_owned)
    }

    #[test]
    fn the_context_stands_where_docker_looks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        install_beside(dir.path(), Path::new("/x/docker.sock"), true).unwrap();
        // `printf sampan | sha256sum`
        let id = "296ff1f9933279697e093b50e761ab8716653cc4fa521b2545d263344bf8352f";
        let file = dir.path().join("contexts/meta").join(id).join("meta.json");
        let meta: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!(meta["Endpoints"]["docker"]["Host"], "unix:///x/docker.sock");
        assert_eq!(meta["Name"], "sampan");
    }

    #[test]
    fn it_becomes_current_where_nothing_is_chosen_and_keeps_what_else_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), r#"{"auths":{"r.example":{}}}"#).unwrap();
        let done = install_beside(dir.path(), Path::new("/x/docker.sock"), true).unwrap();
        assert_eq!((done, current(dir.path()).as_deref()), (Current::Sampan, Some("sampan")));
        assert!(fs::read_to_string(dir.path().join("config.json")).unwrap().contains("r.example"));
    }

    #[test]
    fn a_context_that_the_user_chose_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"work"}"#).unwrap();
        let done = install_beside(dir.path(), Path::new("/x/docker.sock"), true).unwrap();
        assert_eq!((done, current(dir.path()).as_deref()), (Current::Other("work".to_owned()), Some("work")));
    }

    #[test]
    fn an_engine_on_the_default_socket_keeps_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let done = install_beside(dir.path(), Path::new("/x/docker.sock"), false).unwrap();
        assert_eq!((done, current(dir.path())), (Current::Other("default".to_owned()), None));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{broken").unwrap();
        assert!(install_beside(dir.path(), Path::new("/x/docker.sock"), true).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("config.json")).unwrap(), "{broken");
    }
}
