// The desktop that the window's tests stand on: a network of their own, a session bus, a screen, and the app on it.
//
// The app is driven through `tauri-driver` (which starts WebKit's own driver) on fresh ports, in a home of its own.

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
const TOOLS = [join(ROOT, "target/tools/bin"), join(TARGET, "tools/bin")];

/** Pictures of what the tests see go there. */
const SHOTS = process.env.SHOTS;

/** Starts this program again with a loopback, mounts and a session bus of its own, and ends with it. */
export function enterOwnDesktop() {
  if (process.env.SAMPAN_TEST_DESKTOP) return;
  if (process.platform !== "linux") {
    console.log("SKIPPED: the window is driven through WebKitGTK, which is Linux's\n0 passed, 0 failed");
    process.exit(0);
  }
  const bus = ["dbus-run-session", "--", process.execPath, ...process.argv.slice(1)];
  // Only root may make a network without a user namespace, in which the engine could not mount.
  const network = ["unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  const [program, ...args] = process.getuid() === 0 ? [...network, ...bus] : bus;
  const again = spawnSync(program, args, { stdio: "inherit", env: { ...process.env, SAMPAN_TEST_DESKTOP: "1" } });
  process.exit(again.status ?? 1);
}

/** The program's path, or nothing. */
export function find(program) {
  for (const dir of [...TOOLS, ...(process.env.PATH ?? "").split(delimiter)]) {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return join(dir, program);
    } catch {
      // Not in this one.
    }
  }
  return undefined;
}

function need(program) {
  return find(program) ?? fail(`\`${program}\` is missing: \`make test\` installs it`);
}

function fail(why) {
  console.log(`FAIL  ${why}\n0 passed, 1 failed`);
  process.exit(1);
}

function run(program, args) {
  const done = spawnSync(program, args, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  if (done.status !== 0) fail(`\`${program} ${args.join(" ")}\` failed`);
}

/** SAMPAN_APP names a binary that is built already. */
function buildApp() {
  if (process.env.SAMPAN_APP) return process.env.SAMPAN_APP;
  run("npm", ["--prefix", "ui", "run", "--silent", "build", "--", "--logLevel", "warn"]);
  run("cargo", ["build", "--quiet", "-p", "sampan-app", "--features", "custom-protocol"]);
  return join(TARGET, "debug/sampan-app");
}

export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Asks again until the answer is there. */
export async function until(what, probe, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const children = [];

/** A child whose life ends with this program's. */
export function start(program, args, { env = {}, stdio = ["ignore", "inherit", "inherit"] } = {}) {
  const child = spawn(program, args, { stdio, env: { ...process.env, ...env }, detached: true });
  children.push(child);
  return child;
}

export function end(child) {
  try {
    process.kill(-child.pid, "SIGTERM");
  } catch {
    // It has ended by itself.
  }
}

/** Whether an engine answers on this socket. */
export function ping(socketPath) {
  return new Promise((resolve) => {
    const request = get({ socketPath, path: "/_ping", timeout: 5000 }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

/** Xvfb chooses a free display and says which on a pipe. */
function startScreen(xvfb) {
  const size = process.env.SHOTS_SIZE ?? "1280x800";
  const server = start(xvfb, ["-displayfd", "3", "-screen", "0", `${size}x24`, "-nolisten", "tcp"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  return new Promise((resolve, reject) => {
    server.stdio[3].once("data", (text) => resolve(`:${String(text).trim()}`));
    server.once("exit", () => reject(new Error("Xvfb ended at once")));
  });
}

/** Builds the app and brings the screen up. */
export async function startDesktop() {
  const [driver, webkit, xvfb] = [need("tauri-driver"), need("WebKitWebDriver"), need("Xvfb")];
  const binary = buildApp();
  const screen = await startScreen(xvfb);
  const scratch = mkdtempSync(join(tmpdir(), "sampan-window-"));
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
  const environment = (home, more) => ({
    DISPLAY: screen,
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CACHE_HOME: join(home, "cache"),
    SAMPAN_HOME: join(home, ".sampan"),
    SAMPAN_TOOLS: TOOLS.join(delimiter),
    GDK_BACKEND: "x11",
    LIBGL_ALWAYS_SOFTWARE: "1",
    WEBKIT_DISABLE_DMABUF_RENDERER: "1",
    NO_AT_BRIDGE: "1",
    LANGUAGE: "en",
    LANG: "C.UTF-8",
    ...more,
  });
  return {
    screen,
    scratch,
    /** Starts the app as a user would, without a driver. */
    launch: (home, more = {}) => start(binary, [], { env: environment(home, more) }),
    /** Opens the app and its window's driver. */
    open: async (home, more = {}) => {
      const [port, native] = [await freePort(), await freePort()];
      const args = ["--port", String(port), "--native-port", String(native), "--native-driver", webkit];
      const server = start(driver, args, { env: environment(home, more) });
      return openWindow({ server, port, native, binary, screen });
    },
    /** A home whose settings start nothing by themselves. */
    home: (name, preferences = {}) => {
      const dir = join(scratch, name);
      mkdirSync(join(dir, ".sampan"), { recursive: true });
      const settings = { startAtLaunch: false, useContext: false, ...preferences };
      writeFileSync(join(dir, ".sampan/settings.json"), JSON.stringify(settings));
      return dir;
    },
    close: () => {
      children.forEach(end);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** One running app: its window is driven by WebDriver calls, each with a time limit. */
async function openWindow({ server, port, native, binary, screen }) {
  const call = async (method, path, body, ms = 20_000) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(ms),
    });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${value?.message ?? answer.status}`);
    return value;
  };
  // WebKit's driver is asked itself: `tauri-driver` complains at length of one that isn't there yet.
  for (const [name, at] of [["WebKitWebDriver", native], ["tauri-driver", port]]) {
    const status = () => fetch(`http://127.0.0.1:${at}/status`, { signal: AbortSignal.timeout(2000) });
    await until(`${name} answers`, () => status().then(() => true, () => false));
  }
  const made = await call("POST", "/session", {
    capabilities: { alwaysMatch: { browserName: "wry", "tauri:options": { application: binary } } },
  }, 60_000);
  const session = `/session/${made.sessionId}`;
  const script = (code, ...args) => call("POST", `${session}/execute/sync`, { script: code, args });
  const text = () => script("return document.body.innerText");
  const element = (reference) => `${session}/element/${Object.values(reference)[0]}`;
  return {
    title: () => call("GET", `${session}/title`),
    script,
    text,
    async sees(words, ms) {
      let last = "";
      const seen = until(`the window says "${words}"`, async () => (last = await text()).includes(words), ms);
      await seen.catch((error) => {
        throw new Error(`${error.message}; it says:\n${last}`);
      });
    },
    async click(selector, words = "") {
      const found = await until(`something to click: ${selector} ${words}`, () => script(FIND_BY_WORDS, selector, words));
      await call("POST", `${element(found)}/click`, {});
    },
    /** Types into the field with this label. */
    async type(label, words) {
      const found = await until(`a field labelled ${label}`, () => script(FIND_BY_LABEL, label));
      await call("POST", `${element(found)}/value`, { text: words });
    },
    picture: (name) => takePicture(screen, name),
    async close() {
      await call("DELETE", session, undefined, 15_000).catch(() => undefined);
      end(server);
    },
  };
}

/** Run in the window: the first enabled element with the words in its text or name. */
const FIND_BY_WORDS = `return [...document.querySelectorAll(arguments[0])].find((e) =>
  !e.disabled && (e.innerText.includes(arguments[1]) || (e.ariaLabel ?? "").includes(arguments[1]))) ?? null`;

/** Run in the window: the field that a label or its own name says. */
const FIND_BY_LABEL = `return [...document.querySelectorAll("input, textarea")].find((e) =>
  e.ariaLabel === arguments[0] || [...(e.labels ?? [])].some((l) => l.innerText.trim() === arguments[0])) ?? null`;

/** Takes a picture of the whole screen when pictures are wanted: WebDriver's own call hangs in WebKitGTK. */
export function takePicture(screen, name) {
  if (SHOTS) spawnSync("import", ["-display", screen, "-window", "root", join(SHOTS, name)]);
}
