// What is known of something that lives elsewhere. The three never coexist.

export type Remote<T> =
  | { kind: "loading" }
  | { kind: "ready"; value: T }
  | { kind: "failed"; failure: Failure };

/** A refused call: the engine's sentence, and what is behind it for whoever unfolds it. */
export interface Failure {
  message: string;
  details: string | null;
}

export const LOADING: Remote<never> = { kind: "loading" };

export function ready<T>(value: T): Remote<T> {
  return { kind: "ready", value };
}

/** Whatever was thrown, as a failure that can be shown. */
export function toFailure(thrown: unknown): Failure {
  if (typeof thrown === "object" && thrown !== null && "message" in thrown) {
    const { message, details } = thrown as { message: unknown; details?: unknown };
    return { message: String(message), details: typeof details === "string" ? details : null };
  }
  return { message: String(thrown), details: null };
}
