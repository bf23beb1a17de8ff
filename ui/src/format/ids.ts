// Ids, names and references in the short forms that Docker's own tools print.

/** The twelve characters by which people call a container or an image. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}

/** The name without the API's leading slash. */
export function containerName(names: readonly string[], id: string): string {
  return names[0]?.replace(/^\//, "") ?? shortId(id);
}

export interface Reference {
  repository: string;
  tag: string;
}

/** A reference in two parts: the registry's host, which may give way when room is short, and the rest. */
export function splitHost(reference: string): { host: string; rest: string } {
  if (/^sha256:[0-9a-f]{64}$/.test(reference)) return { host: "", rest: shortId(reference) };
  const slash = reference.indexOf("/");
  const first = reference.slice(0, slash);
  const isHost = slash > 0 && (/[.:]/.test(first) || first === "localhost");
  return isHost ? { host: `${first}/`, rest: reference.slice(slash + 1) } : { host: "", rest: reference };
}

/** Splits `registry:5000/team/web:1.2` at the tag's colon and not at the port's. */
export function splitReference(reference: string): Reference {
  const name = reference.replace(/@sha256:[0-9a-f]+$/, "");
  const colon = name.lastIndexOf(":");
  if (colon > name.lastIndexOf("/")) {
    return { repository: name.slice(0, colon), tag: name.slice(colon + 1) };
  }
  return { repository: name, tag: "" };
}
