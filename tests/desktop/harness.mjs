// The language of the page tests: a served build, a page in a scenario, claims with one closing line.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const UI = fileURLToPath(new URL("../../ui/", import.meta.url));

// The packages are installed under ui/: these files stand outside it.
export const require = createRequire(join(UI, "package.json"));

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/** Serves a built directory on a free loopback port. */
export function serve(directory) {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    try {
      const body = readFileSync(join(directory, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve({ url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() }));
  });
}

/**
 * Collects claims and runs them one after the other; `finish` prints the closing line and says the exit code.
 * A claim whose machine lacks something (a sentence each) is skipped, or fails where everything is required.
 */
export function suite() {
  const claims = [];
  return {
    test: (claim, body, lacks = []) => claims.push({ claim, body, lacks }),
    async finish() {
      const only = process.argv[2];
      let passed = 0;
      let failed = 0;
      for (const { claim, body, lacks } of claims) {
        if (only && !claim.includes(only)) continue;
        if (lacks.length > 0 && !process.env.SAMPAN_REQUIRE_ALL) {
          console.log(`SKIPPED: ${claim}: ${lacks.join("; ")}`);
          continue;
        }
        const began = Date.now();
        try {
          if (lacks.length > 0) throw new Error(lacks.join("; "));
          await body();
          passed += 1;
          console.log(`ok    ${claim} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
        } catch (error) {
          failed += 1;
          console.log(`FAIL  ${claim}\n      ${String(error?.stack ?? error).split("\n").slice(0, 24).join("\n      ")}`);
        }
      }
      console.log(`${passed} passed, ${failed} failed`);
      return failed === 0 && passed > 0 ? 0 : 1;
    },
  };
}

export function equal(actual, expected, what = "value") {
  if (actual !== expected) throw new Error(`${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

export function ok(value, what) {
  if (!value) throw new Error(what);
}
