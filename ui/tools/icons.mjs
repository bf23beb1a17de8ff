// Draws every icon file of the app from the two SVGs beside them: `npm run icons`.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { launchBrowser } from "./browser.mjs";

const dir = fileURLToPath(new URL("../../src-tauri/icons/", import.meta.url));
const browser = await launchBrowser();

async function png(svg, size) {
  const page = await browser.newPage({ viewport: { width: size, height: size } });
  const markup = readFileSync(dir + svg, "utf8").replace("<svg ", `<svg width="${size}" height="${size}" `);
  await page.setContent(`<body style="margin:0">${markup}</body>`);
  const bytes = await page.screenshot({ omitBackground: true });
  await page.close();
  return bytes;
}

/** Apple's container: a magic, the length, then one typed entry per size, each a PNG. */
function icns(entries) {
  const parts = entries.map(([type, bytes]) => {
    const head = Buffer.alloc(8);
    head.write(type, 0, "latin1");
    head.writeUInt32BE(bytes.length + 8, 4);
    return Buffer.concat([head, bytes]);
  });
  const head = Buffer.alloc(8);
  head.write("icns", 0, "latin1");
  head.writeUInt32BE(8 + parts.reduce((sum, part) => sum + part.length, 0), 4);
  return Buffer.concat([head, ...parts]);
}

const files = { 32: "32x32.png", 128: "128x128.png", 256: "128x128@2x.png", 512: "icon.png" };
const types = { 16: "icp4", 32: "ic11", 64: "ic12", 128: "ic07", 256: "ic08", 512: "ic09" };
const drawn = {};
for (const size of Object.keys(types)) drawn[size] = await png("icon.svg", Number(size));
for (const [size, name] of Object.entries(files)) writeFileSync(dir + name, drawn[size]);
writeFileSync(dir + "icon.icns", icns(Object.entries(types).map(([size, type]) => [type, drawn[size]])));
writeFileSync(dir + "tray.png", await png("tray.svg", 44));
await browser.close();
