// A pull under way: Docker's progress lines folded into what is shown of it.

import type { Progress } from "../../backend/bindings/Progress";

export type LayerPhase = "waiting" | "downloading" | "extracting" | "done" | "exists";

export interface Layer {
  id: string;
  phase: LayerPhase;
  current: number;
  total: number;
}

export interface PullState {
  layers: readonly Layer[];
  upToDate: boolean;
}

export const PULL_BEGIN: PullState = { layers: [], upToDate: false };

const PHASES: [RegExp, LayerPhase][] = [
  [/^Already exists/, "exists"],
  [/^(Pull complete|Download complete and verified)/, "done"],
  [/^(Extracting|Unpacking|Verifying Checksum|Download complete)/, "extracting"],
  [/^Downloading/, "downloading"],
  [/^(Pulling fs layer|Waiting|Retrying)/, "waiting"],
];

/** One progress line further. Lines that aren't about a layer change nothing but the verdict. */
export function advance(state: PullState, line: Progress): PullState {
  if (line.status?.startsWith("Status: Image is up to date")) return { ...state, upToDate: true };
  const phase = PHASES.find(([pattern]) => pattern.test(line.status ?? ""))?.[1];
  if (!line.id || !phase) return state;
  const at = state.layers.findIndex((layer) => layer.id === line.id);
  const known: Layer = state.layers[at] ?? { id: line.id, phase, current: 0, total: 0 };
  const total = line.progressDetail?.total ?? known.total;
  const whole = phase === "done" || phase === "exists" || phase === "extracting";
  const current = whole ? total : (line.progressDetail?.current ?? known.current);
  const layer: Layer = { id: line.id, phase, current, total: Math.max(total, current) };
  const layers = at < 0 ? [...state.layers, layer] : state.layers.map((other, i) => (i === at ? layer : other));
  return { ...state, layers };
}

export interface Totals {
  current: number;
  total: number;
  layersDone: number;
  /** Of what is known to be fetched, 0 to 1; nothing while no size is known. */
  fraction: number | null;
}

export function totals(state: PullState): Totals {
  let current = 0;
  let total = 0;
  let layersDone = 0;
  for (const layer of state.layers) {
    current += layer.current;
    total += layer.total;
    if (layer.phase === "done" || layer.phase === "exists") layersDone += 1;
  }
  return { current, total, layersDone, fraction: total > 0 ? current / total : null };
}
