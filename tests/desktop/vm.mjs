// The window over the real VM: QEMU with the image that `make vm-image` made.

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { find, ROOT, until } from "./desktop.mjs";
import { equal, ok } from "./harness.mjs";
import { startRegistry } from "./registry.mjs";

const IMAGE = process.env.SAMPAN_IMAGE ?? join(ROOT, "vm-image/out", process.arch === "arm64" ? "arm64" : "amd64");

/** Software emulation on a busy machine, a boot that is tried twice included. */
const BOOT_MS = 120_000;

function lacks() {
  const programs = [process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64", "vhost-device-vsock", "docker-registry", "busybox"];
  return [
    ...(existsSync(join(IMAGE, "manifest.json")) ? [] : [`there is no VM image in ${IMAGE}`]),
    ...programs.filter((program) => !find(program)).map((program) => `${program} is not installed`),
  ];
}

/** Ends QEMU at once, as a power loss would end a machine: the process whose command line names this home. */
function cutPower(home) {
  const [pid] = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((name) => {
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return line.split("\0")[0].includes("qemu-system") && line.includes(home);
    } catch {
      return false;
    }
  });
  ok(pid, "no QEMU runs for this home");
  process.kill(Number(pid), "SIGKILL");
}

export function tell(test, desktop) {
  test("by clicks alone the VM boots, an image is pulled, a container runs, a killed VM comes back, all is stopped", async () => {
    const home = desktop.home("vm");
    const registry = await startRegistry(join(desktop.scratch, "registry"));
    const window = await desktop.open(home, { SAMPAN_HYPERVISOR: "qemu", SAMPAN_IMAGE: IMAGE });
    try {
      await boot(window);
      await pull(window, registry);
      await runAndStop(window, registry);
      await crash(window, home);
      await window.click("footer button", "Stop engine");
      await window.sees("The engine is stopped", 60_000);
      await window.sees("Engine · Stopped");
    } finally {
      registry.close();
      await window.close();
    }
  }, lacks());

  test("a VM without its image says in one sentence how to make it", async () => {
    const empty = join(desktop.scratch, "no-image");
    mkdirSync(empty);
    const window = await desktop.open(desktop.home("bare"), { SAMPAN_HYPERVISOR: "qemu", SAMPAN_IMAGE: empty });
    try {
      await window.click("main button", "Start engine");
      await window.sees(`There is no VM image in \`${empty}\`: build it with \`make vm-image\``);
      await window.sees("Start again");
      window.picture("vm-no-image.png");
    } finally {
      await window.close();
    }
  });
}

async function boot(window) {
  await window.click("main button", "Start engine");
  await window.sees("Starting the engine");
  await window.sees("Boot the kernel\nin progress", BOOT_MS);
  window.picture("vm-starting.png");
  await window.sees("Engine · Running", BOOT_MS);
  await window.sees("No containers yet");
  window.picture("vm-running.png");
}

async function pull(window, registry) {
  await window.click("nav button", "Images");
  await window.click("main button", "Pull an image");
  await window.type("Repository", registry.reference);
  await window.click("dialog button", "Pull image");
  await window.sees(`Pulling ${registry.reference}`);
  const done = () => window.script("return Number(document.querySelector('[role=progressbar]')?.ariaValueNow ?? 0)");
  const percent = await until("half of the layer is there", async () => ((await done()) >= 30 ? done() : 0));
  ok(percent <= 60, `${percent} % of a layer of which half was sent`);
  await window.sees("Downloading");
  window.picture("vm-pulling.png");
  registry.openValve();
  await window.sees("1 image");
  equal(await window.script("return document.querySelector('[role=progressbar]')"), null, "progress bar after the pull");
}

async function runAndStop(window, registry) {
  await window.click("nav button", "Containers");
  await window.click("header button", "Run");
  await window.type("Image", registry.reference);
  await window.type("Name", "harbour");
  await window.type("Command", `sh -c "trap 'exit 0' TERM; echo tide is in; while :; do sleep 0.2; done"`);
  await window.click("dialog button", "Run");
  await window.sees("tide is in", 30_000);
  await window.sees("1 container");
  window.picture("vm-container.png");
  await window.click("aside button", "Stop");
  await window.sees("Exited (0)", 30_000);
}

async function crash(window, home) {
  cutPower(home);
  await window.sees("The engine ended by itself");
  await window.sees("starts again in");
  window.picture("vm-crashed.png");
  await window.sees("Engine · Running", BOOT_MS);
  await window.sees("harbour");
}
