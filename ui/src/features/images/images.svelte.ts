// All images of the engine, and the pulls that this window has under way.

import type { ImageSummary } from "../../backend/bindings/ImageSummary";
import { ListStore } from "../../backend/list.svelte";
import { toFailure, type Failure } from "../../backend/remote";
import type { Backend } from "../../backend/rpc";
import type { Notices } from "../../frame/notices.svelte";
import { t } from "../../messages";
import type { ImageRow } from "./images";
import { advance, PULL_BEGIN, type PullState } from "./pull";

export class Pull {
  readonly reference: string;
  state = $state.raw<PullState>(PULL_BEGIN);
  result = $state.raw<"running" | "done" | "cancelled" | Failure>("running");
  readonly stop = new AbortController();

  constructor(reference: string) {
    this.reference = reference;
  }

  get failure(): Failure | null {
    return typeof this.result === "object" ? this.result : null;
  }
}

export class ImagesStore {
  readonly list: ListStore<ImageSummary>;
  pulls = $state.raw<Pull[]>([]);
  removing = $state.raw<ReadonlySet<string>>(new Set());
  #backend: Backend;
  #notices: Notices;

  constructor(backend: Backend, notices: Notices) {
    this.#backend = backend;
    this.#notices = notices;
    this.list = new ListStore(() => backend.call("images_list", {}));
  }

  /** Begins a pull; it stays listed until it is done, or dismissed after a failure. */
  pull(reference: string): { pull: Pull; ended: Promise<void> } {
    const pull = new Pull(reference);
    this.pulls = [...this.pulls.filter((other) => other.reference !== reference || !other.failure), pull];
    return { pull, ended: this.#follow(pull) };
  }

  dismiss(pull: Pull) {
    pull.stop.abort();
    this.pulls = this.pulls.filter((other) => other !== pull);
  }

  async remove(row: ImageRow) {
    this.removing = new Set([...this.removing, row.key]);
    try {
      await this.#backend.call("image_remove", { name: row.reference, force: false });
    } catch (thrown) {
      this.#notices.add(t("images.failed.remove", { name: row.reference }), toFailure(thrown));
    }
    await this.list.refresh();
    this.removing = new Set([...this.removing].filter((key) => key !== row.key));
  }

  async #follow(pull: Pull) {
    // Lines come by the thousand: fold them all, show one state a frame.
    let folded = pull.state;
    let frame = 0;
    const show = () => {
      frame = 0;
      pull.state = folded;
    };
    try {
      await this.#backend.stream(
        "image_pull",
        { reference: pull.reference },
        (line) => {
          folded = advance(folded, line);
          frame ||= requestAnimationFrame(show);
        },
        pull.stop.signal,
      );
      pull.state = folded;
      pull.result = pull.stop.signal.aborted ? "cancelled" : "done";
    } catch (thrown) {
      pull.result = toFailure(thrown);
      return;
    } finally {
      cancelAnimationFrame(frame);
    }
    if (pull.result === "done") {
      await this.list.refresh();
      this.pulls = this.pulls.filter((other) => other !== pull);
    }
  }
}
