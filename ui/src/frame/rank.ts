// What a few typed letters mean: entries that have them all, in order, the closest first.

export function rank<T>(entries: readonly T[], query: string, text: (entry: T) => string): T[] {
  const wanted = query.trim().toLowerCase();
  if (wanted === "") return [...entries];
  return entries
    .map((entry, index) => ({ entry, index, score: score(text(entry).toLowerCase(), wanted) }))
    .filter((found) => found.score < Infinity)
    .sort((a, b) => a.score - b.score || a.index - b.index)
    .map((found) => found.entry);
}

/** Lower is closer: begins with it, a word begins with it, contains it, has its letters in order. */
function score(text: string, wanted: string): number {
  if (text.startsWith(wanted)) return 0;
  const at = text.indexOf(wanted);
  if (at > 0) return /[\s\-_/:.]/.test(text[at - 1]!) ? 1 : 2;
  let from = 0;
  let first = -1;
  for (const letter of wanted) {
    const found = text.indexOf(letter, from);
    if (found < 0) return Infinity;
    if (first < 0) first = found;
    from = found + 1;
  }
  return 3 + (from - first);
}
