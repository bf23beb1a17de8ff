// The engine in memory: the same door as the product's, deterministic, with the few rules that the
// pages can see (states, events, refusals).

import type { ContainerSummary } from "../bindings/ContainerSummary";
import type { LogChunk } from "../bindings/LogChunk";
import type { StageReport } from "../bindings/StageReport";
import type { VmStatus } from "../bindings/VmStatus";
import type { Backend, Commands, Events, Streams } from "../rpc";
import * as data from "./data";

/** How it begins. `failing`: the lists are refused; `broken`: the engine can't start; `slow`: nothing answers. */
export type Scenario = "full" | "many" | "empty" | "failing" | "stopped" | "starting" | "broken" | "slow" | "refusing";

type Handlers = { [N in keyof Commands]: (args: Commands[N]["args"]) => Commands[N]["result"] | Promise<Commands[N]["result"]> };
const refuse = (message: string, details: string | null = null) => Promise.reject(Object.assign(new Error(message), { details }));
const pause = (ms: number, signal?: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });

export function fakeBackend(scenario: Scenario, hold = false): Backend {
  const released = () =>
    hold
      ? new Promise<void>((resolve) => document.addEventListener("fake-release", () => resolve(), { once: true }))
      : Promise.resolve();
  const listeners = new Map<string, Set<(payload: never) => void>>();
  const emit = <N extends keyof Events>(name: N, payload: Events[N]) => {
    listeners.get(name)?.forEach((receive) => (receive as (payload: Events[N]) => void)(payload));
  };
  let containers = scenario === "empty" ? [] : scenario === "many" ? data.manyContainers(10_000) : [...data.containers];
  let images = scenario === "empty" ? [] : [...data.images];
  let status: VmStatus = structuredClone(data.STATUS);
  let begun = 0;

  const event = (kind: string, action: string, id: string) =>
    emit("engine-event", { Type: kind, Action: action, Actor: { ID: id, Attributes: {} }, time: data.NOW, timeNano: 0 });
  const setVm = (vm: VmStatus["vm"], stages: StageReport[] = status.stages) => {
    status = { ...status, vm, stages };
    emit("vm-status", status);
  };
  const find = (id: string): ContainerSummary | undefined => containers.find((item) => item.Id === id);
  const change = async (id: string, action: string, state: string, text: string) => {
    await pause(250);
    await released();
    if (scenario === "refusing") return refuse(`driver failed programming external connectivity: port 8080 is already in use`);
    containers = containers.map((item) => (item.Id === id ? { ...item, State: state, Status: text } : item));
    event("container", action, id);
    return null;
  };

  if (scenario === "stopped") setVm({ state: "stopped" }, []);
  if (scenario === "broken") {
    setVm({ state: "failed", cause: {
      kind: "missingDependency", message: "QEMU isn't installed: `qemu-system-x86_64` was not found in PATH.",
      details: "looked in /usr/local/bin, /usr/bin, /bin",
    } }, []);
  }
  if (scenario === "starting") setVm({ state: "starting", stage: "agent", attempt: 1 }, data.STATUS.stages.slice(0, 2));

  async function boot() {
    const run = (begun += 1);
    const done: StageReport[] = [];
    for (const report of data.STATUS.stages) {
      setVm({ state: "starting", stage: report.stage, attempt: 1 }, [...done]);
      await pause(Math.min(report.tookMs, 220));
      if (report.stage === "engine") await released();
      if (run !== begun) return;
      done.push(report);
    }
    setVm({ state: "running" }, done);
    emit("engine-connected", null);
  }

  const list = <T>(items: () => T[]) => async (): Promise<T[]> => {
    if (scenario === "slow") await new Promise(() => undefined);
    if (scenario === "failing") {
      return refuse("the connection to the engine broke during `GET /containers/json`", "connection reset by peer (os error 104)");
    }
    return items();
  };

  const handlers: Handlers = {
    vm_status: () => status,
    vm_start: () => { void boot(); return null; },
    vm_stop: async () => {
      begun += 1;
      setVm({ state: "stopping" });
      await pause(200);
      setVm({ state: "stopped" }, []);
      return null;
    },
    containers_list: list(() => containers),
    container_inspect: ({ id }) => {
      const found = find(id);
      return found ? data.inspectContainer(found) : refuse(`No such container: ${id}`);
    },
    container_create: ({ name, create }) => {
      if (containers.some((item) => item.Names[0] === `/${name}`)) {
        return refuse(`Conflict. The container name "/${name}" is already in use. You have to remove (or rename) that container to be able to reuse that name.`);
      }
      const image = images.find((item) => item.RepoTags.includes(create.Image)) ?? images[0] ?? data.images[0]!;
      const id = data.hex(5000 + containers.length);
      containers = [...containers, { ...data.containers[0]!, Id: id, Names: [`/${name ?? "eager_otter"}`], Image: create.Image, ImageID: image.Id,
        State: "created", Status: "Created", Created: data.NOW, Ports: [] }];
      event("container", "create", id);
      return { Id: id, Warnings: [] };
    },
    container_start: ({ id }) => change(id, "start", "running", "Up 1 second"),
    container_stop: ({ id }) => change(id, "die", "exited", "Exited (0) 1 second ago"),
    container_restart: ({ id }) => change(id, "restart", "running", "Up 1 second"),
    container_remove: async ({ id }) => {
      await pause(150);
      containers = containers.filter((item) => item.Id !== id);
      event("container", "destroy", id);
      return null;
    },
    hello_available: () => scenario === "empty",
    images_list: list(() => images),
    image_inspect: ({ id }) => {
      const found = images.find((item) => item.Id === id || item.RepoTags.includes(id));
      return found ? data.inspectImage(found) : refuse(`No such image: ${id}`);
    },
    image_history: ({ id }) => {
      const found = images.find((item) => item.Id === id);
      return found ? data.history(found) : refuse(`No such image: ${id}`);
    },
    image_remove: ({ name }) => {
      const image = images.find((item) => item.RepoTags.includes(name) || item.Id === name);
      const user = containers.find((item) => item.ImageID === image?.Id);
      if (image && user) {
        return refuse(`conflict: unable to remove repository reference "${name}" (must force) - container ${user.Id.slice(0, 12)} is using its referenced image ${image.Id.slice(7, 19)}`);
      }
      images = images.filter((item) => item !== image);
      event("image", "delete", name);
      return [{ Untagged: name, Deleted: null }];
    },
    volumes_list: list(() => (scenario === "empty" ? [] : data.volumes)),
    networks_list: list(() => data.networks),
  };

  async function logs(id: string, receive: (chunks: LogChunk[]) => void, signal: AbortSignal) {
    const item = find(id);
    const line = (n: number): LogChunk => {
      const stamp = new Date((data.NOW - 400) * 1000 + n * 137).toISOString();
      const level = n % 17 === 5 ? "\x1b[33mWARN\x1b[0m " : n % 41 === 9 ? "\x1b[1;31mERROR\x1b[0m" : "\x1b[32mINFO\x1b[0m ";
      const what = ["GET /api/products \x1b[2m200 in 12 ms\x1b[0m", "POST /api/cart \x1b[36m201\x1b[0m user=\x1b[35m8812\x1b[0m", "cache hit ratio 0.94", "flushed 128 events to the queue"][n % 4];
      return { stream: n % 41 === 9 ? "stderr" : "stdout", text: `${stamp} ${level} ${what}\n` };
    };
    const past = item?.Names[0] === "/prometheus" ? 200_000 : 240;
    receive(Array.from({ length: past }, (_, n) => line(n)));
    for (let n = past; item?.State === "running" && !signal.aborted; n += 1) {
      await pause(400, signal);
      if (!signal.aborted) receive([line(n)]);
    }
  }

  async function pull(reference: string, receive: (item: Streams["image_pull"]["item"]) => void, signal: AbortSignal) {
    const say = (status: string, id: string | null = null, current: number | null = null, total: number | null = null) =>
      receive({ status, id, progressDetail: total === null ? null : { current, total }, stream: null, error: null });
    await pause(150, signal);
    if (reference.startsWith("nobody/")) {
      throw Object.assign(new Error(`pull access denied for ${reference.split(":")[0]}, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`), { details: null });
    }
    const layers = [31.2, 4.1, 62.7, 0.9].map((mib, i) => ({ id: data.hex(800 + i).slice(0, 12), total: Math.round(mib * 1024 ** 2) }));
    for (const layer of layers) say("Pulling fs layer", layer.id);
    for (let step = 1; step <= 40 && !signal.aborted; step += 1) {
      for (const [i, layer] of layers.entries()) {
        const share = Math.min(1, (step / 30) * (1 + i * 0.2));
        if (share < 1) say("Downloading", layer.id, Math.round(share * layer.total), layer.total);
        else if (step < 40) say("Extracting", layer.id, layer.total, layer.total);
        else say("Pull complete", layer.id);
      }
      await pause(60, signal);
      if (step === 20) await released();
    }
    if (signal.aborted) return;
    const tagged = /:[^/]*$/.test(reference) ? reference : `${reference}:latest`;
    images = [...images, { ...data.images[0]!, Id: `sha256:${data.hex(7000 + images.length)}`, RepoTags: [tagged], RepoDigests: [] }];
    say(`Status: Downloaded newer image for ${tagged}`);
    event("image", "pull", tagged);
  }

  return {
    call: async (name, args) => {
      const handler = handlers[name] as (args: unknown) => Commands[typeof name]["result"];
      return handler(args);
    },
    stream: (name, args, receive, signal) => {
      if (name === "container_logs") {
        return logs((args as Streams["container_logs"]["args"]).id, receive as (chunks: LogChunk[]) => void, signal);
      }
      if (name === "hello_load") {
        (receive as (item: Streams["hello_load"]["item"]) => void)(
          { status: null, id: null, progressDetail: null, stream: "Loaded image: hello:latest\n", error: null });
        return Promise.resolve();
      }
      return pull((args as Streams["image_pull"]["args"]).reference, receive as (item: Streams["image_pull"]["item"]) => void, signal);
    },
    listen: (name, receive) => {
      const set = listeners.get(name) ?? new Set();
      listeners.set(name, set.add(receive as (payload: never) => void));
      return () => void set.delete(receive as (payload: never) => void);
    },
  };
}
