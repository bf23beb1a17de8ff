// All containers of the engine, and what this window has just asked of them.

import { SvelteMap } from "svelte/reactivity";
import type { ContainerSummary } from "../../backend/bindings/ContainerSummary";
import type { CreateContainer } from "../../backend/bindings/CreateContainer";
import { ListStore } from "../../backend/list.svelte";
import { toFailure } from "../../backend/remote";
import type { Backend } from "../../backend/rpc";
import type { Notices } from "../../frame/notices.svelte";
import { t } from "../../messages";
import { loadedImage, plain } from "./run";
import { toRow, type Action, type ContainerRow } from "./containers";

export class ContainersStore {
  readonly list: ListStore<ContainerSummary>;
  readonly pending = new SvelteMap<string, Action>();
  rows = $derived.by(() => this.list.items.map((item) => toRow(item, this.pending.get(item.Id))));
  #backend: Backend;
  #notices: Notices;

  constructor(backend: Backend, notices: Notices) {
    this.#backend = backend;
    this.#notices = notices;
    this.list = new ListStore(() => backend.call("containers_list", {}));
  }

  find(id: string): ContainerRow | null {
    return this.rows.find((row) => row.id === id) ?? null;
  }

  /** Creates a container and starts it; one that doesn't start is taken away again, so that its name is free. */
  async run(name: string | null, create: CreateContainer): Promise<string> {
    const { Id: id } = await this.#backend.call("container_create", { name, create });
    try {
      await this.#backend.call("container_start", { id });
    } catch (refused) {
      // Nothing more to say when that is refused too: the list shows the container.
      await this.#backend.call("container_remove", { id, force: true }).catch(() => undefined);
      throw refused;
    } finally {
      await this.list.refresh();
    }
    return id;
  }

  /** Loads the hello image and runs it; the new container's id, unless it failed. */
  async runHello(): Promise<string | null> {
    try {
      let image: string | null = null;
      await this.#backend.stream("hello_load", {}, (line) => (image ??= loadedImage(line.stream ?? "")), new AbortController().signal);
      return await this.run(null, plain(image ?? "hello"));
    } catch (thrown) {
      this.#notices.add(t("containers.failed.hello"), toFailure(thrown));
      return null;
    }
  }

  /** Shows the action in the row at once; the engine's word decides how it ends. */
  async act(action: Action, row: ContainerRow) {
    if (this.pending.has(row.id)) return;
    this.pending.set(row.id, action);
    try {
      if (action === "remove") {
        await this.#backend.call("container_remove", { id: row.id, force: true });
      } else {
        await this.#backend.call(`container_${action}`, { id: row.id });
      }
    } catch (thrown) {
      this.#notices.add(t(`containers.failed.${action}`, { name: row.name }), toFailure(thrown));
    }
    await this.list.refresh();
    this.pending.delete(row.id);
  }
}
