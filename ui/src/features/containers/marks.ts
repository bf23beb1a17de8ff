// Where a search meets coloured runs: the runs cut at the edges of every match.

import type { Run } from "../../format/ansi";

export interface MarkedRun extends Run {
  marked: boolean;
}

/** A match may begin in one run and end in another. */
export function marks(runs: readonly Run[], query: string): MarkedRun[] {
  if (query === "") return runs.map((run) => ({ ...run, marked: false }));
  const text = runs.map((run) => run.text).join("").toLowerCase();
  const wanted = query.toLowerCase();
  const spans: [number, number][] = [];
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    spans.push([at, at + wanted.length]);
  }
  const cut: MarkedRun[] = [];
  let offset = 0;
  for (const run of runs) {
    const end = offset + run.text.length;
    const edges = [offset, end];
    for (const [from, to] of spans) edges.push(...[from, to].filter((edge) => edge > offset && edge < end));
    edges.sort((a, b) => a - b);
    for (let i = 0; i + 1 < edges.length; i += 1) {
      const [from, to] = [edges[i]!, edges[i + 1]!];
      if (from === to) continue;
      const marked = spans.some(([begin, stop]) => from >= begin && to <= stop);
      cut.push({ text: run.text.slice(from - offset, to - offset), style: run.style, marked });
    }
    offset = end;
  }
  return cut;
}
