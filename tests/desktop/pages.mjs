// The pages in Chromium, over the engine in memory: `npm --prefix ui run test:e2e [part of a claim]`.
// With SHOTS=DIR in the environment it also takes a picture of every state, light and dark.

import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { equal, ok, serve, suite, UI } from "./harness.mjs";

const built = spawnSync("npm", ["run", "--silent", "build:fake", "--", "--logLevel", "warn"], { cwd: UI, stdio: "inherit" });
if (built.status !== 0) {
  console.log("0 passed, 1 failed");
  process.exit(1);
}

const { launchBrowser } = await import(join(UI, "tools/browser.mjs"));
const site = await serve(join(UI, "dist-fake"));
const browser = await launchBrowser();
const { test, finish } = suite();

const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 820, height: 600 };

/** Opens the pages in a scenario, hands them to the body, and fails on any error that the page raised. */
async function window(scenario, body, { size = WIDE, theme = "light", locale = "en-GB" } = {}) {
  const context = await browser.newContext({
    viewport: size, colorScheme: theme, locale, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"],
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const raised = [];
  page.on("pageerror", (error) => raised.push(error.message));
  try {
    await page.goto(`${site.url}/fake.html?scenario=${scenario}`);
    await page.getByRole("navigation", { name: /Pages|页面/ }).waitFor();
    await body(page);
    equal(raised.join("; "), "", "errors in the page");
  } finally {
    await context.close();
  }
}

const row = (page, name) => page.getByRole("row").filter({ hasText: name }).first();
const heading = (page, name) => page.getByRole("heading", { name, exact: true });
/** Lets a held backend go on, again and again until it has come to where it waits. */
const release = (page) => page.evaluate(() => {
  setInterval(() => document.dispatchEvent(new Event("fake-release")), 50);
});
const engine = (page) => page.locator("[data-engine-state]");

test("a stopped engine is a state of the page, and one button starts it with its stages", () =>
  window("stopped&hold", async (page) => {
    await heading(page, "The engine is stopped").waitFor();
    equal(await page.getByRole("dialog").count(), 0, "dialogs");
    await page.getByRole("main").getByRole("button", { name: "Start engine" }).click();
    await heading(page, "Starting the engine").waitFor();
    await page.getByText("Boot the kernel").waitFor();
    await release(page);
    await row(page, "shop-api").waitFor();
    equal(await engine(page).textContent(), "Engine · Running", "the sidebar");
  }));

test("the running engine tells what each stage took and can be stopped", () =>
  window("full", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.getByTitle("Engine details").click();
    const panel = page.getByRole("dialog", { name: "Engine details" });
    await panel.getByText("612 ms").waitFor();
    await panel.getByText("~/.sampan/run/docker.sock").waitFor();
    await page.keyboard.press("Escape");
    equal(await panel.count(), 0, "open panels");
    await page.getByRole("button", { name: "Stop engine" }).click();
    await heading(page, "The engine is stopped").waitFor();
    ok(await page.getByRole("region", { name: "Containers" }).evaluate((list) => list.inert), "the list is still in use");
  }));

test("a start that failed says why, with details folded and a repair", () =>
  window("broken", async (page) => {
    await page.getByText("QEMU isn't installed").waitFor();
    equal(await page.getByText("looked in /usr/local/bin").isVisible(), false, "unfolded details");
    await page.getByText("Show details").click();
    await page.getByText("looked in /usr/local/bin").waitFor();
    await page.getByRole("button", { name: "Start again" }).click();
    await row(page, "shop-api").waitFor();
  }));

test("a list that was refused offers another try", () =>
  window("failing", async (page) => {
    const alert = page.getByRole("alert");
    await alert.getByText("The list of containers could not be read").waitFor();
    await alert.getByRole("button", { name: "Try again" }).waitFor();
  }));

test("an empty page says what belongs there and copies a command", () =>
  window("empty", async (page) => {
    await heading(page, "No containers yet").waitFor();
    await page.getByRole("button", { name: /Copy docker run/ }).click();
    equal(await page.evaluate(() => navigator.clipboard.readText()), "docker run -d -p 8080:80 nginx:alpine", "clipboard");
    await page.keyboard.press("Control+2");
    await heading(page, "No images yet").waitFor();
  }));

test("the first container is one click away", () =>
  window("empty", async (page) => {
    await page.getByRole("button", { name: "Run the hello image" }).click();
    await page.getByRole("region", { name: "Details of eager_otter" }).waitFor();
    await page.getByRole("log", { name: "Log of eager_otter" }).waitFor();
  }));

test("a slow list shows a skeleton of itself", () =>
  window("slow", async (page) => {
    await page.getByRole("status", { name: "Loading" }).waitFor();
  }));

test("ten thousand rows are a few dozen elements", () =>
  window("many", async (page) => {
    await row(page, "job-00000").waitFor();
    ok((await page.getByRole("row").count()) < 80, "too many rows in the document");
    equal(await page.getByRole("grid").getAttribute("aria-rowcount"), "10001", "rows");
    await page.getByRole("grid").focus();
    await page.keyboard.press("End");
    await row(page, "job-09999").waitFor();
    await page.keyboard.press("Control+f");
    await page.keyboard.type("job-0500");
    await row(page, "job-05003").waitFor();
    equal(await page.getByRole("grid").getAttribute("aria-rowcount"), "11", "rows found");
  }));

test("search, filters and sorting narrow the list and can be undone", () =>
  window("full", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.getByRole("radio", { name: /Stopped/ }).click();
    equal(await row(page, "shop-api").count(), 0, "running rows under the filter");
    await page.keyboard.press("Control+f");
    await page.keyboard.type("nowhere");
    await page.getByText("Nothing matches “nowhere”").waitFor();
    await page.getByRole("button", { name: "Show all" }).click();
    await row(page, "shop-api").waitFor();
    const created = page.getByRole("columnheader", { name: "Created" });
    await created.getByRole("button").click();
    equal(await created.getAttribute("aria-sort"), "descending", "sort");
    ok((await page.getByRole("row").nth(1).textContent()).includes("scratchpad"), "the newest isn't first");
  }));

test("the keyboard alone selects, stops and removes a container", () =>
  window("full&hold", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.getByRole("grid").focus();
    await page.keyboard.press("ArrowDown");
    await page.getByRole("region", { name: "Details of dns" }).waitFor();
    await page.keyboard.press("Control+.");
    await row(page, "dns").getByText("Stopping").waitFor();
    await release(page);
    await row(page, "dns").getByText("Exited (0)").waitFor();
    await page.keyboard.press("Delete");
    const dialog = page.getByRole("dialog", { name: "Remove dns?" });
    await dialog.waitFor();
    await page.keyboard.press("Enter");
    await row(page, "dns").waitFor({ state: "detached" });
    await row(page, "grafana").waitFor();
  }));

test("filters and sorting are reached by keys, and a dialog is not displaced by a shortcut", () =>
  window("full", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.getByRole("radio", { name: "All" }).focus();
    await page.keyboard.press("ArrowRight");
    equal(await page.getByRole("radio", { name: /Running/ }).getAttribute("aria-checked"), "true", "filter");
    equal(await row(page, "scratchpad").count(), 0, "rows that don't run");
    await page.getByRole("grid").focus();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    equal(await page.getByRole("columnheader", { name: "Name" }).getAttribute("aria-sort"), "descending", "sort");
    await page.locator("header").getByRole("button", { name: "Run" }).click();
    await page.getByRole("dialog", { name: "Run a container" }).getByLabel("Image").fill("alpine");
    await page.keyboard.press("Control+k");
    await page.keyboard.press("Control+2");
    equal(await page.getByRole("dialog", { name: "Run a container" }).getByLabel("Image").inputValue(), "alpine", "the form");
    await page.keyboard.press("Escape");
    await heading(page, "Containers").waitFor();
  }));

test("an action that was refused leaves the row as it is and says why", () =>
  window("refusing", async (page) => {
    await row(page, "grafana").click();
    await page.getByRole("complementary").getByRole("button", { name: "Stop" }).click();
    const notices = page.getByRole("log").filter({ hasText: "grafana did not stop" });
    await notices.getByText("port 8080 is already in use").waitFor();
    await row(page, "grafana").getByText("Running").waitFor();
    await notices.getByRole("button", { name: "Dismiss" }).click();
    await notices.waitFor({ state: "detached" });
  }));

test("a log is coloured, searched as one types and follows its end", () =>
  window("full", async (page) => {
    await row(page, "shop-api").click();
    await page.getByRole("tab", { name: "Logs" }).click();
    const log = page.getByRole("log", { name: "Log of shop-api" });
    await log.getByText("POST /api/cart").first().waitFor();
    ok(await log.evaluate((view) => view.scrollTop + view.clientHeight >= view.scrollHeight - 20), "not at the end");
    equal(await log.getByText("WARN").first().evaluate((run) => run.style.color), "var(--ansi-3)", "colour");
    ok(!(await log.textContent()).includes("\u001b"), "control sequences are shown");
    await page.getByRole("searchbox", { name: "Search logs" }).fill("CART 201 user");
    await page.getByText(/^\d+ matches$/).waitFor();
    await page.keyboard.press("Enter");
    await log.locator("mark").first().waitFor();
  }));

test("two hundred thousand lines of log stay a few dozen elements", () =>
  window("full", async (page) => {
    await row(page, "prometheus").click();
    await page.getByRole("tab", { name: "Logs" }).click();
    await page.getByText(/^200,0\d\d lines$/).waitFor();
    const log = page.getByRole("log", { name: "Log of prometheus" });
    ok((await log.locator(".line").count()) < 120, "too many lines in the document");
    // Against a short log in the same run: a busy machine slows both.
    const long = await log.evaluate(scrollCost);
    await row(page, "shop-api").click();
    const short = page.getByRole("log", { name: "Log of shop-api" });
    await short.getByText("POST /api/cart").first().waitFor();
    const few = await short.evaluate(scrollCost);
    ok(long < 3 * few + 10, `a frame of scrolling took ${long.toFixed(1)} ms, in a short log ${few.toFixed(1)} ms`);
  }));

test("a container is run from a form that refuses what can't be", () =>
  window("full", async (page) => {
    await page.getByRole("banner").or(page.locator("header")).getByRole("button", { name: "Run" }).click();
    const dialog = page.getByRole("dialog", { name: "Run a container" });
    await dialog.getByLabel("Image").fill("nginx:alpine");
    await dialog.getByLabel("Published ports").fill("80");
    await dialog.getByRole("button", { name: "Run" }).click();
    await dialog.getByText("“80” is not a port mapping").waitFor();
    await dialog.getByLabel("Published ports").fill("8080:80");
    await dialog.getByLabel("Name", { exact: true }).fill("shop-web");
    await dialog.getByRole("button", { name: "Run" }).click();
    await dialog.getByRole("alert").getByText("is already in use").waitFor();
    await dialog.getByLabel("Name", { exact: true }).fill("fresh");
    await dialog.getByRole("button", { name: "Run" }).click();
    await page.getByRole("region", { name: "Details of fresh" }).waitFor();
    await row(page, "fresh").getByText("Running").waitFor();
  }));

test("a container that doesn't start is taken away, and its name is free for another try", () =>
  window("refusing", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.locator("header").getByRole("button", { name: "Run" }).click();
    const dialog = page.getByRole("dialog", { name: "Run a container" });
    await dialog.getByLabel("Image").fill("nginx:alpine");
    await dialog.getByLabel("Name", { exact: true }).fill("fresh");
    for (const tries of [1, 2]) {
      await dialog.getByRole("button", { name: "Run" }).click();
      await dialog.getByRole("alert").getByText("port 8080 is already in use").waitFor();
      equal(await row(page, "fresh").count(), 0, `rows of it after try ${tries}`);
    }
  }));

test("a pull shows its layers and ends in the list", () =>
  window("full&hold", async (page) => {
    await page.keyboard.press("Control+2");
    await page.locator("header").getByRole("button", { name: "Pull" }).click();
    await page.keyboard.type("mysql:9");
    await page.keyboard.press("Enter");
    const bar = page.getByRole("progressbar", { name: "Pull of mysql:9" });
    await bar.waitFor();
    await page.getByRole("list", { name: "Layers" }).getByRole("listitem").nth(3).waitFor();
    await release(page);
    await bar.waitFor({ state: "detached" });
    await row(page, "mysql").waitFor();
  }));

test("a pull that was refused keeps the registry's word and a second try", () =>
  window("full", async (page) => {
    await page.keyboard.press("Control+2");
    await page.locator("header").getByRole("button", { name: "Pull" }).click();
    await page.keyboard.type("nobody/nothing");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("pull access denied for nobody/nothing").waitFor();
    await page.getByRole("button", { name: "Try again" }).waitFor();
  }));

test("an image shows its layers by size and who uses it", () =>
  window("full", async (page) => {
    await page.keyboard.press("Control+2");
    await row(page, "postgres").click();
    await page.getByRole("button", { name: "shop-db" }).waitFor();
    await page.getByRole("tab", { name: "Layers" }).click();
    await page.getByText("RUN npm ci --omit=dev").waitFor();
    ok(!(await page.getByRole("complementary").textContent()).includes("#(nop)"), "the builder's own words are shown");
  }));

test("an image in use isn't removed, and the engine's reason is shown", () =>
  window("full", async (page) => {
    await page.keyboard.press("Control+2");
    await row(page, "postgres").click();
    await page.keyboard.press("Delete");
    await page.getByRole("dialog").getByRole("button", { name: "Remove image" }).click();
    await page.getByText("must force").waitFor();
    await row(page, "postgres").waitFor();
  }));

test("volumes and networks list what there is", () =>
  window("full", async (page) => {
    await page.keyboard.press("Control+3");
    await row(page, "grafana-data").click();
    await page.getByText("/var/lib/docker/volumes/grafana-data/_data").waitFor();
    await page.keyboard.press("Control+4");
    await row(page, "bridge").click();
    await page.getByRole("region", { name: "Details of bridge" }).getByText("shop-api").waitFor();
  }));

test("the palette reaches objects and actions", () =>
  window("full", async (page) => {
    await row(page, "shop-api").waitFor();
    await page.keyboard.press("Control+k");
    await page.keyboard.type("logs: shop-api");
    await page.keyboard.press("Enter");
    await page.getByRole("log", { name: "Log of shop-api" }).waitFor();
  }));

test("a narrow window puts the details over the list", () =>
  window("full", async (page) => {
    await row(page, "shop-api").click();
    const [pane, main] = [await page.getByRole("complementary").boundingBox(), await page.getByRole("main").boundingBox()];
    equal(pane.width, main.width, "width of the details");
    await page.getByRole("complementary").getByRole("button", { name: "Containers" }).click();
    equal(await page.getByRole("complementary").count(), 0, "details");
  }, { size: NARROW }));

test("nothing is wider than the window, in either language", async () => {
  for (const locale of ["en-GB", "zh-CN"]) {
    await window("full", async (page) => {
      for (const key of ["1", "2", "3", "4"]) {
        await page.keyboard.press(`Control+${key}`);
        await page.getByRole("grid").waitFor();
        const over = await page.evaluate(() => [...document.querySelectorAll("header, header *")]
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1).length);
        equal(over, 0, `toolbar elements beyond the edge of page ${key} in ${locale}`);
      }
    }, { size: { width: 720, height: 480 }, locale });
  }
});

test("the window speaks Chinese where the user does", () =>
  window("stopped", async (page) => {
    await heading(page, "引擎已停止").waitFor();
    equal(await page.evaluate(() => document.documentElement.lang), "zh-CN", "language");
  }, { locale: "zh-CN" }));

test("every control has a name", () =>
  window("full", async (page) => {
    await row(page, "shop-api").click();
    await page.getByRole("tab", { name: "Logs" }).click();
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, [role=grid], [role=separator], aside, nav")]
      .filter((element) => !(element.getAttribute("aria-label") || element.getAttribute("aria-labelledby") || element.textContent.trim() || element.labels?.length))
      .map((element) => element.outerHTML.slice(0, 120)));
    equal(nameless.filter((html) => !html.startsWith("<aside")).join("\n"), "", "controls without a name");
  }));

test("text is readable on its ground, light and dark", async () => {
  for (const theme of ["light", "dark"]) {
    await window("full", async (page) => {
      await row(page, "shop-api").click();
      await page.getByRole("tab", { name: "Logs" }).click();
      await page.getByRole("log", { name: "Log of shop-api" }).getByText("INFO").first().waitFor();
      const poor = await page.evaluate(contrastBelow, 4.5);
      equal(poor.join("\n"), "", `contrast below 4.5 in ${theme}`);
    }, { theme });
  }
});

/** Runs in the page: milliseconds that a frame takes while an element is scrolled up and down. */
async function scrollCost(view) {
  const begin = performance.now();
  for (let i = 0; i < 30; i += 1) {
    view.scrollTop = i % 2 === 0 ? 0 : 2500;
    await new Promise(requestAnimationFrame);
  }
  return (performance.now() - begin) / 30;
}

/** Runs in the page: texts whose colour is too close to what is painted behind them. */
function contrastBelow(limit) {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
    }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (text === "" || !element.checkVisibility() || element.closest(".visually-hidden, style, script, datalist")) continue;
    const grounds = [];
    for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const color = getComputedStyle(element).color;
    const [a, b] = [light(paint(grounds)), light(paint([...grounds, color]))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < limit) poor.add(`${text.slice(0, 40)} (${ratio.toFixed(2)})`);
  }
  return [...poor];
}

const shots = process.env.SHOTS;
if (shots) {
  mkdirSync(shots, { recursive: true });
  const states = [["full", "containers"], ["empty", "empty"], ["failing", "failing"], ["stopped", "stopped"], ["starting", "starting"], ["broken", "failed-start"]];
  for (const [sizeName, size] of [["1280x800", WIDE], ["820x600", NARROW]]) {
    for (const theme of ["light", "dark"]) {
      for (const [scenario, name] of states) {
        await window(scenario, async (page) => {
          if (scenario === "full" && size === WIDE) await row(page, "shop-api").click();
          await page.waitForLoadState("networkidle");
          await page.screenshot({ path: join(shots, `${name}-${sizeName}-${theme}.png`) });
        }, { size, theme });
      }
    }
  }
}

process.exitCode = await finish();
await browser.close();
site.close();
