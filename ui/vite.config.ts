// Two builds of one source: the product (index.html, the Tauri door) and, in mode `fake`, the same
// pages over an in-memory backend for tests. The product's build never contains the second.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig(({ mode }) => ({
  plugins: [svelte()],
  clearScreen: false,
  server: { port: 5173, strictPort: true },
  build: {
    target: ["safari16", "chrome108"],
    outDir: mode === "fake" ? "dist-fake" : "dist",
    emptyOutDir: true,
    rolldownOptions: {
      input: mode === "fake" ? "fake.html" : "index.html",
      // How long a plug-in took on a busy machine is no warning.
      checks: { pluginTimings: false },
    },
  },
}));
