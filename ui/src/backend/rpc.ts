// The one door to the backend. Every command, stream and event that the shell answers stands in
// these tables with its types, so a misspelt or unregistered one does not compile.

import type { ContainerInspect } from "./bindings/ContainerInspect";
import type { ContainerSummary } from "./bindings/ContainerSummary";
import type { CreateContainer } from "./bindings/CreateContainer";
import type { Created } from "./bindings/Created";
import type { Event } from "./bindings/Event";
import type { HistoryEntry } from "./bindings/HistoryEntry";
import type { ImageInspect } from "./bindings/ImageInspect";
import type { ImageRemoved } from "./bindings/ImageRemoved";
import type { ImageSummary } from "./bindings/ImageSummary";
import type { LogChunk } from "./bindings/LogChunk";
import type { LogOptions } from "./bindings/LogOptions";
import type { Network } from "./bindings/Network";
import type { Progress } from "./bindings/Progress";
import type { VmStatus } from "./bindings/VmStatus";
import type { Volume } from "./bindings/Volume";

type Nothing = Record<never, never>;

/** Calls with one answer. */
export interface Commands {
  vm_status: { args: Nothing; result: VmStatus };
  vm_start: { args: Nothing; result: null };
  vm_stop: { args: Nothing; result: null };
  containers_list: { args: Nothing; result: ContainerSummary[] };
  container_inspect: { args: { id: string }; result: ContainerInspect };
  container_create: { args: { name: string | null; create: CreateContainer }; result: Created };
  container_start: { args: { id: string }; result: null };
  container_stop: { args: { id: string }; result: null };
  container_restart: { args: { id: string }; result: null };
  container_remove: { args: { id: string; force: boolean }; result: null };
  hello_available: { args: Nothing; result: boolean };
  images_list: { args: Nothing; result: ImageSummary[] };
  image_inspect: { args: { id: string }; result: ImageInspect };
  image_history: { args: { id: string }; result: HistoryEntry[] };
  image_remove: { args: { name: string; force: boolean }; result: ImageRemoved[] };
  volumes_list: { args: Nothing; result: Volume[] };
  networks_list: { args: Nothing; result: Network[] };
}

/** Calls with many answers, until they end, fail or are cancelled. */
export interface Streams {
  container_logs: { args: { id: string; options: LogOptions }; item: LogChunk[] };
  hello_load: { args: Nothing; item: Progress };
  image_pull: { args: { reference: string }; item: Progress };
}

/** What the shell says unasked. */
export interface Events {
  /** The VM's state changed. */
  "vm-status": VmStatus;
  /** The engine's own event: something was created, started, removed. */
  "engine-event": Event;
  /** The engine's events were (re)connected: whatever was known may be stale. */
  "engine-connected": null;
}

export interface Backend {
  call<N extends keyof Commands>(
    name: N,
    args: Commands[N]["args"],
  ): Promise<Commands[N]["result"]>;
  /** Resolves when the stream has ended, rejects when it failed; aborting the signal ends it quietly. */
  stream<N extends keyof Streams>(
    name: N,
    args: Streams[N]["args"],
    receive: (item: Streams[N]["item"]) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Returns the way to stop listening. */
  listen<N extends keyof Events>(name: N, receive: (payload: Events[N]) => void): () => void;
}
