// The menu bar item, clicked: the test is the desktop's panel.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { end, find, ping, start, until } from "./desktop.mjs";
import { equal, ok } from "./harness.mjs";
import { lacks as engineLacks } from "./native.mjs";

/** Debian's own Python: its modules are not in others. */
const PYTHON = "/usr/bin/python3";

function lacks() {
  const python = spawnSync(PYTHON, ["-c", "from gi.repository import Gio"]).status === 0;
  return [
    ...engineLacks(),
    ...(python ? [] : ["python3-gi is not installed"]),
    ...(find("xdotool") ? [] : ["xdotool is not installed"]),
  ];
}

/** A panel on the session bus that shows menu bar items; see panel.py. */
async function startPanel() {
  const child = start(PYTHON, [fileURLToPath(new URL("panel.py", import.meta.url))], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => (await lines.next()).value;
  equal(await line(), "ready", "the panel's first word");
  const ask = async (request) => {
    child.stdin.write(`${request}\n`);
    return JSON.parse(await line());
  };
  const entries = async () => {
    const menu = await ask("menu");
    return Array.isArray(menu) ? menu : [];
  };
  return {
    entries,
    shows: (label, ms) =>
      until(`the menu says "${label}"`, async () => (await entries()).some((entry) => entry.label === label), ms),
    enabled: async (label) => (await entries()).find((entry) => entry.label === label)?.enabled,
    click: (label) => until(`"${label}" can be clicked`, () => ask(`click ${label}`)),
    close: () => end(child),
  };
}

/** Whether the app's window is on the screen. */
function onScreen(desktop) {
  return spawnSync("xdotool", ["search", "--onlyvisible", "--name", "^Sampan$"], { env: { ...process.env, DISPLAY: desktop.screen } }).status === 0;
}

export function tell(test, desktop) {
  test("the menu bar item starts and stops the engine, brings the window back and ends the app", async () => {
    const home = desktop.home("tray");
    const socket = join(home, ".sampan/run/docker.sock");
    const panel = await startPanel();
    const app = desktop.launch(home, { SAMPAN_HYPERVISOR: "native" });
    const ended = new Promise((resolve) => app.once("exit", resolve));
    try {
      await panel.shows("Engine stopped");
      equal(await panel.enabled("Stop Engine"), false, "stop while stopped");
      await panel.click("Start Engine");
      await panel.shows("Engine running", 60_000);
      ok(await ping(socket), "the engine doesn't answer");
      equal(await panel.enabled("Start Engine"), false, "start while running");
      await panel.click("Stop Engine");
      await panel.shows("Engine stopped", 60_000);

      await until("the window is on the screen", () => onScreen(desktop));
      spawnSync("xdotool", ["search", "--name", "^Sampan$", "windowunmap"], { env: { ...process.env, DISPLAY: desktop.screen } });
      await until("the window is gone from the screen", () => !onScreen(desktop));
      await panel.click("Open Sampan");
      await until("the window is back", () => onScreen(desktop));

      await panel.click("Start Engine");
      await panel.shows("Engine running", 60_000);
      await panel.click("Quit Sampan");
      equal(await ended, 0, "exit code of the app");
      ok(!existsSync(socket), "the engine's socket outlives the app");
    } finally {
      end(app);
      panel.close();
    }
  }, lacks());
}
