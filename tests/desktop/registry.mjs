// Debian's `docker-registry` on the loopback with one image in it, behind a valve: a layer stops half way until it is
// opened, so that a test can look at a pull under way.

import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { end, find, freePort, start, until } from "./desktop.mjs";

const MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
const BUSYBOX = "/bin/busybox";

/** Enough that no buffer on the way hides the valve. */
const BALLAST_BYTES = 8 << 20;

/** Starts a registry that has busybox as `busybox:1`. */
export async function startRegistry(folder) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/v2/busybox`;
  mkdirSync(folder, { recursive: true });
  const config = join(folder, "registry.yml");
  const storage = `storage:\n  filesystem:\n    rootdirectory: ${join(folder, "storage")}\n`;
  writeFileSync(config, `version: 0.1\nlog:\n  level: error\n${storage}http:\n  addr: 127.0.0.1:${port}\n`);
  const server = start(find("docker-registry"), ["serve", config], { stdio: "ignore" });
  await until("the registry answers", () => fetch(`http://127.0.0.1:${port}/v2/`).then((answer) => answer.ok, () => false));
  const layer = await push(url, busyboxLayer(folder));
  const valve = await startValve(port, layer);
  return {
    reference: `127.0.0.1:${valve.port}/busybox:1`,
    openValve: valve.open,
    close() {
      valve.close();
      end(server);
    },
  };
}

/** A gzip-compressed archive of busybox, its shell, and ballast. */
function busyboxLayer(folder) {
  const root = join(folder, "root");
  mkdirSync(join(root, "bin"), { recursive: true });
  copyFileSync(BUSYBOX, join(root, "bin/busybox"));
  for (const applet of ["sh", "echo", "sleep"]) symlinkSync("busybox", join(root, "bin", applet));
  writeFileSync(join(root, "ballast"), randomBytes(BALLAST_BYTES));
  const archive = join(folder, "layer.tar.gz");
  const packed = spawnSync("tar", ["--create", "--gzip", "--owner=0", "--group=0", "--directory", root, "--file", archive, "."]);
  if (packed.status !== 0) throw new Error(`tar: ${packed.stderr}`);
  return readFileSync(archive);
}

/** Uploads layer, configuration and manifest; returns the layer's digest. */
async function push(url, layer) {
  const config = Buffer.from(JSON.stringify({
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { Cmd: ["/bin/sh"], Env: ["PATH=/bin"] },
    rootfs: { type: "layers", diff_ids: [digest(gunzipSync(layer))] },
  }));
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: "application/vnd.docker.container.image.v1+json", ...(await pushBlob(url, config)) },
    layers: [{ mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", ...(await pushBlob(url, layer)) }],
  });
  await send(`${url}/manifests/1`, { method: "PUT", headers: { "content-type": MANIFEST }, body: manifest });
  return digest(layer);
}

async function pushBlob(url, content) {
  const begun = await send(`${url}/blobs/uploads/`, { method: "POST" });
  const place = `${begun.headers.get("location")}&digest=${digest(content)}`;
  await send(place, { method: "PUT", headers: { "content-type": "application/octet-stream" }, body: content });
  return { size: content.length, digest: digest(content) };
}

async function send(url, request) {
  const answer = await fetch(url, request);
  if (!answer.ok) throw new Error(`${request.method} ${url}: ${answer.status} ${await answer.text()}`);
  return answer;
}

function digest(content) {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** A loopback port that passes requests on, and gives out a blob's second half only once it is opened. */
async function startValve(registryPort, heldDigest) {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  const server = createServer(async (request, response) => {
    const answer = await fetch(`http://127.0.0.1:${registryPort}${request.url}`, {
      method: request.method,
      headers: { accept: request.headers.accept ?? "*/*" },
    });
    const body = Buffer.from(await answer.arrayBuffer());
    const kept = ["content-type", "docker-content-digest", "docker-distribution-api-version", "etag"];
    const headers = Object.fromEntries(kept.flatMap((name) => (answer.headers.has(name) ? [[name, answer.headers.get(name)]] : [])));
    const length = request.method === "HEAD" ? answer.headers.get("content-length") : body.length;
    response.writeHead(answer.status, { ...headers, "content-length": length });
    if (request.method === "GET" && request.url.endsWith(`/blobs/${heldDigest}`)) {
      response.write(body.subarray(0, body.length / 2));
      await opened;
      response.end(body.subarray(body.length / 2));
    } else {
      response.end(body);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, open, close: () => server.close() };
}
