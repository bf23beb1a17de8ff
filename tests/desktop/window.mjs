// The real app under a real window system: `npm --prefix ui run test:desktop [part of a claim]`.
//
// With SHOTS=DIR in the environment it also takes pictures of what it comes by.

import { enterOwnDesktop, startDesktop } from "./desktop.mjs";
import { suite } from "./harness.mjs";

enterOwnDesktop();
const desktop = await startDesktop();
const { test, finish } = suite();
for (const story of ["native", "vm", "tray"]) {
  const { tell } = await import(`./${story}.mjs`);
  tell(test, desktop);
}
process.exitCode = await finish();
desktop.close();
