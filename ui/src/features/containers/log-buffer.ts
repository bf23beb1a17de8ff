// The lines of a log, as they come in pieces: no view, no clock.

import type { LogChunk } from "../../backend/bindings/LogChunk";
import type { LogStream } from "../../backend/bindings/LogStream";
import { stripAnsi } from "../../format/ansi";

export interface LogLine {
  text: string;
  stream: LogStream;
  /** When it was written, as the engine stamped it; empty when it didn't. */
  at: string;
}

/** Beyond this the oldest go: a window is no archive. */
export const MAX_LINES = 1_000_000;
const DROP = 100_000;

// RFC 3339 with nanoseconds, then a blank: what `timestamps=1` puts before each line.
const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?/;

export class LogBuffer {
  readonly lines: LogLine[] = [];
  #open: Record<LogStream, string> = { stdout: "", stderr: "" };

  /** Takes pieces in; a line without an end waits for it. */
  push(chunks: readonly LogChunk[]) {
    for (const chunk of chunks) {
      const parts = (this.#open[chunk.stream] + chunk.text).split("\n");
      this.#open[chunk.stream] = parts.pop() ?? "";
      for (const part of parts) this.#add(part, chunk.stream);
    }
    if (this.lines.length > MAX_LINES) this.lines.splice(0, DROP);
  }

  /** The log has ended: what has no line end is a line all the same. */
  finish() {
    for (const stream of ["stdout", "stderr"] as const) {
      if (this.#open[stream] !== "") this.#add(this.#open[stream], stream);
      this.#open[stream] = "";
    }
  }

  clear() {
    this.lines.length = 0;
  }

  #add(raw: string, stream: LogStream) {
    const stamp = STAMP.exec(raw);
    const rest = stamp ? raw.slice(stamp[0].length) : raw;
    // A terminal's carriage return rewrites the line: what was last written is what is read.
    const body = rest.endsWith("\r") ? rest.slice(0, -1) : rest;
    const text = body.slice(body.lastIndexOf("\r") + 1);
    this.lines.push({ text, stream, at: stamp?.[1] ?? "" });
  }
}

/** Indices of the lines that hold the text, looked at from `from` on; case doesn't matter. */
export function findMatches(lines: readonly LogLine[], query: string, from: number, to: number): number[] {
  const wanted = query.toLowerCase();
  const found: number[] = [];
  for (let i = from; i < to; i += 1) {
    if (stripAnsi(lines[i]!.text).toLowerCase().includes(wanted)) found.push(i);
  }
  return found;
}

/** "17:40:06.123" of a stamp, in the local zone. */
export function clockOf(at: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
