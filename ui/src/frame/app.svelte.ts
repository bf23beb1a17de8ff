// The window's state: which page, what is selected, and the stores behind the pages.

import { getContext, setContext } from "svelte";
import type { Network } from "../backend/bindings/Network";
import type { Volume } from "../backend/bindings/Volume";
import { ListStore } from "../backend/list.svelte";
import type { Backend } from "../backend/rpc";
import { ContainersStore } from "../features/containers/containers.svelte";
import { EngineStore } from "../features/engine/engine.svelte";
import { ImagesStore } from "../features/images/images.svelte";
import { Notices } from "./notices.svelte";
import { remembered } from "./remember.svelte";

export const PAGES = ["containers", "images", "volumes", "networks"] as const;
export type Page = (typeof PAGES)[number];

/** Events come in bursts (a `run --rm` makes seven): one fetch answers them all. */
const SETTLE_MS = 40;

export class App {
  readonly backend: Backend;
  readonly notices = new Notices();
  readonly engine: EngineStore;
  readonly containers: ContainersStore;
  readonly images: ImagesStore;
  readonly volumes: ListStore<Volume>;
  readonly networks: ListStore<Network>;

  readonly #page = remembered<Page>("page", "containers");
  /** The selected key of each page, as long as the window lives. */
  selected = $state<Record<Page, string | null>>({ containers: null, images: null, volumes: null, networks: null });
  /** Which tab of the details is shown; a container's log stays open from one container to the next. */
  tab = $state<Record<Page, string>>({ containers: "info", images: "info", volumes: "info", networks: "info" });
  dialog = $state.raw<{ kind: "run"; image: string } | { kind: "pull" } | { kind: "palette" } | null>(null);
  /** Moves with the clock while the window is seen, so that relative times stay true. */
  now = $state.raw(new Date());

  #stale = new Set<Page>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(backend: Backend) {
    this.backend = backend;
    this.engine = new EngineStore(backend);
    this.containers = new ContainersStore(backend, this.notices);
    this.images = new ImagesStore(backend, this.notices);
    this.volumes = new ListStore(() => backend.call("volumes_list", {}));
    this.networks = new ListStore(() => backend.call("networks_list", {}));
  }

  get page(): Page {
    const page = this.#page.value;
    return PAGES.includes(page) ? page : "containers";
  }

  go(page: Page, selected?: string, tab?: string) {
    this.#page.value = page;
    if (selected !== undefined) this.selected[page] = selected;
    if (tab !== undefined) this.tab[page] = tab;
  }

  /** Connects stores to events. A hidden window only notes what is stale and fetches when seen again. */
  connect(): () => void {
    const stops = [
      this.engine.connect(),
      this.backend.listen("engine-connected", () => this.#changed([...PAGES])),
      this.backend.listen("engine-event", (event) => {
        if (event.Type === "container") this.#changed(["containers"]);
        else if (event.Type === "image") this.#changed(["images"]);
        else if (event.Type === "volume") this.#changed(["volumes"]);
        else if (event.Type === "network") this.#changed(["networks"]);
      }),
    ];
    const seen = () => {
      if (document.visibilityState === "visible") {
        this.now = new Date();
        this.#changed([]);
      }
    };
    document.addEventListener("visibilitychange", seen);
    const clock = setInterval(() => {
      if (document.visibilityState === "visible") this.now = new Date();
    }, 10_000);
    return () => {
      stops.forEach((stop) => stop());
      document.removeEventListener("visibilitychange", seen);
      clearInterval(clock);
    };
  }

  /** Fetches everything: the engine has just become reachable. */
  refreshAll() {
    this.#changed([...PAGES]);
  }

  #changed(pages: Page[]) {
    pages.forEach((page) => this.#stale.add(page));
    if (document.visibilityState !== "visible" || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (!this.engine.running) return;
      const stores = { containers: this.containers.list, images: this.images.list, volumes: this.volumes, networks: this.networks };
      for (const page of this.#stale) void stores[page].refresh();
      this.#stale.clear();
      this.now = new Date();
    }, SETTLE_MS);
  }
}

const KEY = Symbol("app");

export function provideApp(app: App) {
  setContext(KEY, app);
}

export function useApp(): App {
  return getContext<App>(KEY);
}
