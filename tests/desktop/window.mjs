// The real app under a real window system: `npm --prefix ui run test:desktop`.
//
// Starts Xvfb, a session bus and `tauri-driver` (which starts WebKit's own driver) on fresh ports, opens the
// built app in a home of its own, and speaks WebDriver to it. SAMPAN_APP names a binary that is built already.

import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { equal, ok, suite } from "./harness.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
const TOOLS = [join(ROOT, "target/tools/bin"), join(TARGET, "tools/bin")];

// Everything runs inside a session bus of its own: this program starts itself again under one.
if (!process.env.SAMPAN_TEST_BUS) {
  if (process.platform !== "linux") {
    console.log("SKIPPED: the window is driven through WebKitGTK, which is Linux's");
    console.log("0 passed, 0 failed");
    process.exit(0);
  }
  const again = spawnSync("dbus-run-session", ["--", process.execPath, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, SAMPAN_TEST_BUS: "1" },
  });
  process.exit(again.status ?? 1);
}

function find(program) {
  for (const dir of [...TOOLS, ...(process.env.PATH ?? "").split(delimiter)]) {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return join(dir, program);
    } catch {
      // Not in this one.
    }
  }
  fail(`\`${program}\` is missing: \`make test\` installs it`);
}

function fail(why) {
  console.log(`FAIL  ${why}\n0 passed, 1 failed`);
  process.exit(1);
}

function run(program, args) {
  const done = spawnSync(program, args, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  if (done.status !== 0) fail(`\`${program} ${args.join(" ")}\` failed`);
}

function app() {
  if (process.env.SAMPAN_APP) return process.env.SAMPAN_APP;
  run("npm", ["--prefix", "ui", "run", "--silent", "build", "--", "--logLevel", "warn"]);
  run("cargo", ["build", "--quiet", "-p", "sampan-app", "--features", "custom-protocol"]);
  return join(TARGET, "debug/sampan-app");
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function until(what, probe, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const [binary, driver, xvfb] = [app(), find("tauri-driver"), find("Xvfb")];
const webkit = find("WebKitWebDriver");
const scratch = mkdtempSync(join(tmpdir(), "sampan-window-"));
const children = [];

/** A child whose life ends with this program's. */
function start(program, args, env = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, ...env }, detached: true });
  children.push(child);
  return child;
}

/** Xvfb chooses a free display and says which on a pipe. */
function display() {
  const server = spawn(xvfb, ["-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
    detached: true,
  });
  children.push(server);
  return new Promise((resolve, reject) => {
    server.stdio[3].once("data", (text) => resolve(`:${String(text).trim()}`));
    server.once("exit", () => reject(new Error("Xvfb ended at once")));
  });
}

/** One running app: its window is driven by WebDriver calls, each with a time limit. */
async function open(screen, home, environment = {}) {
  mkdirSync(home, { recursive: true });
  const [port, native] = [await freePort(), await freePort()];
  const server = start(driver, ["--port", String(port), "--native-port", String(native), "--native-driver", webkit], {
    DISPLAY: screen,
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CACHE_HOME: join(home, "cache"),
    SAMPAN_HOME: join(home, ".sampan"),
    GDK_BACKEND: "x11",
    LIBGL_ALWAYS_SOFTWARE: "1",
    WEBKIT_DISABLE_DMABUF_RENDERER: "1",
    NO_AT_BRIDGE: "1",
    LANGUAGE: "en",
    LANG: "C.UTF-8",
    ...environment,
  });
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
  await until("tauri-driver answers", () => call("GET", "/status", undefined, 2000).then(() => true, () => false));
  const made = await call("POST", "/session", {
    capabilities: { alwaysMatch: { browserName: "wry", "tauri:options": { application: binary } } },
  }, 60_000);
  const session = `/session/${made.sessionId}`;
  const script = (code, ...args) => call("POST", `${session}/execute/sync`, { script: code, args });
  return {
    title: () => call("GET", `${session}/title`),
    sees: (words, ms) =>
      until(`the window says "${words}"`, async () => (await script("return document.body.innerText")).includes(words), ms),
    async click(selector, words = "") {
      const element = await until(`something to click: ${selector} ${words}`, () =>
        script("return [...document.querySelectorAll(arguments[0])].find((e) => e.innerText.includes(arguments[1]) || (e.ariaLabel ?? '').includes(arguments[1])) ?? null", selector, words));
      await call("POST", `${session}/element/${Object.values(element)[0]}/click`, {});
    },
    script,
    picture: (name) => process.env.SHOTS && spawnSync("import", ["-display", screen, "-window", "root", join(process.env.SHOTS, name)]),
    async close() {
      await call("DELETE", session, undefined, 15_000).catch(() => undefined);
      end(server);
    },
  };
}

function end(child) {
  try {
    process.kill(-child.pid, "SIGTERM");
  } catch {
    // It has ended by itself.
  }
}

const { test, finish } = suite();
const screen = await display();
if (process.env.SHOTS) mkdirSync(process.env.SHOTS, { recursive: true });

/** A home whose settings start nothing by themselves. */
function home(name, preferences = {}) {
  const dir = join(scratch, name);
  mkdirSync(join(dir, ".sampan"), { recursive: true });
  writeFileSync(join(dir, ".sampan/settings.json"), JSON.stringify({ startAtLaunch: false, useContext: false, ...preferences }));
  return dir;
}

test("the app opens its window on a stopped engine", async () => {
  const window = await open(screen, home("stopped"), { SAMPAN_HYPERVISOR: "native" });
  try {
    equal(await window.title(), "Sampan", "title");
    await window.sees("The engine is stopped");
    await window.sees("Engine · Stopped");
    window.picture("window-stopped.png");
    await window.click("nav button", "Images");
    equal(await window.script("return document.querySelector('h1').textContent"), "Images", "page");
  } finally {
    await window.close();
  }
});

test("a start that can't succeed ends in a clear failed state with a repair", async () => {
  const window = await open(screen, home("failing"), {
    SAMPAN_HYPERVISOR: "native",
    SAMPAN_GUEST_AGENT: join(scratch, "no-such-agent"),
  });
  try {
    await window.sees("The engine is stopped");
    await window.click("main button", "Start engine");
    await window.sees("The engine did not start", 40_000);
    await window.sees("Start again");
    await window.sees("Engine · Failed");
    // In the sentence or in the folded details: somewhere the missing program is named.
    const told = await window.script("return document.querySelector('main').textContent");
    ok(told.includes("no-such-agent"), `the failure doesn't name what is missing: ${told}`);
    window.picture("window-failed.png");
  } finally {
    await window.close();
  }
});

const agent = process.env.SAMPAN_GUEST_AGENT;
if (agent && existsSync(agent)) {
  test("one click starts the engine and the pages fill", async () => {
    const window = await open(screen, home("running"), { SAMPAN_HYPERVISOR: "native", SAMPAN_GUEST_AGENT: agent });
    try {
      await window.click("main button", "Start engine");
      await window.sees("Engine · Running", 60_000);
      await window.sees("No containers yet");
      await window.click("nav button", "Images");
      await window.sees("No images yet");
      window.picture("window-running.png");
      await window.click("footer button", "Stop engine");
      await window.sees("The engine is stopped", 60_000);
    } finally {
      await window.close();
    }
  });
} else {
  console.log("SKIPPED: one click starts the engine: SAMPAN_GUEST_AGENT names no built agent");
}

process.exitCode = await finish();
children.forEach(end);
rmSync(scratch, { recursive: true, force: true });
