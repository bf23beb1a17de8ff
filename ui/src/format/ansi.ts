// Terminal colours in log lines: text in, runs of styled text out. Control sequences that move a
// cursor mean nothing in a log and are dropped; colours carry over from line to line.

export interface Style {
  color: string | null;
  background: string | null;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
}

export interface Run {
  text: string;
  style: Style;
}

export const PLAIN: Style = Object.freeze({
  color: null,
  background: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
});

// CSI … final byte, OSC … BEL or ST, and two-character escapes.
const SEQUENCE = /\x1b(?:\[([0-9;:]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

/** Splits one line into runs, starting from `start`; returns the style that the next line begins in. */
export function parseAnsi(line: string, start: Style = PLAIN): { runs: Run[]; end: Style } {
  const runs: Run[] = [];
  let style = start;
  let from = 0;
  const push = (text: string) => {
    const clean = text.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
    if (clean !== "") runs.push({ text: clean, style });
  };
  for (const match of line.matchAll(SEQUENCE)) {
    push(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") style = apply(style, match[1] ?? "");
  }
  push(line.slice(from));
  return { runs, end: style };
}

/** The line without its control sequences, as search sees it. */
export function stripAnsi(line: string): string {
  return line.includes("\x1b") ? parseAnsi(line).runs.map((run) => run.text).join("") : line;
}

function apply(style: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  let next: Style = { ...style };
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i]!;
    if (code === 0) next = { ...PLAIN };
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code >= 30 && code <= 37) next.color = `var(--ansi-${code - 30})`;
    else if (code >= 90 && code <= 97) next.color = `var(--ansi-${code - 82})`;
    else if (code >= 40 && code <= 47) next.background = `var(--ansi-${code - 40})`;
    else if (code >= 100 && code <= 107) next.background = `var(--ansi-${code - 92})`;
    else if (code === 39) next.color = null;
    else if (code === 49) next.background = null;
    else if (code === 38 || code === 48) {
      const [color, used] = extended(codes.slice(i + 1));
      if (code === 38) next.color = color;
      else next.background = color;
      i += used;
    }
  }
  return next;
}

/** `5;n` of the 256 colours or `2;r;g;b`, and how many parameters that took. */
function extended(codes: number[]): [string | null, number] {
  if (codes[0] === 2 && codes.length >= 4) return [`rgb(${codes[1]} ${codes[2]} ${codes[3]})`, 4];
  if (codes[0] !== 5 || codes[1] === undefined) return [null, codes.length];
  const n = codes[1];
  if (n < 16) return [`var(--ansi-${n})`, 2];
  if (n >= 232) {
    const grey = 8 + (n - 232) * 10;
    return [`rgb(${grey} ${grey} ${grey})`, 2];
  }
  const level = (v: number) => (v === 0 ? 0 : 55 + v * 40);
  const cube = n - 16;
  return [`rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`, 2];
}

/** The inline style of a run, or nothing for plain text. */
export function css(style: Style): string | undefined {
  if (style === PLAIN) return undefined;
  const rules: string[] = [];
  if (style.color) rules.push(`color:${style.color}`);
  if (style.background) rules.push(`background:${style.background}`);
  if (style.bold) rules.push("font-weight:600");
  if (style.dim) rules.push("opacity:.7");
  if (style.italic) rules.push("font-style:italic");
  if (style.underline) rules.push("text-decoration:underline");
  return rules.length === 0 ? undefined : rules.join(";");
}
