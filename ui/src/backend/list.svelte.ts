// A list that lives in the engine: fetched when something says that it changed, never on a clock.

import { LOADING, ready, toFailure, type Remote } from "./remote";

export class ListStore<T> {
  remote = $state.raw<Remote<T[]>>(LOADING);
  #fetch: () => Promise<T[]>;
  #flight: Promise<void> | null = null;
  #again = false;

  constructor(fetch: () => Promise<T[]>) {
    this.#fetch = fetch;
  }

  /** The last known items; empty until there are some. */
  get items(): T[] {
    return this.remote.kind === "ready" ? this.remote.value : [];
  }

  /** Fetches anew. Calls that come while one is under way share one more fetch after it. */
  refresh(): Promise<void> {
    if (this.#flight) {
      this.#again = true;
      return this.#flight;
    }
    this.#flight = this.#run().finally(() => (this.#flight = null));
    return this.#flight;
  }

  async #run() {
    do {
      this.#again = false;
      try {
        this.remote = ready(await this.#fetch());
      } catch (thrown) {
        this.remote = { kind: "failed", failure: toFailure(thrown) };
      }
    } while (this.#again);
  }
}
