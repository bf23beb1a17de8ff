// One container's log while its view is open: streams it, counts it, searches it.

import { toFailure, type Failure } from "../../backend/remote";
import type { Backend } from "../../backend/rpc";
import { findMatches, LogBuffer } from "./log-buffer";

/** Lines asked of the past; the rest is on disk for `docker logs`. */
const TAIL = 100_000;
/** Lines that one frame searches. */
const SEARCH_SLICE = 40_000;

export class LogStore {
  readonly buffer = new LogBuffer();
  /** Grows with every change of the buffer: what views depend on. */
  version = $state(0);
  failure = $state.raw<Failure | null>(null);
  matches = $state.raw<number[]>([]);
  #query = "";
  #searched = 0;
  #frame = 0;
  #stop = new AbortController();

  /** Streams until closed; with `follow` it goes on as long as the container runs. */
  async open(backend: Backend, id: string, follow: boolean) {
    const options = { follow, tail: TAIL, timestamps: true, since: null };
    try {
      await backend.stream("container_logs", { id, options }, (chunks) => {
        this.buffer.push(chunks);
        this.#schedule();
      }, this.#stop.signal);
      this.buffer.finish();
    } catch (thrown) {
      this.failure = toFailure(thrown);
    }
    this.#schedule();
  }

  close() {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
  }

  clear() {
    this.buffer.clear();
    this.search(this.#query);
    this.#schedule();
  }

  search(query: string) {
    this.#query = query;
    this.#searched = 0;
    this.matches = [];
    if (query !== "") this.#schedule();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.version += 1;
      this.#searchOn();
    });
  }

  #searchOn() {
    if (this.#query === "") return;
    const { lines } = this.buffer;
    if (this.#searched > lines.length) this.search(this.#query);
    const to = Math.min(lines.length, this.#searched + SEARCH_SLICE);
    const found = findMatches(lines, this.#query, this.#searched, to);
    this.#searched = to;
    if (found.length > 0) this.matches = this.matches.concat(found);
    if (to < lines.length) this.#schedule();
  }
}
