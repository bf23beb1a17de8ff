// What a program says, as a sentence: its first letter large. Names, paths and code keep theirs.

export function sentence(text: string): string {
  return /^[a-z]+[\s,:']/.test(text) ? text[0]!.toUpperCase() + text.slice(1) : text;
}
