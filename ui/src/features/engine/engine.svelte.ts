// The engine as this window knows it: the shell's word, and what was just asked of it.

import type { VmStatus } from "../../backend/bindings/VmStatus";
import { LOADING, ready, toFailure, type Remote } from "../../backend/remote";
import type { Backend } from "../../backend/rpc";

export class EngineStore {
  remote = $state.raw<Remote<VmStatus>>(LOADING);
  #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  get status(): VmStatus | null {
    return this.remote.kind === "ready" ? this.remote.value : null;
  }

  get running(): boolean {
    return this.status?.vm.state === "running";
  }

  /** Listens first and asks then, so that no change falls between. */
  connect(): () => void {
    const stop = this.#backend.listen("vm-status", (status) => (this.remote = ready(status)));
    void this.#ask();
    return stop;
  }

  async start() {
    await this.#order("vm_start");
  }

  async stop() {
    await this.#order("vm_stop");
  }

  /** Asks anew after the host itself could not be opened. */
  async retry() {
    this.remote = LOADING;
    await this.#ask();
  }

  async #ask() {
    try {
      const status = await this.#backend.call("vm_status", {});
      if (this.remote.kind !== "ready") this.remote = ready(status);
    } catch (thrown) {
      this.remote = { kind: "failed", failure: toFailure(thrown) };
    }
  }

  /** The state table says how it went; a refused order is shown as the failure it is. */
  async #order(name: "vm_start" | "vm_stop") {
    try {
      await this.#backend.call(name, {});
    } catch (thrown) {
      const failure = toFailure(thrown);
      const status = this.status;
      const known = status?.vm.state === "failed" && status.vm.cause.message === failure.message;
      if (status && !known) {
        this.remote = ready({ ...status, vm: { state: "failed", cause: { kind: "system", ...failure } } });
      }
    }
  }
}
