// The product's backend: the Rust shell behind Tauri's commands, channels and events.

import { Channel, invoke } from "@tauri-apps/api/core";
import { listen } from "@tauri-apps/api/event";
import type { Backend } from "./rpc";

let lastStream = 0;

export function tauriBackend(): Backend {
  return {
    call: (name, args) => invoke(name, args),

    async stream(name, args, receive, signal) {
      if (signal.aborted) return;
      lastStream += 1;
      const stream = lastStream;
      const channel = new Channel<Parameters<typeof receive>[0]>();
      channel.onmessage = (item) => {
        if (!signal.aborted) receive(item);
      };
      const cancel = () => void invoke("stream_cancel", { stream });
      signal.addEventListener("abort", cancel, { once: true });
      try {
        await invoke(name, { ...args, stream, channel });
      } catch (failure) {
        if (!signal.aborted) throw failure;
      } finally {
        signal.removeEventListener("abort", cancel);
      }
    },

    listen(name, receive) {
      const stop = listen(name, (event) => receive(event.payload as Parameters<typeof receive>[0]));
      return () => void stop.then((unlisten) => unlisten());
    },
  };
}
