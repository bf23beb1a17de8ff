// The product: the pages over the Rust shell.

import { invoke } from "@tauri-apps/api/core";
import { tauriBackend } from "./backend/tauri";
import { startApp } from "./start";
import { locale } from "./messages";

startApp(tauriBackend());
void invoke("shell_locale", { locale });
