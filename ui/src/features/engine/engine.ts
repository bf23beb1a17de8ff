// What a VM status means for the pages: pure derivations.

import type { Stage } from "../../backend/bindings/Stage";
import type { VmStatus } from "../../backend/bindings/VmStatus";
import type { Tone } from "../../widgets/Dot.svelte";

export const STAGES: readonly Stage[] = ["prepare", "boot", "agent", "engine"];

/** The states as the eye tells them apart. */
export function tone(status: VmStatus): Tone {
  switch (status.vm.state) {
    case "running":
      return "on";
    case "starting":
    case "stopping":
    case "restarting":
      return "changing";
    case "failed":
      return "failed";
    case "stopped":
      return "off";
  }
}

export type StageView = { stage: Stage } & (
  | { kind: "done"; tookMs: number }
  | { kind: "now" }
  | { kind: "waiting" }
);

/** The stages that this hypervisor goes through: without a VM nothing boots. */
export function stagesOf(status: VmStatus): Stage[] {
  return status.hypervisor === "native" ? STAGES.filter((stage) => stage !== "boot") : [...STAGES];
}

/** Every stage of the start under way, in its order. */
export function stageViews(status: VmStatus): StageView[] {
  const done = new Map(status.stages.map((report) => [report.stage, report.tookMs]));
  const now = status.vm.state === "starting" ? status.vm.stage : null;
  return stagesOf(status).map((stage) => {
    const tookMs = done.get(stage);
    if (tookMs !== undefined && stage !== now) return { stage, kind: "done", tookMs };
    return { stage, kind: stage === now ? "now" : "waiting" };
  });
}

/** How long the last start took as a whole; nothing while it isn't done. */
export function startedInMs(status: VmStatus): number | null {
  if (status.vm.state !== "running") return null;
  return status.stages.at(-1)?.elapsedMs ?? null;
}
