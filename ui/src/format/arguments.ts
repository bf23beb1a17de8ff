// A command typed in one field, split into arguments as a POSIX shell splits words: quotes and
// backslashes, no expansion of anything.

export type Arguments = { kind: "ok"; words: string[] } | { kind: "open-quote"; quote: string };

/** `sh -c "echo 'a b'"` → `sh`, `-c`, `echo 'a b'`. */
export function splitArguments(text: string): Arguments {
  const words: string[] = [];
  let word: string | null = null;
  let quote: string | null = null;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i]!;
    if (quote === "'") {
      if (char === "'") quote = null;
      else word += char;
    } else if (char === "\\" && i + 1 < text.length) {
      i += 1;
      word = (word ?? "") + text[i];
    } else if (quote === '"') {
      if (char === '"') quote = null;
      else word += char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (/\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + char;
    }
  }
  if (quote !== null) return { kind: "open-quote", quote };
  if (word !== null) words.push(word);
  return { kind: "ok", words };
}
