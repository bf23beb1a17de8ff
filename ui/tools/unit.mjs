// `npm test`: types first (a page that does not type-check is not worth testing), then the units.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { startVitest } from "vitest/node";

const root = fileURLToPath(new URL("..", import.meta.url));
const types = spawnSync("npx", ["--no-install", "svelte-check", "--tsconfig", "./tsconfig.json", "--fail-on-warnings"], {
  cwd: root,
  stdio: "inherit",
});

const vitest = await startVitest("test", process.argv.slice(2), { root, watch: false, reporters: ["dot"], environment: "node" });
const tests = vitest.state.getFiles().flatMap((file) => collect(file.tasks));
await vitest.close();

const failed = tests.filter((test) => test.result?.state !== "pass").length;
const broken = vitest.state.getCountOfFailedTests() + vitest.state.getUnhandledErrors().length;
const typesFailed = types.status === 0 ? 0 : 1;
console.log(`${tests.length - failed + (1 - typesFailed)} passed, ${Math.max(failed, broken) + typesFailed} failed`);
process.exitCode = failed + broken + typesFailed > 0 || tests.length === 0 ? 1 : 0;

function collect(tasks) {
  return tasks.flatMap((task) => (task.type === "suite" ? collect(task.tasks) : [task]));
}
