// The window over the engine without a VM.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { ping, until } from "./desktop.mjs";
import { equal, ok } from "./harness.mjs";

/** What the machine lacks for an engine straight on it. */
export function lacks() {
  const agent = process.env.SAMPAN_GUEST_AGENT;
  return [
    ...(process.getuid() === 0 ? [] : ["the engine needs root"]),
    ...(agent && existsSync(agent) ? [] : ["SAMPAN_GUEST_AGENT names no built guest agent"]),
  ];
}

export function tell(test, desktop) {
  test("the app opens its window on a stopped engine", async () => {
    const window = await desktop.open(desktop.home("stopped"), { SAMPAN_HYPERVISOR: "native" });
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
    const window = await desktop.open(desktop.home("failing"), {
      SAMPAN_HYPERVISOR: "native",
      SAMPAN_GUEST_AGENT: join(desktop.scratch, "no-such-agent"),
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

  test("one click starts the engine and the pages fill", async () => {
    const window = await desktop.open(desktop.home("running"), { SAMPAN_HYPERVISOR: "native" });
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
  }, lacks());

  test("an app told to start the engine does so, and a signal ends both", async () => {
    const home = desktop.home("signalled", { startAtLaunch: true });
    const socket = join(home, ".sampan/run/docker.sock");
    const app = desktop.launch(home, { SAMPAN_HYPERVISOR: "native" });
    const ended = new Promise((resolve) => app.once("exit", (code, signal) => resolve(code ?? signal)));
    await until("the engine answers", () => ping(socket), 60_000);
    app.kill("SIGTERM");
    equal(await ended, 0, "how the app ended");
    ok(!existsSync(socket), "the engine's socket outlives the app");
  }, lacks());
}
