//! Pushes to a registry that breaks off in the middle and takes the rest later.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image::layer::Pack;
use image::{Digest, ImageConfig, PushEvent, PushRequest, RegistryConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::Home;

/// Bytes of the first chunk after which the connection breaks.
const BREAK: usize = 100_000;

/// What the registry has got.
#[derive(Default)]
struct State {
    upload: Vec<u8>,
    broken: bool,
    ranges: Vec<String>,
    blobs: HashMap<Digest, Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Registry {
    async fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<Mutex<State>>::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { serve(stream, &state).await });
            }
        });
        Registry { address, state }
    }
}

async fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (Vec::new(), String::new());
        while stream.read_line(&mut line).await.ok()? > 2 {
            head.push(line.trim_end().to_owned());
            line.clear();
        }
        let mut words = head.first()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let header = |name: &str| {
            let mut fields = head.iter().filter_map(|line| line.split_once(": "));
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        if method == "PATCH" && !state.lock().unwrap().broken {
            stream.read_exact(&mut body[..BREAK]).await.ok()?;
            let mut state = state.lock().unwrap();
            state.broken = true;
            state.upload.extend_from_slice(&body[..BREAK]);
            return None;
        }
        stream.read_exact(&mut body).await.ok()?;
        let answer = answer(&mut state.lock().unwrap(), &method, &path, header("content-range"), body);
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
    }
}

fn answer(state: &mut State, method: &str, path: &str, range: Option<String>, body: Vec<u8>) -> String {
    let place = "Location: /v2/app/blobs/uploads/1?state=x\r\n";
    let reached = |state: &State| format!("Range: 0-{}\r\n", state.upload.len().saturating_sub(1));
    let (status, more) = match method {
        "GET" if path == "/v2/" => ("200 OK", String::new()),
        "HEAD" => ("404 Not Found", String::new()),
        "POST" => {
            state.upload.clear();
            ("202 Accepted", place.to_owned())
        }
        "GET" => ("204 No Content", format!("{place}{}", reached(state))),
        "PATCH" => {
            state.ranges.extend(range);
            state.upload.extend(body);
            ("202 Accepted", format!("{place}{}", reached(state)))
        }
        "PUT" if path.contains("/manifests/") => {
            state.manifest = Some(body);
            ("201 Created", String::new())
        }
        "PUT" => {
            state.upload.extend(body);
            let blob = std::mem::take(&mut state.upload);
            let digest = Digest::of(&blob);
            assert!(path.ends_with(&format!("digest=sha256%3A{}", digest.hex())), "{path}");
            state.blobs.insert(digest, blob);
            ("201 Created", String::new())
        }
        _ => ("405 Method Not Allowed", String::new()),
    };
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_goes_on_where_it_was() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: layers need root");
        return;
    }
    let home = Home::new();
    let tree = tempfile::tempdir().unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(10 << 20)
    .collect();
    std::fs::write(tree.path().join("noise"), noise).unwrap();
    let registry = Registry::start().await;
    let name = format!("{}/app:1", registry.address);
    let (store, reference, path) = (home.store.clone(), name.parse().unwrap(), tree.path().to_owned());
    tokio::task::spawn_blocking(move || {
        let layer = store.commit_tree(&path, &Pack::layer()).unwrap();
        let config =
            ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        store.create_image(config, &[layer], None, Some(reference)).unwrap();
    })
    .await
    .unwrap();
    let mut events = home.store.push(PushRequest {
        reference: name.parse().unwrap(),
        platform: None,
        auth: None,
        registries: RegistryConfig { retry_delay: Duration::from_millis(1), ..RegistryConfig::default() },
        concurrent_uploads: 3,
    });
    let mut done = false;
    while let Some(event) = events.recv().await {
        match event {
            PushEvent::Error(error) => panic!("{}", error.sentence()),
            PushEvent::Done => done = true,
            _ => {}
        }
    }
    assert!(done);
    let state = registry.state.lock().unwrap();
    assert!(state.ranges[0].starts_with(&format!("{BREAK}-")), "{:?}", state.ranges);
    let manifest: serde_json::Value = serde_json::from_slice(state.manifest.as_ref().unwrap()).unwrap();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(state.blobs[&digest].len() as u64, blob["size"].as_u64().unwrap());
    }
}
