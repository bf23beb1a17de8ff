// What the engine in memory holds: made, not recorded, and the same at every start.

import type { ContainerInspect } from "../bindings/ContainerInspect";
import type { ContainerSummary } from "../bindings/ContainerSummary";
import type { HistoryEntry } from "../bindings/HistoryEntry";
import type { ImageInspect } from "../bindings/ImageInspect";
import type { ImageSummary } from "../bindings/ImageSummary";
import type { Network } from "../bindings/Network";
import type { VmStatus } from "../bindings/VmStatus";
import type { Volume } from "../bindings/Volume";

export const NOW = Math.floor(Date.now() / 1000);
const MIB = 1024 ** 2;

/** 64 hexadecimal digits that depend on the seed alone. */
export function hex(seed: number): string {
  let state = (seed * 2654435761) >>> 0 || 1;
  let text = "";
  while (text.length < 64) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    text += state.toString(16).padStart(8, "0");
  }
  return text.slice(0, 64);
}

const IMAGES: [string[], number, number][] = [
  [["postgres:17"], 438, 9], [["redis:7.4-alpine"], 41.4, 16], [["nginx:alpine", "registry.example.com/edge/nginx:1.29"], 48.2, 3],
  [["node:22-slim"], 226, 5], [["registry.example.com/shop/api:2026-11-20"], 312, 4], [["registry.example.com/shop/web:2026-11-20"], 187, 4],
  [["rabbitmq:4-management"], 251, 31], [["grafana/grafana:12.2.0"], 731, 12], [["prom/prometheus:v3.5.0"], 302, 40],
  [["python:3.13"], 1026, 8], [["alpine:3.22"], 8.31, 60], [["busybox:latest"], 4.27, 200], [[], 96.3, 2],
];

export const images: ImageSummary[] = IMAGES.map(([tags, mib, days], i) => ({
  Id: `sha256:${hex(500 + i)}`, RepoTags: tags, RepoDigests: tags.slice(0, 1).map((tag) => `${tag.replace(/:[^/]*$/, "")}@sha256:${hex(900 + i)}`),
  Created: NOW - days * 86400 - i * 977, Size: Math.round(mib * MIB), Containers: -1, Labels: {},
}));

const port = (host: number, inside: number, protocol = "tcp") => [
  { IP: "0.0.0.0", PrivatePort: inside, PublicPort: host, Type: protocol },
  { IP: "::", PrivatePort: inside, PublicPort: host, Type: protocol },
];
type Spec = [name: string, image: number, state: string, status: string, hours: number, ports: ContainerSummary["Ports"]];
const SPECS: Spec[] = [
  ["shop-api", 4, "running", "Up 2 hours", 26, port(3000, 3000)],
  ["shop-web", 5, "running", "Up 2 hours", 26, [...port(8080, 80), ...port(8443, 443)]],
  ["shop-db", 0, "running", "Up 2 days", 190, port(5432, 5432)],
  ["shop-cache", 1, "running", "Up 2 days", 190, [{ IP: "", PrivatePort: 6379, PublicPort: 0, Type: "tcp" }]],
  ["shop-queue", 6, "paused", "Up 2 days (Paused)", 190, [...port(5672, 5672), ...port(15672, 15672)]],
  ["shop-worker", 4, "restarting", "Restarting (1) 4 seconds ago", 26, []],
  ["migrate-20261124", 4, "exited", "Exited (0) 2 hours ago", 26, []],
  ["import-prices", 9, "exited", "Exited (137) 5 hours ago", 31, []],
  ["seed-fixtures", 3, "exited", "Exited (1) 3 minutes ago", 1, []],
  ["grafana", 7, "running", "Up 6 days", 300, port(3001, 3000)],
  ["prometheus", 8, "running", "Up 6 days", 300, port(9090, 9090)],
  ["dns", 10, "running", "Up 6 days", 300, port(5353, 53, "udp")],
  ["scratchpad", 10, "created", "Created", 0.2, []],
];

function summary(id: string, name: string, image: ImageSummary, state: string, status: string, created: number, ports: ContainerSummary["Ports"], last: number): ContainerSummary {
  const networks: ContainerSummary["NetworkSettings"]["Networks"] = {
    bridge: { NetworkID: hex(77), IPAddress: state === "running" ? `172.17.0.${last}` : "", Gateway: "172.17.0.1", MacAddress: "" },
  };
  return {
    Id: id, Names: [`/${name}`], Image: image.RepoTags[0] ?? image.Id, ImageID: image.Id, Command: "docker-entrypoint.sh serve",
    Created: created, State: state, Status: status, Ports: ports, Labels: {}, SizeRw: 0, NetworkSettings: { Networks: networks },
    Mounts: name === "shop-db" ? [{ Type: "volume", Name: "shop-db-data", Source: "/var/lib/docker/volumes/shop-db-data/_data", Destination: "/var/lib/postgresql/data", RW: true }] : [],
  };
}

export const containers: ContainerSummary[] = SPECS.map(([name, image, state, status, hours, ports], i) =>
  summary(hex(i + 1), name, images[image]!, state, status, NOW - Math.round(hours * 3600), ports, i + 2));

/** As many containers as asked, for lists that must not care. */
export function manyContainers(count: number): ContainerSummary[] {
  return Array.from({ length: count }, (_, i) =>
    summary(hex(i + 10_000), `job-${String(i).padStart(5, "0")}`, images[i % images.length]!, i % 3 === 0 ? "running" : "exited",
      i % 3 === 0 ? "Up 2 hours" : `Exited (${i % 7 === 0 ? 1 : 0}) 2 hours ago`, NOW - i * 61, i % 3 === 0 ? port(20_000 + (i % 30_000), 80) : [], 2 + (i % 250)));
}

export function inspectContainer(item: ContainerSummary): ContainerInspect {
  const running = ["running", "paused"].includes(item.State);
  const code = Number(/\((\d+)\)/.exec(item.Status)?.[1] ?? 0);
  const iso = (seconds: number) => new Date(seconds * 1000).toISOString();
  return {
    Id: item.Id, Name: item.Names[0] ?? "", Created: iso(item.Created), Image: item.ImageID, Path: "docker-entrypoint.sh", Args: ["serve", "--port", "3000"],
    State: {
      Status: item.State, Running: running, Paused: item.State === "paused", OOMKilled: code === 137, Pid: running ? 4211 : 0, ExitCode: code, Error: "",
      StartedAt: item.State === "created" ? "0001-01-01T00:00:00Z" : iso(NOW - 7300), FinishedAt: running ? "0001-01-01T00:00:00Z" : iso(NOW - 180), Health: null,
    },
    RestartCount: 0,
    Config: {
      Hostname: item.Id.slice(0, 12), User: "", Image: item.Image, Cmd: ["serve"], Entrypoint: ["docker-entrypoint.sh"],
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_ENV=production", "DATABASE_URL=postgres://shop@shop-db:5432/shop", "LOG_LEVEL=info"],
      Labels: {}, WorkingDir: "/srv/app", Tty: false, OpenStdin: false, ExposedPorts: {},
    },
    HostConfig: {
      Binds: [], NetworkMode: "default", PortBindings: {}, RestartPolicy: { Name: "unless-stopped", MaximumRetryCount: 0 }, AutoRemove: false,
      Memory: 512 * MIB, NanoCpus: 0, Privileged: false,
    },
    Mounts: item.Mounts, NetworkSettings: { Ports: {}, Networks: item.NetworkSettings.Networks },
  };
}

export function inspectImage(image: ImageSummary): ImageInspect {
  return {
    Id: image.Id, RepoTags: image.RepoTags, RepoDigests: image.RepoDigests, Created: new Date(image.Created * 1000).toISOString(),
    Architecture: "arm64", Os: "linux", Size: image.Size,
    Config: {
      Hostname: "", User: "", Image: "", Cmd: ["nginx", "-g", "daemon off;"], Entrypoint: ["/docker-entrypoint.sh"], Env: [], Labels: {},
      WorkingDir: "", Tty: false, OpenStdin: false, ExposedPorts: { "80/tcp": {} },
    },
  };
}

export function history(image: ImageSummary): HistoryEntry[] {
  const steps: [string, number][] = [
    ["/bin/sh -c #(nop) ADD file:36a1d9e in / ", 0.31], ["/bin/sh -c #(nop)  ENV LANG=C.UTF-8", 0],
    ["RUN /bin/sh -c set -eux; groupadd -r app --gid=999; useradd -r -g app --uid=999 app # buildkit", 0.01],
    ["RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends ca-certificates curl libssl3 && rm -rf /var/lib/apt/lists/* # buildkit", 0.22],
    ["COPY package.json package-lock.json ./ # buildkit", 0.01], ["RUN /bin/sh -c npm ci --omit=dev # buildkit", 0.33],
    ["COPY dist ./dist # buildkit", 0.12], ["EXPOSE map[3000/tcp:{}]", 0], ["CMD [\"node\" \"dist/server.js\"]", 0],
  ];
  return steps.reverse().map(([by, share], i) => ({
    Id: i === 0 ? image.Id : "<missing>", Created: image.Created, CreatedBy: by, Size: Math.round(share * image.Size), Tags: [],
  }));
}

export const volumes: Volume[] = ["shop-db-data", "grafana-data", "prometheus-data", hex(321)].map((name, i) => ({
  Name: name, Driver: "local", Mountpoint: `/var/lib/docker/volumes/${name}/_data`, CreatedAt: new Date((NOW - i * 86400 * 3) * 1000).toISOString(),
  Labels: {}, Scope: "local", UsageData: null,
}));

export const networks: Network[] = ([["bridge", "bridge", "172.17.0.0/16", "172.17.0.1"], ["host", "host", "", ""], ["none", "null", "", ""]] as const).map(([name, driver, subnet, gateway], i) => ({
  Id: hex(77 + i), Name: name, Created: new Date(NOW * 1000).toISOString(), Driver: driver, Scope: "local", Internal: false,
  IPAM: { Config: subnet === "" ? [] : [{ Subnet: subnet, Gateway: gateway }] }, Containers: {}, Labels: {},
}));

export const STATUS: VmStatus = {
  revision: 1, vm: { state: "running" }, sinceMs: (NOW - 7300) * 1000,
  stages: [
    { stage: "prepare", tookMs: 84, elapsedMs: 84 }, { stage: "boot", tookMs: 612, elapsedMs: 696 },
    { stage: "agent", tookMs: 141, elapsedMs: 837 }, { stage: "engine", tookMs: 203, elapsedMs: 1040 },
  ],
  hypervisor: "apple", accelerator: "apple", ownerPid: 4242, cpus: 4, memoryMib: 4096,
  disk: { path: "~/.sampan/data/data.img", size: 64 * 1024 ** 3, used: 5.21 * 1024 ** 3 },
  socket: "~/.sampan/run/docker.sock", console: "~/.sampan/logs/console.log", agentVersion: "0.1.0", failedBoots: 0, restarts: 0, warnings: [],
};
