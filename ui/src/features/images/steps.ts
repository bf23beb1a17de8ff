// Build steps as their author wrote them, without what the builder put around.

/** `/bin/sh -c #(nop)  CMD ["sh"]` → `CMD ["sh"]`; `/bin/sh -c apk add x # buildkit` → `RUN apk add x`. */
export function buildStep(createdBy: string): string {
  const text = createdBy.replace(/\s+# buildkit$/, "").trim();
  const instruction = /^\/bin\/sh -c #\(nop\)\s+(.*)$/s.exec(text);
  if (instruction) return instruction[1]!.trim();
  const shell = /^(?:RUN )?\/bin\/sh -c (.*)$/s.exec(text);
  return shell ? `RUN ${shell[1]!.trim()}` : text;
}
