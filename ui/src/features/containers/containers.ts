// Containers as the list shows them: pure derivations from Docker's records.

import type { ContainerSummary } from "../../backend/bindings/ContainerSummary";
import { containerName } from "../../format/ids";
import { portLabels } from "../../format/ports";
import type { Tone } from "../../widgets/Dot.svelte";
import type { IconName } from "../../widgets/icons";

export type Action = "start" | "stop" | "restart" | "remove";

export const ACTION_ICON: Record<Action, IconName> = { start: "play", stop: "stop", restart: "restart", remove: "remove" };

export type Phase =
  | "created"
  | "running"
  | "paused"
  | "restarting"
  | "removing"
  | "exited"
  | "dead"
  | "starting"
  | "stopping";

export interface ContainerRow {
  id: string;
  name: string;
  image: string;
  command: string;
  phase: Phase;
  /** Of the last run; null while there is none. */
  exitCode: number | null;
  ports: string[];
  created: Date;
}

const PHASES: readonly string[] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const UNDERWAY: Record<Action, Phase> = {
  start: "starting",
  stop: "stopping",
  restart: "restarting",
  remove: "removing",
};

/** A row, with what was just asked of the container laid over what the engine last said. */
export function toRow(summary: ContainerSummary, pending?: Action): ContainerRow {
  const said = PHASES.includes(summary.State) ? (summary.State as Phase) : "exited";
  const code = /^Exited \((-?\d+)\)/.exec(summary.Status)?.[1];
  return {
    id: summary.Id,
    name: containerName(summary.Names, summary.Id),
    image: summary.Image,
    command: summary.Command,
    phase: pending ? UNDERWAY[pending] : said,
    exitCode: code === undefined ? null : Number(code),
    ports: portLabels(
      summary.Ports.map((port) => ({
        privatePort: port.PrivatePort,
        publicPort: port.PublicPort === 0 ? null : port.PublicPort,
        protocol: port.Type,
        ip: port.IP === "" ? null : port.IP,
      })),
    ),
    created: new Date(summary.Created * 1000),
  };
}

/** A process that an operator ended (130, 137, 143) has not failed. */
export function toneOf(phase: Phase, exitCode: number | null): Tone {
  if (phase === "running") return "on";
  if (phase === "dead") return "failed";
  if (phase === "exited") return exitCode === null || [0, 130, 137, 143].includes(exitCode) ? "off" : "failed";
  return phase === "created" ? "off" : "changing";
}

export function isLive(phase: Phase): boolean {
  return ["running", "paused", "restarting", "stopping", "starting"].includes(phase);
}

export type Filter = "all" | "running" | "stopped";
export type SortBy = "name" | "image" | "state" | "created";

/** What of the list is shown, in which order. Equal rows keep the order of their names. */
export function arrange(
  rows: readonly ContainerRow[],
  query: string,
  filter: Filter,
  sort: { by: SortBy; descending: boolean },
): ContainerRow[] {
  const wanted = query.trim().toLowerCase();
  const shown = rows.filter(
    (row) =>
      (filter === "all" || (filter === "running") === isLive(row.phase)) &&
      (wanted === "" ||
        row.name.toLowerCase().includes(wanted) ||
        row.image.toLowerCase().includes(wanted) ||
        row.id.startsWith(wanted)),
  );
  const sign = sort.descending ? -1 : 1;
  return shown.sort((a, b) => sign * compare(a, b, sort.by) || byName(a, b));
}

const collator = new Intl.Collator(undefined, { numeric: true });

function byName(a: ContainerRow, b: ContainerRow): number {
  return collator.compare(a.name, b.name);
}

function compare(a: ContainerRow, b: ContainerRow, by: SortBy): number {
  switch (by) {
    case "name":
      return byName(a, b);
    case "image":
      return collator.compare(a.image, b.image);
    case "state":
      return Number(isLive(b.phase)) - Number(isLive(a.phase));
    case "created":
      return a.created.getTime() - b.created.getTime();
  }
}

/** What can be asked of a container in this phase. */
export function actionsFor(phase: Phase): Action[] {
  switch (phase) {
    case "running":
    case "paused":
      return ["stop", "restart", "remove"];
    case "restarting":
      return ["stop", "remove"];
    case "created":
    case "exited":
      return ["start", "remove"];
    case "dead":
      return ["remove"];
    default:
      return [];
  }
}
