// Puts the window's contents on the page, over whichever backend it is given.

import { mount } from "svelte";
import type { Backend } from "./backend/rpc";
import { App } from "./frame/app.svelte";
import Frame from "./frame/Frame.svelte";
import { onMac } from "./frame/keys";
import { locale } from "./messages";
import "./tokens.css";

export function startApp(backend: Backend) {
  document.documentElement.lang = locale;
  document.documentElement.dataset["platform"] = onMac ? "mac" : "linux";
  document.addEventListener("contextmenu", (event) => event.preventDefault());
  const target = document.getElementById("app");
  if (target) mount(Frame, { target, props: { app: new App(backend) } });
}
